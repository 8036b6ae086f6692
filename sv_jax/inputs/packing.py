"""Samples into the rows of a `Batch`: packed for training, one a row for sampling, prompts shared by their completions for GRPO."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from sv_jax.errors import UserError
from sv_jax.inputs.layout import Grid, VisionBuckets, vision_layout
from sv_jax.models.batch import Batch, Vision
from sv_jax.models.qwen2_5_vl.config import VisionConfig


@dataclass(frozen=True)
class Sample:
    """One conversation as arrays. T tokens, of which S are vision tokens; P = 4 S patches."""

    tokens: np.ndarray  # i32 [T]
    positions: np.ndarray  # i32 [3, T]
    is_vision: np.ndarray  # bool [T] placeholders of vision tokens, in the order of the patches
    weights: np.ndarray  # f32 [T] weight of the loss on predicting this token
    grids: tuple[Grid, ...]  # (t, h, w) in patches of each image and video
    patches: tuple[np.ndarray, ...]  # f32 [p, 1176] of each image and video
    dino_patches: tuple[np.ndarray, ...] | None  # f32 [2, p, 768] of each image and video
    scale: int  # index into SCALES, -1 when unknown

    @property
    def vision_tokens(self) -> int:
        return int(self.is_vision.sum())


class GroupBatch(NamedTuple):
    """Prompts with their G completions in the same row. The hidden state at `index[b, g, r]` of row b predicts `ids[b, g, r]`."""

    batch: Batch
    index: np.ndarray  # i32 [B, G, R] places in the row; the first of each completion is the prompt's last token
    ids: np.ndarray  # i32 [B, G, R] completion tokens, 0 where padded
    mask: np.ndarray  # f32 [B, G, R] 1 on completion tokens


def first_fit(lengths: Sequence[int], rows: int, length: int) -> tuple[list[list[int]], list[int]]:
    """Put each sample, in order, into the first of `rows` rows of `length` tokens with room: (sample numbers by row, those left over)."""
    room, placed, left = [length] * rows, [[] for _ in range(rows)], []
    for i, n in enumerate(lengths):
        row = next((r for r in range(rows) if room[r] >= n), None)
        if row is None:
            left.append(i)
        else:
            placed[row].append(i)
            room[row] -= n
    return placed, left


def pack(samples: Sequence[Sample], rows: int, length: int, cfg: VisionConfig, buckets: VisionBuckets | None = None) -> Batch:
    """First-fit the samples into a training batch of `rows` rows of `length` tokens, one segment each.

    Raises UserError when a sample is longer than a row, or they do not all fit (`first_fit` tells beforehand which do).
    """
    lengths = [len(s.tokens) for s in samples]
    if lengths and max(lengths) > length:
        raise UserError(f"sample of {max(lengths)} tokens does not fit a row of {length}")
    placed, left = first_fit(lengths, rows, length)
    if left:
        raise UserError(f"{len(left)} of {len(samples)} samples ({sum(lengths)} tokens) do not fit {rows} rows of {length} tokens")
    batch = _empty(rows, length)
    offsets = _vision_offsets(samples)
    for row, members in enumerate(placed):
        start = 0
        for segment, i in enumerate(members, 1):
            _write(batch, row, start, segment, samples[i], offsets[i])
            start += lengths[i]
    return batch._replace(vision=make_vision(samples, cfg, buckets))


def pack_prompts(
    prompts: Sequence[Sample], length: int, cfg: VisionConfig, buckets: VisionBuckets | None = None, rows: int | None = None
) -> tuple[Batch, np.ndarray]:
    """One prompt a row, padded on the right, without a loss: (batch, lengths i32 [B]). `rows` beyond the prompts are empty, of length 0."""
    batch = _empty(rows or len(prompts), length)
    lengths = np.zeros(len(batch.tokens), np.int32)
    for row, (prompt, offset) in enumerate(zip(prompts, _vision_offsets(prompts), strict=True)):
        if len(prompt.tokens) > length:
            raise UserError(f"prompt of {len(prompt.tokens)} tokens does not fit a row of {length}")
        _write(batch, row, 0, 1, prompt, offset)
        lengths[row] = len(prompt.tokens)
    batch.weights[:] = 0
    return batch._replace(vision=make_vision(prompts, cfg, buckets)), lengths


def pack_groups(
    prompts: Sequence[Sample],
    completions: Sequence[Sequence[Sequence[int] | np.ndarray]],
    length: int,
    max_completion: int,
    cfg: VisionConfig,
    buckets: VisionBuckets | None = None,
) -> GroupBatch:
    """Each prompt once, on branch 0, followed by its G completions on branches 1..G.

    completions: [B][G] token ids, each at most max_completion long. Every completion continues at the M-RoPE position after the prompt's
    last token, as if it alone followed the prompt. Raises UserError when a row does not hold its prompt and completions, or the groups
    differ in size.
    """
    groups = {len(group) for group in completions}
    if len(groups) != 1 or len(completions) != len(prompts):
        sizes = [len(group) for group in completions]
        raise UserError(f"completions: expected one group for each of {len(prompts)} prompts, all of one size; found sizes {sizes}")
    batch, lengths = pack_prompts(prompts, length, cfg, buckets)
    shape = (len(prompts), groups.pop(), max_completion)
    index, ids, mask = np.zeros(shape, np.int32), np.zeros(shape, np.int32), np.zeros(shape, np.float32)
    for row, group in enumerate(completions):
        last = start = int(lengths[row]) - 1
        start += 1
        longest, total = max(map(len, group)), start + sum(map(len, group))
        if longest > max_completion or total > length:
            raise UserError(f"row {row}: {total} tokens, completions up to {longest}; expected at most {length} and {max_completion}")
        for g, completion in enumerate(group):
            n = len(completion)
            here = slice(start, start + n)
            batch.tokens[row, here] = ids[row, g, :n] = completion
            batch.positions[:, row, here] = batch.positions[:, row, last].max() + 1 + np.arange(n)
            batch.segments[row, here] = 1
            batch.branches[row, here] = g + 1
            batch.scale[row, here] = prompts[row].scale
            index[row, g, :n] = [last, *range(start, start + n - 1)][:n]
            mask[row, g, :n] = 1
            start += n
    return GroupBatch(batch, index, ids, mask)


def make_vision(samples: Sequence[Sample], cfg: VisionConfig, buckets: VisionBuckets | None = None) -> Vision | None:
    """The patches of all samples as one padded list with its index arrays; None when there are none."""
    grids = [grid for s in samples for grid in s.grids]
    if not grids:
        return None
    layout = vision_layout(grids, cfg, buckets)
    size = len(layout.hw)
    dino = None
    if all(s.dino_patches is not None for s in samples if s.grids):
        dino = _pad([p for s in samples for p in s.dino_patches or ()], size, axis=1)
    return Vision(_pad([p for s in samples for p in s.patches], size, axis=0), dino, *layout)


def _pad(parts: list[np.ndarray], size: int, axis: int) -> np.ndarray:
    shape = list(parts[0].shape)
    shape[axis] = size - sum(p.shape[axis] for p in parts)
    return np.concatenate([*parts, np.zeros(shape, parts[0].dtype)], axis=axis)


def _empty(rows: int, length: int) -> Batch:
    def zeros():
        return np.zeros((rows, length), np.int32)

    return Batch(
        tokens=zeros(),
        positions=np.zeros((3, rows, length), np.int32),
        segments=zeros(),
        branches=zeros(),
        vision_index=zeros() - 1,
        scale=zeros(),
        targets=zeros(),
        weights=np.zeros((rows, length), np.float32),
        vision=None,
    )


def _vision_offsets(samples: Sequence[Sample]) -> list[int]:
    """Where each sample's merged vision tokens start in the flat list of the batch."""
    return np.cumsum([0, *(s.vision_tokens for s in samples)])[:-1].tolist()


def _write(batch: Batch, row: int, start: int, segment: int, sample: Sample, vision_offset: int) -> None:
    n = len(sample.tokens)
    here, before_last = slice(start, start + n), slice(start, start + n - 1)
    batch.tokens[row, here] = sample.tokens
    batch.positions[:, row, here] = sample.positions
    batch.segments[row, here] = segment
    batch.vision_index[row, here] = np.where(sample.is_vision, vision_offset + np.cumsum(sample.is_vision) - 1, -1)
    batch.scale[row, here] = sample.scale
    batch.targets[row, before_last] = sample.tokens[1:]
    batch.weights[row, before_last] = sample.weights[1:]
