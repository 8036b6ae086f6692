"""An image or video of a chat message to patches: load, resize, draw the marks, cut."""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np

from sv_jax.errors import UserError
from sv_jax.inputs import marks as visual_prompts
from sv_jax.inputs.layout import Grid
from sv_jax.inputs.processor import (
    PATCH,
    SQUARES,
    TEMPORAL,
    dino_patches,
    letterbox,
    pad_frames,
    qwen_patches,
    resize,
    shrink,
    smart_resize,
    square_dino_patches,
)
from sv_jax.inputs.video import DEFAULT_FPS, MAX_FRAMES, read_video


@dataclass(frozen=True)
class Compat:
    """What the released code does to videos and we do not, unless asked to."""

    video_double_rescale: bool = False  # in training Qwen's tower gets pixels that were divided by 255 twice: an almost even grey
    assume_fps: float | None = None  # the rate that frames are said to have, whatever it is; there it is 1

    def __post_init__(self):
        if self.assume_fps is not None and self.assume_fps <= 0:
            raise UserError(f"compat assume_fps {self.assume_fps:g}: expected a positive number")


NO_COMPAT = Compat()


@dataclass(frozen=True)
class Media:
    """An image or video ready for the model; may stand in a message in place of the picture, so that it is prepared once and used often."""

    kind: str  # "image" or "video"
    grid: Grid  # (t, h, w) in patches
    patches: np.ndarray  # f32 [P, 1176]
    dino_patches: np.ndarray | None  # f32 [2, P, 768]
    seconds_per_grid: float | None  # between temporal slices; None for an image


def prepare(part: dict, pixels: tuple[int, int], dino: bool, align: str = "grid", compat: Compat = NO_COMPAT) -> Media:
    """Patches of one content part {"type": "image" | "video", …}.

    part: "image" is a path, a PIL image or u8 [H, W, 3]; "video" a path, its bytes, or u8 [T, H, W, 3] already sampled at "fps".
    A video file is sampled at "fps" (default 2) or to "num_frames", at most "max_frames". "marks" are drawn at the final size
    (`sv_jax.inputs.marks`).
    pixels: least and most pixels of a frame. dino: also cut DINOv3's patches. align: as in `FusionConfig`; "official" pads both towers'
    frames to squares, and has no least size.
    """
    kind = part["type"]
    source = part.get(kind)
    if isinstance(source, Media):
        return source
    frames, fps = (load_image(source)[None], None) if kind == "image" else load_video(part)
    size = frames.shape[1:3]
    marked = lambda frames: visual_prompts.draw(frames, part["marks"], size) if part.get("marks") else frames  # noqa: E731
    target = _target_size(part, size, pixels)
    if dino and align == "official":
        frames = pad_frames(marked(shrink(frames, pixels[1])))
        frames, dense = letterbox(frames, SQUARES[0]), square_dino_patches(letterbox(frames, SQUARES[1]))
    else:
        frames = pad_frames(marked(resize(frames, *target)))
        dense = dino_patches(frames) if dino else None
    patches, grid = qwen_patches(frames, 1 / 255**2 if compat.video_double_rescale and kind == "video" else 1 / 255)
    if fps and compat.assume_fps:
        fps = compat.assume_fps
    return Media(kind, grid, patches, dense, TEMPORAL / fps if fps else None)


def outline(shape: tuple[int, int, int], fps: float, pixels: tuple[int, int], dino: bool, align: str, compat: Compat) -> Media:
    """What `prepare` makes of a video of u8 [T, H, W, 3] frames, of which only (T, H, W) is known: all but the patches."""
    count, *size = shape
    official = dino and align == "official"
    size = (SQUARES[0], SQUARES[0]) if official else _target_size({"type": "video", "video": None}, tuple(size), pixels)
    grid = (-(-count // TEMPORAL), size[0] // PATCH, size[1] // PATCH)
    dense = np.empty((TEMPORAL, 0, 768), np.float32) if dino else None
    return Media("video", grid, np.empty((0, 1176), np.float32), dense, TEMPORAL / (compat.assume_fps or fps))


def _target_size(part: dict, size: tuple[int, int], pixels: tuple[int, int]) -> tuple[int, int]:
    source = part[part["type"]]
    name = f"{part['type']} {os.fspath(source)!r}" if isinstance(source, str | os.PathLike) else part["type"]
    if max(size) < 2:  # transformers would blow it up to a whole picture
        raise UserError(f"{name}: 1 x 1 pixels, expected a picture")
    try:
        return smart_resize(*size, min_pixels=pixels[0], max_pixels=pixels[1])
    except UserError as error:
        raise UserError(f"{name}: {error}") from None


def load_image(source) -> np.ndarray:
    """A path, PIL image or u8 [H, W, 3] array -> u8 [H, W, 3]. Raises UserError for anything else or an unreadable file."""
    if isinstance(source, np.ndarray):
        return _checked(source, 3, "image")
    from PIL import Image, ImageOps, UnidentifiedImageError

    if isinstance(source, str | os.PathLike):
        try:
            source = ImageOps.exif_transpose(Image.open(source))
        except (OSError, UnidentifiedImageError) as error:
            raise UserError(f"image {str(source)!r}: {getattr(error, 'strerror', None) or 'not an image file'}") from None
    if not isinstance(source, Image.Image):
        raise UserError(f"image: expected a path, a PIL image or uint8 [H, W, 3], found {type(source).__name__}")
    if source.has_transparency_data:  # shown on white, as transformers does
        source = Image.alpha_composite(Image.new("RGBA", source.size, "white"), source.convert("RGBA"))
    return np.asarray(source.convert("RGB"))


def load_video(part: dict) -> tuple[np.ndarray, float]:
    """Frames u8 [T, H, W, 3] of a video part and how many of them make a second."""
    source = part["video"]
    if isinstance(source, np.ndarray):
        fps = float(part.get("fps") or DEFAULT_FPS)
        if fps <= 0:
            raise UserError(f"video fps {fps:g}: expected a positive number")
        return _checked(source, 4, "video"), fps
    if not isinstance(source, str | os.PathLike | bytes):
        raise UserError(f"video: expected a path or uint8 [T, H, W, 3], found {type(source).__name__}")
    limit = part.get("max_frames") or MAX_FRAMES
    return read_video(source, fps=part.get("fps"), num_frames=part.get("num_frames"), max_frames=limit)


def _checked(array: np.ndarray, ndim: int, what: str) -> np.ndarray:
    if what == "video" and array.ndim == ndim and not len(array):
        raise UserError(f"video: no frames in it, found {array.dtype} {list(array.shape)}")
    if array.dtype != np.uint8 or array.ndim != ndim or array.shape[-1] != 3 or not array.size:
        shape = "[H, W, 3]" if ndim == 3 else "[T, H, W, 3]"
        raise UserError(f"{what}: expected uint8 {shape}, found {array.dtype} {list(array.shape)}")
    return array
