"""Which samples training sees, and in which order: any number indexes the order, so that one integer is the whole state of a stream.

A mixture is one source for each part of the data, each shuffled by itself, in Grain's deterministic interleave.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields

import numpy as np

from sv_jax.data.index import TASK_NAMES
from sv_jax.data.read import Samples
from sv_jax.errors import UserError, unknown
from sv_jax.scenes.scene import SCALES

EPOCHS = 1 << 20  # endless


@dataclass(frozen=True)
class MixConfig:
    """Weights of the parts of a mixture. The share of a folder, scale and task is the product of their weights, over the sum; what is
    weighted but not named is left out, as is a part (a task at a scale) without samples."""

    folders: dict[str, float] | None = None
    scales: dict[str, float] | None = None
    tasks: dict[str, float] | None = None

    def __post_init__(self):
        for what, known in (("folders", None), ("scales", SCALES), ("tasks", TASK_NAMES)):
            weights = getattr(self, what)
            if weights is not None and not weights:
                raise UserError(f"data.mix.{what}: empty; expected a weight for each of the {what} to draw from")
            for name, weight in (weights or {}).items():
                if known and name not in known:
                    raise unknown(f"data.mix.{what}:", name, known)
                if not 0 < weight < math.inf:
                    raise UserError(f"data.mix.{what}.{name} {weight:g}: expected a positive number")
        if all(getattr(self, field.name) is None for field in fields(self)):
            raise UserError("data.mix: empty; expected weights of folders, scales or tasks")


@dataclass(frozen=True)
class DataConfig:
    """Dataset folders, and which of their samples."""

    path: str
    also: tuple[str, ...] = ()  # more dataset folders, read as one with it
    split: str = "train"
    tasks: tuple[str, ...] | None = None
    scales: tuple[str, ...] | None = None
    frames: int | None = None  # only the first so many frames of a clip
    mix: MixConfig | None = None  # in training: how often each part is drawn; None is as often as it has samples
    visit: int = 1  # in training: so many questions of a clip in a row, which saves decoding; 1 shuffles over all
    workers: int | None = None  # threads that decode and encode; None is one for each core
    cache_mb: int = 1024  # decoded clips kept in memory

    def __post_init__(self):
        for name in ("visit", "workers", "frames"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise UserError(f"data.{name} {getattr(self, name)}: expected at least 1")


def open_samples(data: DataConfig) -> Samples:
    """The samples of all folders of a config. UserError when there is none."""
    paths = (data.path, *data.also)
    samples = Samples(paths, data.split, scales=data.scales, tasks=data.tasks, frames=data.frames, cache_bytes=data.cache_mb << 20)
    if not len(samples):
        raise UserError(f"data {data.path!r}, split {data.split!r}: no sample with scales {data.scales} and tasks {data.tasks}")
    return samples


def shuffled(samples: Samples, data: DataConfig, seed: int):
    """Numbers of samples in an endless order that is another one each epoch: a grain.MapDataset, indexed by any number."""
    import grain

    if data.mix is None and data.visit == 1:
        return grain.MapDataset.source(np.arange(len(samples))).seed(seed).shuffle().repeat()
    weights, numbers = zip(*parts(samples, data.mix), strict=True) if data.mix else ([1.0], [np.arange(len(samples))])
    # sources of one length and one seed would be permuted alike: questions about the same scene would come together
    seeds = np.random.SeedSequence(seed).generate_state(len(numbers)).tolist()
    sources = [_Epochs(part, samples, data.visit, own) for part, own in zip(numbers, seeds, strict=True)]
    return grain.MapDataset.mix([grain.MapDataset.source(source) for source in sources], weights)


def parts(samples: Samples, mix: MixConfig) -> list[tuple[float, np.ndarray]]:
    """(weight, numbers of the samples) of each part of a mixture that has samples. UserError for a name that has none."""
    axes = []
    for what, known, codes in _axes(samples):
        weights = getattr(mix, what)
        if weights is None:
            axes.append([(1.0, True)])
            continue
        axis = []
        for name, weight in weights.items():
            if name not in known:
                raise unknown(f"data.mix.{what}:", name, known)
            chosen = codes() == known.index(name)
            if not chosen.any():
                raise UserError(f"data.mix.{what}.{name}: no sample of it in {', '.join(samples.paths)}, split {samples.split!r}")
            axis.append((weight, chosen))
        axes.append(axis)
    found = []
    for (a, folder), (b, scale), (c, task) in itertools.product(*axes):
        numbers = np.flatnonzero(np.ones(len(samples), bool) & folder & scale & task)
        if len(numbers):
            found.append((a * b * c, numbers))
    if not found:
        raise UserError(f"data.mix: no sample with these folders, scales and tasks together in {', '.join(samples.paths)}")
    return found


def shares(samples: Samples, mix: MixConfig, numbers: Iterable[int]) -> dict[str, float]:
    """The realised mix: "mix/NAME" of each folder, scale and task that has a weight -> its share of the samples with these numbers."""
    numbers, out = np.fromiter(numbers, np.int64), {}
    for what, known, codes in _axes(samples):
        names: Mapping[str, float] = getattr(mix, what) or {}
        out |= {f"mix/{name}": float((codes()[numbers] == known.index(name)).mean()) for name in names}
    return out


def _axes(samples: Samples):
    """(field of MixConfig, its names, each sample's place among them as a function: only scales and tasks need the index)."""
    yield "folders", samples.paths, lambda: samples.folder
    yield "scales", SCALES, lambda: samples.columns.scale
    yield "tasks", TASK_NAMES, lambda: samples.columns.task


class _Epochs:
    """Endless epochs of some samples, shuffled anew each epoch in visits of up to `visit` questions of a clip.

    An epoch is drawn as a whole: for a part of few samples, Grain's shuffle takes milliseconds to find one place."""

    def __init__(self, numbers: np.ndarray, samples: Samples, visit: int, seed: int):
        self._numbers, self._visit, self._seed = numbers, visit, seed
        self._clips = np.stack([samples.folder, samples.columns.clip])[:, numbers] if visit > 1 else None  # i32 [2, n]
        self._epoch = functools.lru_cache(2)(self._draw)  # threads may still read the end of the last one

    def __len__(self) -> int:
        return len(self._numbers) * EPOCHS

    def __getitem__(self, index: int) -> int:
        epoch, place = divmod(int(index), len(self._numbers))
        return int(self._epoch(epoch)[place])

    def _draw(self, epoch: int) -> np.ndarray:
        rng, n = np.random.default_rng([self._seed, epoch]), len(self._numbers)
        order = rng.permutation(n)
        if self._visit > 1:
            order = order[np.lexsort(self._clips[:, order])]  # stable: by clip, in random order within
            first = np.any(np.diff(self._clips[:, order], axis=1, prepend=-1), axis=0)  # of a clip
            within = np.arange(n) - np.flatnonzero(first)[np.cumsum(first) - 1]
            visits = np.cumsum(within % self._visit == 0) - 1
            order = order[np.argsort(rng.permutation(visits[-1] + 1)[visits], kind="stable")]
        return self._numbers[order]
