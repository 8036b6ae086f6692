"""Samples of a dataset to packed batches of fixed shape, in threads ahead of the training step.

The stream's whole state is the place in the shuffled order where the next batch starts: a batch takes samples in order until one does not
fit, and the next batch starts with that one. How much room a sample takes is known from its text and the size of its clip; pixels come
later, in parallel. So each of several processes can lay out the whole batch and decode its own rows alone.
"""

from __future__ import annotations

import contextlib
import dataclasses
import queue
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from sv_jax.data.order import DataConfig, open_samples, shares, shuffled
from sv_jax.data.read import Samples
from sv_jax.data.workers import cores
from sv_jax.errors import UserError
from sv_jax.inputs.chat import Processor, encode
from sv_jax.inputs.layout import Grid, VisionBuckets
from sv_jax.inputs.packing import Sample, pack
from sv_jax.models.batch import Batch
from sv_jax.models.qwen2_5_vl.config import VisionConfig

AHEAD = 2  # batches that wait for the training step
TEXTS_AHEAD = 64  # samples that are laid out before a batch takes them


@dataclass(frozen=True)
class ShapeConfig:
    """The fixed shape of a batch: `rows` rows of `length` tokens, at most `patches` vision patches, a slice at most `slice_patches`."""

    rows: int = 8
    length: int = 1024
    patches: int = 8192
    slice_patches: int = 1024

    def split(self, processes: int) -> ShapeConfig:
        """The part of a batch that one of several processes makes."""
        for name in ("rows", "patches"):
            if getattr(self, name) % processes:
                raise UserError(f"shape.{name} {getattr(self, name)}: expected a multiple of the {processes} processes")
        return dataclasses.replace(self, rows=self.rows // processes, patches=self.patches // processes)

    def buckets(self, cfg: VisionConfig) -> VisionBuckets:
        """One size each, so that every batch has the same shape."""
        window = (cfg.window_size // cfg.patch_size) ** 2
        windows = self.patches // min(window, self.slice_patches) * 2
        return VisionBuckets((self.patches,), (windows,), (max(self.patches // self.slice_patches, 1),), (self.slice_patches,))


def vision_size(grids: Sequence[Grid], cfg: VisionConfig) -> np.ndarray:
    """How many patches, temporal slices and attention windows pictures with these (t, h, w) patch grids have: i64 [3]."""
    side = cfg.window_size // cfg.patch_size
    return sum((t * np.array([h * w, 1, -(-h // side) * -(-w // side)]) for t, h, w in grids), np.zeros(3, int))


def messages_of(sample: dict) -> list[dict]:
    """The user turn of a dataset sample: its clip with the marks drawn, then the question."""
    qa = sample["qa"]
    video = {"type": "video", "video": sample["frames"], "fps": sample["fps"], "marks": qa.marks}
    return [{"role": "user", "content": [video, {"type": "text", "text": qa.user_text()}]}]


def encode_sample(processor: Processor, sample: dict, *, target: bool = True) -> Sample:
    """Arrays of a dataset sample, with its target to learn or, for a prompt, without."""
    qa = sample["qa"]
    return encode(processor, messages_of(sample), target=qa.target_text() if target else None, scale=qa.scale)


class Encoder:
    """Samples by number to arrays, in two steps: text and layout, then pixels."""

    def __init__(self, samples: Samples, processor: Processor):
        self.samples, self.processor = samples, processor

    def layout(self, number: int) -> Sample:
        """All of a sample but its patches, without decoding its clip."""
        qa, shape, fps = self.samples.outline(number)
        with self._named("qa", number):
            return encode_sample(self.processor, {"qa": qa, "frames": self.processor.outline(shape, fps), "fps": fps})

    def pixels(self, number: int, laid_out: Sample) -> Sample:
        """The same sample with its patches."""
        part = messages_of(self.samples[number])[0]["content"][0]
        with self._named("scenes", number):
            media = self.processor.prepare(part)
            if (media.grid,) != laid_out.grids:
                raise UserError(f"clip: expected patches {laid_out.grids[0]} by its tables, found {media.grid} in its frames")
        dino = None if media.dino_patches is None else (media.dino_patches,)
        return dataclasses.replace(laid_out, patches=(media.patches,), dino_patches=dino)

    @contextlib.contextmanager
    def _named(self, name: str, number: int) -> Iterator[None]:
        try:
            yield
        except UserError as error:
            raise UserError(f"{self.samples.place(name, number)}: {error}") from None


class BatchStream:
    """Endless packed batches: `next(stream)` -> (Batch, state after it). `state` resumes the stream exactly.

    Of several processes each packs its own rows of the batch. All have the same number of steps and the same states, and one state may be
    resumed by another number of processes: every sample still comes once. The rows of all processes together are the rows that one alone
    packs as long as no process's part of the patches is full: from there on samples go to other rows, or the batch ends sooner."""

    def __init__(
        self,
        data: DataConfig,
        shape: ShapeConfig,
        processor: Processor,
        seed: int,
        state: int = 0,
        *,
        process: int = 0,
        processes: int = 1,
    ):
        self._shape, self._processes, self._process = shape.split(processes), processes, process
        self._samples, self._mix, self._cfg = open_samples(data), data.mix, processor.cfg.vision
        self._order, self._encoder = shuffled(self._samples, data, seed), Encoder(self._samples, processor)
        self._workers = data.workers or cores()
        self._drawn: list[int] = []
        self._queue: queue.Queue = queue.Queue(AHEAD)
        self._stop = threading.Event()
        threading.Thread(target=self._fill, args=(state,), daemon=True).start()

    def __iter__(self) -> Iterator[tuple[Batch, int]]:
        return self

    def __next__(self) -> tuple[Batch, int]:
        item = self._queue.get()
        if isinstance(item, Exception):
            raise item
        batch, numbers, state = item
        if self._mix:
            self._drawn += numbers
        return batch, state

    def realised_mix(self) -> dict[str, float]:
        """Shares of the folders, scales and tasks of `data.mix` in what came since the last call; empty without a mix."""
        drawn, self._drawn = self._drawn, []
        return shares(self._samples, self._mix, drawn) if drawn else {}

    def close(self) -> None:
        self._stop.set()

    def _fill(self, state: int) -> None:
        try:
            for item in self._batches(state):
                while not self._stop.is_set():
                    try:
                        self._queue.put(item, timeout=0.5)
                        break
                    except queue.Full:
                        continue
                if self._stop.is_set():
                    return
        except Exception as error:  # handed to the training loop, which raises it
            self._queue.put(error)

    def _batches(self, state: int) -> Iterator[tuple[Batch, list[int], int]]:
        """(batch, numbers of the samples of all processes in it, state after it). Pixels are made for two batches at a time."""
        shape, pending = self._shape, deque()
        with ThreadPoolExecutor(self._workers) as pool:
            for own, numbers, after in self._plans(state):
                pending.append(([pool.submit(self._encoder.pixels, *sample) for sample in own], numbers, after))
                if len(pending) == 2:
                    samples, numbers, after = pending.popleft()
                    samples = [sample.result() for sample in samples]
                    yield pack(samples, shape.rows, shape.length, self._cfg, shape.buckets(self._cfg)), numbers, after

    def _plans(self, state: int) -> Iterator[tuple[list[tuple[int, Sample]], list[int], int]]:
        """Which samples a batch takes: (number and layout of this process's own, numbers of all, state after it)."""
        shape, buckets = self._shape, self._shape.buckets(self._cfg)
        most = np.array([buckets.patches[0], buckets.slices[0], buckets.windows[0]])
        texts = self._texts(state)
        number, sample = next(texts)
        while True:
            room, left = np.full(shape.rows * self._processes, shape.length), np.tile(most, (self._processes, 1))
            own, numbers = [], []
            while True:
                n, size = len(sample.tokens), vision_size(sample.grids, self._cfg)
                fits = (room >= n) & np.repeat((left >= size).all(1), shape.rows)
                row = int(np.argmax(fits))  # first fit, as `pack` places them
                if not fits[row]:
                    break
                room[row] -= n
                left[row // shape.rows] -= size
                if row // shape.rows == self._process:
                    own.append((number, sample))
                numbers.append(number)
                number, sample = next(texts)
            if not numbers:
                names = ("tokens", "patches", "slices (shape.patches / shape.slice_patches of them)", "windows")
                found = zip((n, *size), (shape.length, *most), names, strict=True)
                over = ", ".join(f"{a} of {b} {name}" for a, b, name in found if a > b)
                raise UserError(f"data: a sample does not fit a batch of this shape: it has {over}")
            state += len(numbers)
            yield own, numbers, state

    def _texts(self, state: int) -> Iterator[tuple[int, Sample]]:
        """Number and layout of the samples, from place `state` of the order on."""
        return _ahead(self._order.map(lambda number: (int(number), self._encoder.layout(int(number)))), state, self._workers, TEXTS_AHEAD)


class PromptStream:
    """Endless groups of `rows` prompts for sampling: `next(stream)` -> (dataset samples, their arrays, state after them)."""

    def __init__(self, data: DataConfig, rows: int, processor: Processor, seed: int, state: int = 0):
        samples = open_samples(data)

        def prompt(number) -> tuple[dict, Sample]:
            sample = samples[int(number)]
            return sample, encode_sample(processor, sample, target=False)

        self._rows, self._next = rows, state
        self._prompts = _ahead(shuffled(samples, data, seed).map(prompt), state, data.workers or cores(), rows)

    def __next__(self) -> tuple[list[dict], list[Sample], int]:
        samples, prompts = zip(*(next(self._prompts) for _ in range(self._rows)), strict=True)
        self._next += self._rows
        return list(samples), list(prompts), self._next


def _ahead(dataset, start: int, threads: int, count: int) -> Iterator:
    """The elements of an endless grain.MapDataset from `start` on, in order, up to `count` made ahead by threads."""
    import grain

    elements = iter(dataset.to_iter_dataset(grain.ReadOptions(num_threads=threads, prefetch_buffer_size=max(count, threads))))
    elements.set_state({"next_index": start})
    return elements
