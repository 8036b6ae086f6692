"""The arrays that one call of the model reads. Plain pytrees of fixed shape, made on the host by `sv_jax.inputs`.

`B` rows, `T` tokens a row, `P` patches of the whole batch, `S = P / 4` merged vision tokens, `W` windows of `m` patches,
`Z` temporal slices of at most `M` patches.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import numpy as np

Array = jax.Array | np.ndarray


class Vision(NamedTuple):
    """Every image and video of the batch as one flat list of patches, in the order of transformers' processor
    (medium, temporal slice, 2x2 block row, block column, row and column inside the block). Index arrays hold `P` where they are
    padding; a padding patch has hw 0, grid 1 and slot 0, and no token points to it."""

    patches: Array  # f32 [P, 3*2*14*14] Qwen's normalised pixels
    dino_patches: Array | None  # f32 [2, P, 3*16*16] the two frames of each patch for DINOv3: channel, row, column
    hw: Array  # i32 [P, 2] row and column of the patch in its frame
    grid: Array  # i32 [P, 2] height and width of its frame, in patches
    windows: Array  # i32 [W, m] patches of each attention window
    window_slot: Array  # i32 [P] where a patch stands in the flattened windows
    slices: Array  # i32 [Z, M] patches of each temporal slice (a contiguous run of the flat list)
    slice_slot: Array  # i32 [P] where a patch stands in the flattened slices


class Batch(NamedTuple):
    """Packed token rows. A token sees the earlier tokens of its own segment that are on branch 0 or on its own branch:
    packing is one segment per sample; a prompt shared by a group is one segment, the prompt on branch 0 and completion g on branch g."""

    tokens: Array  # i32 [B, T]
    positions: Array  # i32 [3, B, T] M-RoPE positions (time, height, width)
    segments: Array  # i32 [B, T] 0 is padding, samples are 1, 2, …
    branches: Array  # i32 [B, T]
    vision_index: Array  # i32 [B, T] index into the S merged vision tokens, -1 for text
    scale: Array  # i32 [B, T] index into SCALES of the token's sample (used by the router `label`)
    targets: Array  # i32 [B, T] the next token (of the same segment)
    weights: Array  # f32 [B, T] weight of the loss at this token, 0 where no loss is taken
    vision: Vision | None
