"""The `data` suite: how fast a dataset is read, from one question to packed batches. There is no peer to race.

It makes its own data in a temporary folder: small scenes, once as they are (4 frames of 112 pixels) and once as 32 frames of 448, made of
the same pictures enlarged and moved.
"""

from __future__ import annotations

import functools
import itertools
import json
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np

from sv_jax.data import BuildConfig, SplitConfig, build, codec, open_split, sets
from sv_jax.data.batches import BatchStream, Encoder, ShapeConfig
from sv_jax.data.order import DataConfig, MixConfig, open_samples, shuffled
from sv_jax.data.workers import cores
from sv_jax.inputs.chat import Processor

BASE = Path(__file__).parents[1] / "assets" / "base"
SECONDS = 2.0  # that a rate is measured for
SIZES = {112: (4, ShapeConfig(8, 512, 4096, 64)), 448: (32, ShapeConfig(2, 8192, 65536, 1024))}  # pixels -> frames, shape of a batch


class Rate(NamedTuple):
    name: str
    value: float
    unit: str
    note: str = ""

    def as_row(self) -> str:
        return f"{self.name:44} {self.value:>12,.4g} {self.unit:10} {self.note}".rstrip()


def data_suite(records: int) -> Iterator[Rate]:
    """Measure one after the other; `records` is the number of questions of the large index."""
    processor, most = Processor.from_folder(BASE), cores()
    with tempfile.TemporaryDirectory() as made:
        small, large, many = (str(Path(made, name)) for name in ("small", "large", "many"))
        tasks = ("object_size", "absolute_distance", "counting", "depth", "size_comparison")
        build(BuildConfig(small, (SplitConfig("train", 4, 0, "plain"),), tasks=tasks, frames=4, size=(112, 112)))
        enlarge(small, large)
        samples = open_split(small, "train")
        pick = itertools.cycle(np.random.default_rng(0).permutation(len(samples)).tolist())
        yield Rate("questions read and parsed, no video", per_second(lambda: samples.qa(next(pick))), "QA/s", "random access, one thread")
        encoder = Encoder(samples, processor)
        yield Rate("questions as tokens and positions, no video", per_second(lambda: encoder.layout(next(pick))), "QA/s", "one thread")
        for (side, (frames, shape)), path in zip(SIZES.items(), (small, large), strict=True):
            mp4 = sets.source(path, "scenes", "train")[0]["mp4"]
            for threads in sorted({1, most}):
                rate = per_second(functools.partial(codec.decode_clip, mp4), threads)
                note = f"{rate * frames:,.0f} frames/s, {_threads(threads)}"
                yield Rate(f"clips decoded, {frames} x {side} x {side}", rate, "clips/s", note)
            samples = open_samples(DataConfig(path))
            encoder = Encoder(samples, processor)
            encode = functools.partial(encoder.pixels, 0, encoder.layout(0))
            for threads in sorted({1, most, 2 * most}):
                rate = per_second(encode, threads)
                yield Rate(f"samples encoded, {side}, clips in memory", rate, "samples/s", _threads(threads))
            for workers in sorted({1, most}):
                yield from _batches(DataConfig(path, workers=workers, cache_mb=0), shape, processor, f"{side}, every clip decoded")
            yield from _batches(DataConfig(path), shape, processor, f"{side}, clips in memory")
        repeat_questions(small, many, records)
        yield from _index(many, records)


def per_second(call: Callable[[], object], threads: int = 1) -> float:
    """Calls per second by so many threads, after one to warm up."""
    call()
    end = time.perf_counter() + SECONDS

    def run(_) -> int:
        count = 0
        while time.perf_counter() < end:
            call()
            count += 1
        return count

    with ThreadPoolExecutor(threads) as pool:
        began = time.perf_counter()
        return sum(pool.map(run, range(threads))) / (time.perf_counter() - began)


def _batches(data: DataConfig, shape: ShapeConfig, processor: Processor, what: str) -> Iterator[Rate]:
    stream = BatchStream(data, shape, processor, 0)
    for _ in range(4):  # those made ahead while nobody waited
        _, first = next(stream)
    began, count = time.perf_counter(), 0
    while time.perf_counter() < began + SECONDS or count < 4:
        _, last = next(stream)
        count += 1
    seconds = time.perf_counter() - began
    stream.close()
    note = f"{(last - first) / seconds:,.1f} samples/s, {_threads(data.workers or cores())}"
    yield Rate(f"batches, {what}", count / seconds, "batches/s", note)


def _index(path: str, records: int) -> Iterator[Rate]:
    choices = {
        "the first time": {"tasks": ("depth",)},
        "all": {},
        "by task and scale": {"tasks": ("depth",), "scales": ("tiny", "drone")},
        "by frames": {"frames": 2},
        "mixed by scale": {"mix": MixConfig(scales={"tiny": 2.0, "drone": 1.0})},
        "in visits of 4": {"visit": 4},
    }
    for name, choice in choices.items():
        began = time.perf_counter()
        data = DataConfig(path, **choice)
        samples = open_samples(data)
        _ = shuffled(samples, data, 0)[0]
        seconds = time.perf_counter() - began
        yield Rate(f"{records:,} questions opened, {name}", seconds, "s", f"{len(samples):,} chosen")


def enlarge(source: str, out: str) -> None:
    """A dataset with the clips of `source` as 32 frames of 448 pixels, and its questions."""
    frames, _ = SIZES[448]
    clips, questions = open_split(source, "train"), sets.source(source, "qa", "train")
    with sets.Writers(Path(out), ["train"], geometry=False) as writers:
        seen: dict[int, int] = {}
        for i in range(len(clips)):
            row, sample = int(questions[i]["scene_row"]), clips[i]
            if row not in seen:
                picture = sample["frames"][0].repeat(4, 0).repeat(4, 1)
                film = np.stack([np.roll(picture, 4 * n, 1) for n in range(frames)])
                writers.clip("train", sample["qa"].scene_id, sample["qa"].scale, codec.encode_clip(film, sample["fps"]), sample["fps"])
                seen[row] = len(seen)
            writers.question("train", sample["qa"], seen[row])


def repeat_questions(source: str, out: str, records: int) -> None:
    """A dataset with the clips of `source` and its questions over and over, `records` in all."""
    from array_record.python.array_record_module import ArrayRecordWriter

    shutil.copytree(source, out)
    folder, raw = Path(out, "qa", sets.VERSION), sets.source(source, "qa", "train").data_source
    known = raw.__getitems__(list(range(len(raw))))
    for file in folder.glob("qa-train.*"):
        file.unlink()
    info = json.loads((folder / "dataset_info.json").read_text())
    size = sets.SHARD["qa"]
    starts = range(0, records, size)
    for shard, start in enumerate(starts):
        writer = ArrayRecordWriter(str(folder / f"qa-train.array_record-{shard:05}-of-{len(starts):05}"), "group_size:1")
        for i in range(start, min(start + size, records)):
            writer.write(known[i % len(known)])
        writer.close()
    next(s for s in info["splits"] if s["name"] == "train")["shardLengths"] = [str(min(size, records - start)) for start in starts]
    (folder / "dataset_info.json").write_text(json.dumps(info))


def _threads(n: int) -> str:
    return f"{n} thread" + "s" * (n > 1)
