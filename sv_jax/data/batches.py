"""Samples of a dataset to packed batches of fixed shape, in a thread ahead of the training step.

The stream's whole state is `next_index`, the place in the shuffled order where the next batch starts: a batch takes samples in order
until one does not fit, and the next batch starts with that one.
"""

from __future__ import annotations

import dataclasses
import queue
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from sv_jax.data.read import Samples, open_split
from sv_jax.errors import UserError
from sv_jax.inputs.chat import Processor, encode
from sv_jax.inputs.layout import Grid, VisionBuckets
from sv_jax.inputs.packing import Sample, pack
from sv_jax.models.batch import Batch
from sv_jax.models.qwen2_5_vl.config import VisionConfig


@dataclass(frozen=True)
class DataConfig:
    """A dataset folder, and which of its samples."""

    path: str
    also: tuple[str, ...] = ()  # more dataset folders, read as one with it
    split: str = "train"
    tasks: tuple[str, ...] | None = None
    scales: tuple[str, ...] | None = None
    frames: int | None = None  # only the first so many frames of a clip
    cache_mb: int = 1024  # decoded clips kept in memory


@dataclass(frozen=True)
class ShapeConfig:
    """The fixed shape of a batch: `rows` rows of `length` tokens, at most `patches` vision patches, a slice at most `slice_patches`."""

    rows: int = 8
    length: int = 1024
    patches: int = 8192
    slice_patches: int = 1024

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


def open_samples(data: DataConfig) -> Samples:
    return open_split(data.path, data.split, scales=data.scales, tasks=data.tasks, frames=data.frames, cache_bytes=data.cache_mb << 20)


def shuffled(data: DataConfig, seed: int):
    """The samples in an endless order that is shuffled anew each epoch: a grain.MapDataset, indexed by any number."""
    import grain

    folders = [open_samples(dataclasses.replace(data, path=path)) for path in (data.path, *data.also)]
    if not sum(map(len, folders)):
        raise UserError(f"data {data.path!r}, split {data.split!r}: no sample with scales {data.scales} and tasks {data.tasks}")
    return grain.MapDataset.concatenate([grain.MapDataset.source(samples) for samples in folders]).seed(seed).shuffle().repeat()


class BatchStream:
    """Endless packed batches: `next(stream)` -> (Batch, state after it). `state` resumes the stream exactly."""

    def __init__(self, data: DataConfig, shape: ShapeConfig, processor: Processor, seed: int, state: int = 0, prefetch: int = 4):
        self._order = shuffled(data, seed)
        self._shape, self._processor, self._next = shape, processor, state
        self._queue: queue.Queue = queue.Queue(prefetch)
        self._stop = threading.Event()
        threading.Thread(target=self._fill, daemon=True).start()

    def __iter__(self) -> Iterator[tuple[Batch, int]]:
        return self

    def __next__(self) -> tuple[Batch, int]:
        item = self._queue.get()
        if isinstance(item, Exception):
            raise item
        return item

    def close(self) -> None:
        self._stop.set()

    def _fill(self) -> None:
        try:
            while not self._stop.is_set():
                item = self._make()
                while not self._stop.is_set():
                    try:
                        self._queue.put(item, timeout=0.5)
                        break
                    except queue.Full:
                        continue
        except Exception as error:  # handed to the training loop, which raises it
            self._queue.put(error)

    def _make(self) -> tuple[Batch, int]:
        shape, cfg = self._shape, self._processor.cfg.vision
        chosen: list[Sample] = []
        buckets = shape.buckets(cfg)
        room = np.full(shape.rows, shape.length)
        left = np.array([buckets.patches[0], buckets.slices[0], buckets.windows[0]])
        while True:
            sample = encode_sample(self._processor, self._order[self._next])
            n, size = len(sample.tokens), vision_size(sample.grids, cfg)
            row = np.argmax(room >= n)  # first fit, as `pack` places them
            if room[row] < n or (size > left).any():
                break
            room[row] -= n
            left -= size
            chosen.append(sample)
            self._next += 1
        if not chosen:
            names = ("tokens", "patches", "slices (shape.patches / shape.slice_patches of them)", "windows")
            parts = [f"{a} of {b} {name}" for a, b, name in zip((n, *size), (shape.length, *left), names, strict=True) if a > b]
            raise UserError(f"data: a sample does not fit a batch of this shape: it has {', '.join(parts)}")
        return pack(chosen, shape.rows, shape.length, cfg, buckets), self._next


class PromptStream:
    """Endless groups of `rows` prompts for sampling: `next(stream)` -> (dataset samples, their arrays, state after them)."""

    def __init__(self, data: DataConfig, rows: int, processor: Processor, seed: int, state: int = 0):
        self._order, self._rows, self._processor, self._next = shuffled(data, seed), rows, processor, state

    def __next__(self) -> tuple[list[dict], list[Sample], int]:
        samples = [self._order[self._next + i] for i in range(self._rows)]
        self._next += self._rows
        return samples, [encode_sample(self._processor, s, target=False) for s in samples], self._next
