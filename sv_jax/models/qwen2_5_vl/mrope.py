"""M-RoPE positions of a token sequence, on the host.

Text advances all three axes (time, height, width) together. A vision item that starts at position `p` gives its cell `(t, i, j)` the
position `(p + floor(t * tokens_per_second * seconds_per_grid), p + i, p + j)`; an image has one slice. Where the text continues after it
is the rule `QwenConfig.mrope`: `max`, the authors' original, one past the largest position on any axis; `spatial` (transformers >= 5.3),
`p + max(h, w)`, which ignores how long a video is.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sv_jax.errors import UserError
from sv_jax.models.qwen2_5_vl.config import QwenConfig

Grid = tuple[int, int, int]


def position_ids(tokens: np.ndarray, grids: Sequence[Grid], seconds_per_grid: Sequence[float | None], cfg: QwenConfig) -> np.ndarray:
    """Positions of one unpadded row.

    tokens: i32 [T] with every vision placeholder already repeated once per merged token. grids: (t, h, w) in patches of each image and
    video in order of appearance. seconds_per_grid: seconds between two temporal slices, None for an image. Returns i32 [3, T].
    Raises UserError when placeholders and grids do not match.
    """
    tokens = np.asarray(tokens)
    is_vision = (tokens == cfg.image_token_id) | (tokens == cfg.video_token_id)
    merge = cfg.vision.spatial_merge_size
    parts, position, token = [], 0, 0
    for (t, h, w), seconds in zip(grids, seconds_per_grid, strict=True):
        start = token + int(np.argmax(is_vision[token:])) if is_vision[token:].any() else len(tokens)
        count = t * h * w // merge**2
        end = start + count
        if not is_vision[start:end].all() or end > len(tokens):
            raise UserError(f"tokens: vision grid {(t, h, w)} needs {count} placeholders, found {is_vision[token:end].sum()}")
        parts.append(_text(position, start - token))
        position += start - token
        cells = position + _cells(t, h // merge, w // merge, cfg.vision.tokens_per_second, seconds)
        parts.append(cells)
        position = int(cells.max()) + 1 if cfg.mrope == "max" else position + max(h, w) // merge
        token = end
    if is_vision[token:].any():
        raise UserError(f"tokens: {is_vision[token:].sum()} vision placeholders beyond the {len(grids)} images and videos given")
    parts.append(_text(position, len(tokens) - token))
    return np.concatenate(parts, axis=1).astype(np.int32)


def _text(start: int, length: int) -> np.ndarray:
    return np.broadcast_to(np.arange(start, start + length), (3, length))


def _cells(t: int, h: int, w: int, tokens_per_second: float | int, seconds: float | None) -> np.ndarray:
    """Offsets of the merged cells of one image or video, int [3, t*h*w]."""
    # float32, as the processor hands seconds_per_grid over: the floor below depends on it
    interval = np.float32(tokens_per_second) * np.float32(seconds) if seconds is not None else np.float32(1)
    time = np.floor(np.arange(t, dtype=np.float32) * interval).astype(np.int64)
    grid = np.broadcast_arrays(time[:, None, None], np.arange(h)[:, None], np.arange(w))
    return np.stack(grid).reshape(3, -1)
