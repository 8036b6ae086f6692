"""Where each vision patch stands: place in the frame, attention window and temporal slice, as index arrays of bucketed sizes."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from sv_jax.errors import UserError
from sv_jax.models.qwen2_5_vl.config import VisionConfig

Grid = tuple[int, int, int]


def geometric(first: int, last: int) -> tuple[int, ...]:
    """first times 1, 2, 3, 4, 6, 8, 12, 16, … up to last: at most a third of a bucket is padding, beyond the smallest two."""
    sizes = {first << k for k in range(32)} | {3 * first << k for k in range(32)}
    return tuple(sorted(size for size in sizes if size <= last))


def bucket(n: int, sizes: Sequence[int], what: str = "length") -> int:
    """The smallest of the sorted sizes that holds n; UserError when none does."""
    for size in sizes:
        if size >= n:
            return size
    raise UserError(f"{what} {n} is larger than the largest bucket, {sizes[-1]}")


@dataclass(frozen=True)
class VisionBuckets:
    """Allowed sizes of a batch's vision arrays, sorted; patches and slice_patches in multiples of 4. One size each fixes the shapes."""

    patches: tuple[int, ...] = geometric(64, 1 << 20)
    windows: tuple[int, ...] = geometric(1, 1 << 16)
    slices: tuple[int, ...] = geometric(1, 1 << 12)
    slice_patches: tuple[int, ...] = geometric(16, 1 << 16)


class Layout(NamedTuple):
    """The index arrays of `sv_jax.models.batch.Vision` under the same names; P, W, Z and M are bucket sizes, P marks padding."""

    hw: np.ndarray
    grid: np.ndarray
    windows: np.ndarray
    window_slot: np.ndarray
    slices: np.ndarray
    slice_slot: np.ndarray


def vision_layout(grids: Sequence[Grid], cfg: VisionConfig, buckets: VisionBuckets | None = None) -> Layout:
    """Index arrays of images and videos with these (t, h, w) patch grids, one after the other in the flat list of patches.

    Windows are `window_size / patch_size` patches a side, cut at the frame's borders, numbered as transformers orders them; the patches
    of a window, and of a slice, stand in the order of the flat list.
    """
    return _layout(tuple(map(tuple, grids)), cfg, buckets or VisionBuckets())


@functools.lru_cache(maxsize=256)
def _layout(grids: tuple[Grid, ...], cfg: VisionConfig, buckets: VisionBuckets) -> Layout:
    places = [_place(grid, cfg) for grid in grids]
    sizes = [len(hw) for hw, _, _ in places]
    total = sum(sizes)
    window_of = np.concatenate([w + offset for (_, w, _), offset in zip(places, _offsets(w.max() + 1 for _, w, _ in places), strict=True)])
    slice_of = np.concatenate([s + offset for (_, _, s), offset in zip(places, _offsets(s.max() + 1 for _, _, s in places), strict=True)])
    padded = bucket(total, buckets.patches, "vision patches in the batch")
    hw, grid = np.zeros((padded, 2), np.int32), np.ones((padded, 2), np.int32)
    hw[:total] = np.concatenate([hw for hw, _, _ in places])
    grid[:total] = np.repeat([g[1:] for g in grids], sizes, axis=0)
    window_count, slice_count = int(window_of[-1]) + 1, int(slice_of[-1]) + 1
    window_shape = bucket(window_count, buckets.windows, "attention windows in the batch"), (cfg.window_size // cfg.patch_size) ** 2
    slice_shape = (
        bucket(slice_count, buckets.slices, "temporal slices in the batch"),
        bucket(max(h * w for _, h, w in grids), buckets.slice_patches, "patches in a frame"),
    )
    layout = Layout(hw, grid, *_groups(window_of, window_shape, padded), *_groups(slice_of, slice_shape, padded))
    for array in layout:
        array.flags.writeable = False  # shared by every batch with these grids
    return layout


def _offsets(counts) -> list[int]:
    return np.cumsum([0, *counts])[:-1].tolist()


def _groups(group_of: np.ndarray, shape: tuple[int, int], padding: int) -> tuple[np.ndarray, np.ndarray]:
    """Members i32 [shape] of each group in increasing order, and each patch's slot i32 [padding] in the flattened table."""
    order = np.argsort(group_of, kind="stable")
    counts = np.bincount(group_of)
    rank = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
    members, slot = np.full(shape, padding, np.int32), np.zeros(padding, np.int32)
    members[group_of[order], rank] = order
    slot[order] = group_of[order] * shape[1] + rank
    return members, slot


@functools.lru_cache(maxsize=1024)
def _place(grid: Grid, cfg: VisionConfig) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(row and column [p, 2], window [p], slice [p]) of the patches of one image or video in flat order."""
    t, h, w = grid
    merge = cfg.spatial_merge_size
    if h % merge or w % merge or min(grid) < 1:
        raise UserError(f"vision grid {grid}: height and width must be positive multiples of {merge}")
    time, rows, cols = np.broadcast_arrays(np.arange(t)[:, None, None], np.arange(h)[:, None], np.arange(w))
    blocks = np.stack([time, rows, cols]).reshape(3, t, h // merge, merge, w // merge, merge)
    time, rows, cols = blocks.transpose(0, 1, 2, 4, 3, 5).reshape(3, -1)
    side = cfg.window_size // cfg.patch_size
    down, across = -(-h // side), -(-w // side)
    return np.stack([rows, cols], axis=1), (time * down + rows // side) * across + cols // side, time
