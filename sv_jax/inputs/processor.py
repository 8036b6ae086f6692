"""Frames to patches, as transformers' Qwen2-VL processors (PIL backend) make them, and the same frames for DINOv3.

Patches are in the order (temporal slice, 2x2 block row, block column, row and column inside the block); features inside a Qwen patch are
(channel, frame, row, column), inside a DINOv3 patch (channel, row, column), as a convolution kernel flattens.
"""

from __future__ import annotations

import functools
import math

import numpy as np

from sv_jax.errors import UserError

PATCH, MERGE, TEMPORAL = 14, 2, 2
DINO_PATCH = 16
SQUARES = 364, 420  # sides that the released code pads frames to, for Qwen and for DINOv3: 26 patches, and 26 and a quarter
MAX_RATIO = 200
CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def smart_resize(height: int, width: int, *, min_pixels: int, max_pixels: int, factor: int = PATCH * MERGE) -> tuple[int, int]:
    """Height and width nearest to the given ones that are multiples of `factor` and hold between min_pixels and max_pixels pixels.

    Raises UserError for an empty frame or one whose sides differ more than 200-fold.
    """
    if min(height, width) < 1:
        raise UserError(f"frame of {width} x {height} pixels: expected at least 1 x 1")
    if max(height, width) / min(height, width) > MAX_RATIO:
        raise UserError(f"frame of {width} x {height} pixels: the sides may differ at most {MAX_RATIO}-fold")
    rows, cols = round(height / factor) * factor, round(width / factor) * factor
    if rows * cols > max_pixels:
        shrink = math.sqrt(height * width / max_pixels)
        rows = max(factor, math.floor(height / shrink / factor) * factor)
        cols = max(factor, math.floor(width / shrink / factor) * factor)
    elif rows * cols < min_pixels:
        grow = math.sqrt(min_pixels / (height * width))
        rows, cols = math.ceil(height * grow / factor) * factor, math.ceil(width * grow / factor) * factor
    return rows, cols


def resize(frames: np.ndarray, height: int, width: int) -> np.ndarray:
    """u8 [T, H, W, 3] -> u8 [T, height, width, 3], PIL's antialiased bicubic.

    transformers resizes videos, and where it is installed images too, with torchvision: a level or two off, more where black and white
    meet, as overshoots are cut off between the two passes."""
    if frames.shape[1:3] == (height, width):
        return frames
    from PIL import Image

    return np.stack([np.asarray(Image.fromarray(frame).resize((width, height), Image.Resampling.BICUBIC)) for frame in frames])


def shrink(frames: np.ndarray, max_pixels: int) -> np.ndarray:
    """Frames with more than `max_pixels` pixels made smaller by one factor, as the released code does."""
    height, width = frames.shape[1:3]
    factor = math.sqrt(max_pixels / (height * width))
    return frames if factor >= 1 else resize(frames, max(1, int(height * factor)), max(1, int(width * factor)))


def letterbox(frames: np.ndarray, side: int) -> np.ndarray:
    """u8 [T, H, W, 3] -> u8 [T, side, side, 3]: the long side becomes `side`, the short one the nearest multiple of 14 in proportion,
    in the middle of white. It is rounded for each `side` by itself: the two towers' squares are up to half a patch apart."""
    height, width = frames.shape[1:3]
    short = max(PATCH, round(min(height, width) * side / max(height, width) / PATCH) * PATCH)
    size = (short, side) if height <= width else (side, short)
    out = np.full((len(frames), side, side, 3), 255, np.uint8)
    top, left = ((side - n) // 2 for n in size)
    out[:, top : top + size[0], left : left + size[1]] = resize(frames, *size)
    return out


def pad_frames(frames: np.ndarray) -> np.ndarray:
    """Repeat the last frame to an even count, so that a single image becomes two equal frames."""
    return np.concatenate([frames, frames[-1:]]) if len(frames) % TEMPORAL else frames


def qwen_patches(frames: np.ndarray, rescale: float = 1 / 255) -> tuple[np.ndarray, tuple[int, int, int]]:
    """u8 [T, H, W, 3], T even, sides multiples of 28 -> (f32 [P, 1176], grid (T/2, H/14, W/14)), P = product of the grid."""
    blocks = _blocks(_normalise(frames, CLIP_MEAN, CLIP_STD, rescale), PATCH)
    t, h, w = blocks.shape[1], blocks.shape[3] * MERGE, blocks.shape[6] * MERGE
    return blocks.transpose(1, 3, 6, 4, 7, 0, 2, 5, 8).reshape(t * h * w, -1), (t, h, w)


def square_dino_patches(frames: np.ndarray) -> np.ndarray:
    """u8 [T, 420, 420, 3], T even -> f32 [2, P, 768] in the order of Qwen's patches; the last 4 rows and columns are no whole patch."""
    side = SQUARES[1] // DINO_PATCH * DINO_PATCH
    blocks = _blocks(_normalise(frames[:, :side, :side], IMAGENET_MEAN, IMAGENET_STD), DINO_PATCH)
    return blocks.transpose(2, 1, 3, 6, 4, 7, 0, 5, 8).reshape(TEMPORAL, -1, 3 * DINO_PATCH**2)


def _blocks(values: np.ndarray, patch: int) -> np.ndarray:
    """f32 [3, T, H, W] -> [channel, slice, frame, block row, row in the block, row in the patch, and columns likewise]."""
    c, count, height, width = values.shape
    h, w = height // patch // MERGE, width // patch // MERGE
    return values.reshape(c, count // TEMPORAL, TEMPORAL, h, MERGE, patch, w, MERGE, patch)


def dino_patches(frames: np.ndarray) -> np.ndarray:
    """u8 [T, H, W, 3], T even, sides multiples of 28 -> f32 [2, P, 768]: the two frames of each Qwen patch, on Qwen's patch grid.

    The frame is enlarged by 16/14 (bilinear, half-pixel centres, no antialias), so that DINOv3's patches of 16 cover the same places."""
    values = _normalise(frames, IMAGENET_MEAN, IMAGENET_STD)  # before the resize: both are linear and its weights sum to 1
    _, count, height, width = values.shape
    t, h, w = count // TEMPORAL, height // PATCH, width // PATCH
    # 16 pixels of a DINOv3 patch are mixed from the 14 of the Qwen patch and its neighbours on both sides: 16 again
    values = np.pad(values, ((0, 0), (0, 0), (1, 1), (1, 1)), "edge").reshape(3, t, TEMPORAL, height + 2, width + 2)
    c, time, frame, row, col = values.strides
    shape = (TEMPORAL, t, h // MERGE, w // MERGE, MERGE, MERGE, 3, DINO_PATCH, DINO_PATCH)
    strides = (frame, time, MERGE * PATCH * row, MERGE * PATCH * col, PATCH * row, PATCH * col, c, row, col)
    windows = np.lib.stride_tricks.as_strided(values, shape, strides, writeable=False)
    mix = _enlarge()
    mixed = mix @ (windows.reshape(-1, DINO_PATCH) @ mix.T).reshape(-1, DINO_PATCH, DINO_PATCH)
    return mixed.reshape(TEMPORAL, t * h * w, -1)


def _normalise(frames: np.ndarray, mean: tuple[float, ...], std: tuple[float, ...], rescale: float = 1 / 255) -> np.ndarray:
    """u8 [T, H, W, 3] -> f32 [3, T, H, W]; a byte has 256 values, so the arithmetic is a table."""
    table = _table(mean, std, rescale)
    planes = np.ascontiguousarray(frames.transpose(3, 0, 1, 2))
    return np.stack([channel.take(plane) for channel, plane in zip(table, planes, strict=True)])


@functools.cache
def _table(mean: tuple[float, ...], std: tuple[float, ...], rescale: float) -> np.ndarray:
    """f32 [3, 256], rounded as transformers rounds: rescaled in float64, kept as float32, normalised in float32."""
    values = (np.arange(256) * rescale).astype(np.float32)
    return (values - np.array(mean, np.float32)[:, None]) / np.array(std, np.float32)[:, None]


@functools.cache
def _enlarge() -> np.ndarray:
    """f32 [16, 16]: linear interpolation of the pixels -1..14 of one axis of a Qwen patch to the 16 of a DINOv3 patch."""
    source = (np.arange(DINO_PATCH) + 0.5) * PATCH / DINO_PATCH - 0.5 + 1
    low = np.floor(source).astype(int)
    matrix = np.zeros((DINO_PATCH, DINO_PATCH), np.float32)
    matrix[np.arange(DINO_PATCH), low] = 1 - (source - low)
    matrix[np.arange(DINO_PATCH), low + 1] += source - low
    return matrix
