"""Reading a dataset folder: random access to samples, and the endless shuffled stream that training takes.

A sample is `{"qa": QA, "frames": u8 [F, H, W, 3], "fps": float}`: what the inputs need to make messages.
"""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Collection
from pathlib import Path

import numpy as np

from sv_jax.data import codec, sets
from sv_jax.data.names import PUBLISHED_TASKS
from sv_jax.errors import UserError, unknown
from sv_jax.scenes.scene import SCALES
from sv_jax.tasks import QA, TASKS
from sv_jax.tasks.describe import DESCRIPTIONS

EPOCHS = 1 << 20  # endless; `repeat()` gives a length that slicing and batches of one overflow


def open_split(path: str | Path, split: str, *, scales=None, tasks=None, frames: int | None = None, cache_bytes: int = 1 << 29) -> Samples:
    """The samples of one split, optionally only some scales and tasks, and only the first `frames` frames of each clip; questions about
    later ones are left out. UserError for a folder or split that is not there."""
    return Samples(path, split, scales=scales, tasks=tasks, frames=frames, cache_bytes=cache_bytes)


def train_iterator(
    path: str | Path,
    split: str,
    *,
    seed: int,
    batch: int,
    scales: Collection[str] | None = None,
    tasks: Collection[str] | None = None,
    process_index: int = 0,
    process_count: int = 1,
    cache_bytes: int = 1 << 29,
):
    """An endless Grain iterator of lists of `batch` samples.

    The order is a global shuffle by `seed`, another one each epoch; process p of n takes every n-th sample, so that the processes
    together see what a single one would. `get_state()` is a small dict; `set_state` on a new iterator continues exactly.
    """
    import grain

    samples = open_split(path, split, scales=scales, tasks=tasks, cache_bytes=cache_bytes)
    if not len(samples):
        raise UserError(f"data {str(path)!r}, split {split!r}: no sample with scales {scales} and tasks {tasks}")
    order = grain.MapDataset.source(samples).seed(seed).shuffle().repeat(EPOCHS)
    batches = order[process_index::process_count].batch(batch, batch_fn=list)
    return iter(batches.to_iter_dataset(grain.ReadOptions(num_threads=2, prefetch_buffer_size=4)))


class Samples:
    """Random access to the samples of one split; decoded clips stay in memory up to `cache_bytes`, least recently used first out."""

    def __init__(self, path, split, *, scales=None, tasks=None, frames=None, cache_bytes=1 << 29):
        self._frames = frames
        self._clips, self._questions = (sets.source(path, name, split) for name in ("scenes", "qa"))
        self._rows = _rows(self._questions, scales, tasks, frames)
        self._cache: OrderedDict[int, tuple[np.ndarray, float]] = OrderedDict()  # frames and fps of a row of scenes
        self._cache_bytes, self._used = cache_bytes, 0
        self._lock = threading.Lock()  # Grain reads from several threads

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> dict:
        record = self._questions[int(self._rows[index])]
        frames, fps = self._clip(int(record["scene_row"]))
        return {"qa": QA.from_dict(json.loads(record["json"])), "frames": frames, "fps": fps}

    def qa(self, index: int) -> QA:
        """The question alone, without its clip."""
        return QA.from_dict(json.loads(self._questions[int(self._rows[index])]["json"]))

    def _clip(self, row: int) -> tuple[np.ndarray, float]:
        with self._lock:
            if row in self._cache:
                self._cache.move_to_end(row)
                return self._cache[row]
        record = self._clips[row]
        frames = codec.decode_clip(record["mp4"])[: self._frames]
        frames.flags.writeable = False  # shared by every sample of this clip
        with self._lock:
            if row not in self._cache:
                self._cache[row] = frames, float(record["fps"])
                self._used += frames.nbytes
            while self._used > self._cache_bytes and len(self._cache) > 1:
                self._used -= self._cache.popitem(last=False)[1][0].nbytes
        return frames, float(record["fps"])


def _rows(questions, scales: Collection[str] | None, tasks: Collection[str] | None, frames: int | None) -> np.ndarray:
    """i64 [n]: rows of the qa set with one of the scales and one of the tasks that the first `frames` frames answer (None is all)."""
    if scales is None and tasks is None and frames is None:
        return np.arange(len(questions))
    for what, chosen, known in (("scale", scales, SCALES), ("task", tasks, {*TASKS, *DESCRIPTIONS, *PUBLISHED_TASKS})):
        for name in chosen or ():
            if name not in known:
                raise unknown(what, name, known)
    kept = []
    for start in range(0, len(questions), 1024):
        rows = range(start, min(start + 1024, len(questions)))
        for row, record in zip(rows, questions.__getitems__(list(rows)), strict=True):
            fits_scale = scales is None or record["scale"].decode() in scales
            if fits_scale and (tasks is None or record["task"].decode() in tasks) and (frames is None or _within(record, frames)):
                kept.append(row)
    return np.array(kept, np.int64)


def _within(record, frames: int) -> bool:
    """Whether a question and its marks name no frame after the first `frames`."""
    qa = json.loads(record["json"])
    return max([*(qa["frames"] or ()), *(mark.get("frame", 0) for mark in qa["marks"])], default=0) < frames
