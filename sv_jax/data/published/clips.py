"""Pictures and videos of a record to one clip, and its marks to pixels of that clip."""

from __future__ import annotations

import io
import os
import pickle
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sv_jax.data.published.item import BadRecord
from sv_jax.errors import UserError
from sv_jax.inputs.marks import COLORS
from sv_jax.inputs.media import load_image
from sv_jax.inputs.processor import resize
from sv_jax.inputs.video import read_video
from sv_jax.tasks.geometry import run_lengths

VIDEO_SUFFIXES = (".mp4", ".mkv", ".mov", ".avi", ".webm")
PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
LIST_FPS = 1.0  # frames given as a list have no rate; the released code takes them as one a second


@dataclass(frozen=True)
class Clip:
    """`frames` u8 [F, H, W, 3] with even sides. Picture `i` of the record, of sizes[i] = (height, width), is frame places[i], resized to
    shown[i] at the top left; what is left of the frame is white."""

    frames: np.ndarray
    fps: float
    places: dict[int, int]
    sizes: dict[int, tuple[int, int]]
    shown: dict[int, tuple[int, int]]


def is_video(media: Sequence[str | bytes]) -> bool:
    return len(media) == 1 and isinstance(media[0], str) and media[0].lower().endswith(VIDEO_SUFFIXES)


def is_folder(media: Sequence[str | bytes]) -> bool:
    return len(media) == 1 and isinstance(media[0], str) and media[0].endswith("/")


def read_clip(media: Sequence[str | bytes], root: str, wanted: set[int], frames: int, side: int, views: bool) -> Clip:
    """At most `frames` evenly spread pictures, and the `wanted` ones, none with a side above `side`; all of them where they are views, each
    twice, as a temporal slice is two frames. BadRecord for media that is missing or broken."""
    if is_folder(media):
        media = _listed(media[0], root)
    if is_video(media):
        kept, pictures, fps = _video(_find(media[0], root), frames)
    else:
        spread = np.linspace(0, len(media) - 1, len(media) if views else min(len(media), frames)).astype(int)
        kept = sorted({*spread.tolist(), *wanted})
        pictures, fps = [_picture(media[i], root) for i in kept], LIST_FPS
    sizes = [picture.shape[:2] for picture in pictures]
    shown = [_even(*size, side) for size in sizes]
    canvas = np.full((len(kept), *np.max(shown, 0), 3), 255, np.uint8)
    for frame, picture, (height, width) in zip(canvas, pictures, shown, strict=True):
        frame[:height, :width] = resize(picture[None], height, width)[0]
    times = 2 if views else 1
    places = {i: times * n for n, i in enumerate(kept)}
    return Clip(np.repeat(canvas, times, 0), fps, places, dict(zip(kept, sizes, strict=True)), dict(zip(kept, shown, strict=True)))


def _video(path: Path, frames: int) -> tuple[list[int], list[np.ndarray], float]:
    try:
        pictures, fps = read_video(path, max_frames=frames)
    except UserError as error:
        raise BadRecord("broken media", str(error)) from None
    return list(range(len(pictures))), list(pictures), fps


def _listed(folder: str, root: str) -> list[str]:
    """The pictures of a folder in the order of the numbers in their names."""
    paths = [p for p in (Path(root) / folder).glob("*") if p.suffix.lower() in PICTURE_SUFFIXES]
    if not paths:
        raise BadRecord("missing media", f"no pictures in {folder!r} of {root!r}")
    numbered = sorted(paths, key=lambda p: [(not part.isdigit(), int(part) if part.isdigit() else part) for part in _parts(p.stem)])
    return [f"{folder}{p.name}" for p in numbered]


def _parts(name: str) -> list[str]:
    return [part for part in re.split(r"(\d+)", name) if part]


def _picture(media: str | bytes, root: str) -> np.ndarray:
    from PIL import Image, UnidentifiedImageError

    path = None if isinstance(media, bytes) else _find(media, root)
    name = f"image {media!r}" if path else "encoded picture"
    try:
        return load_image(path or Image.open(io.BytesIO(media)))
    except UnidentifiedImageError:
        raise BadRecord("broken media", f"{name}: not an image file") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise BadRecord("broken media", str(error) if isinstance(error, UserError) else f"{name}: {error}") from None


def _find(name: str, root: str) -> Path:
    path = Path(root) / name
    if not os.path.isfile(path):  # unlike Path.is_file, it takes any name
        raise BadRecord("missing media", f"{name!r} is not in {root!r}")
    return path


def _even(height: int, width: int, side: int) -> tuple[int, int]:
    """The size a picture is stored in: the longest side at most `side`, both even, as H.264 wants them."""
    factor = min(1.0, side / max(height, width))
    return max(2, 2 * round(height * factor / 2)), max(2, 2 * round(width * factor / 2))


def place_marks(marks: Sequence[dict], clip: Clip, root: str) -> tuple[dict, ...]:
    """Marks of pictures as marks of the clip's frames (`sv_jax.inputs.marks`). BadRecord for one outside its picture."""
    try:
        return tuple(_placed(mark, clip, root) for mark in marks)
    except (ValueError, TypeError, OverflowError) as error:
        if isinstance(error, BadRecord):
            raise
        raise BadRecord("bad mark", f"cannot be read ({error})") from None


def _placed(mark: dict, clip: Clip, root: str) -> dict:
    picture = mark["frame"]
    (height, width), shown = clip.sizes[picture], clip.shown[picture]
    by = np.array([shown[1] / width, shown[0] / height])
    placed = {"kind": mark["kind"], "frame": clip.places[picture], "color": mark["color"]}
    if mark["color"] not in COLORS:
        raise BadRecord("bad mark", f"color {mark['color']!r}, expected one of {', '.join(COLORS)}")
    if mark["kind"] == "mask":
        mask = select_mask(_mask_array(_find(mark["mask_path"], root)), mark["object_ids"])
        canvas = np.zeros(clip.frames.shape[1:3], bool)
        rows, columns = (np.arange(n) * have // n for n, have in zip(shown, mask.shape, strict=True))
        canvas[: shown[0], : shown[1]] = mask[rows][:, columns]
        return placed | {"mask": run_lengths(canvas)}
    if mark["kind"] == "point":
        return placed | {"xy": (_point(mark["yx"], height, width) * by).round(2).tolist()}
    box = np.clip(np.asarray(mark["xyxy"], float).reshape(2, 2), 0, (width, height))
    if not (box[1] > box[0]).all():
        raise BadRecord("bad mark", f"box {mark['xyxy']} has no area in a picture of {width} x {height} pixels (width x height)")
    return placed | {"xyxy": (box * by).round(2).ravel().tolist()}


def _point(yx: Sequence[float], height: int, width: int) -> np.ndarray:
    """(x, y) of a published point, which is [row, column]; [column, row] where only that lies inside. PeiwenSun2000/SpaceVista:
    dataset/save_visualization.py:_scale_point."""
    for x, y in ((yx[1], yx[0]), (yx[0], yx[1])):
        if 0 <= x < width and 0 <= y < height:
            return np.array([x, y], float)
    raise BadRecord("bad mark", f"point {list(yx)} is outside its picture of {width} x {height} pixels (width x height)")


def _mask_array(path: Path) -> np.ndarray:
    try:
        return np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError, pickle.UnpicklingError) as error:
        raise BadRecord("broken media", f"mask {str(path)!r}: not an array of numpy ({error})") from None


def select_mask(array: np.ndarray, ids: list | None) -> np.ndarray:
    """bool [h, w] of the objects `ids` (None or none of them that is a number: all) in a mask file: bool [h, w], labels [h, w], or a plane
    an object, [K, h, w] or [h, w, K]. `ids` may also be a bool for each plane. PeiwenSun2000/SpaceVista:
    dataset/save_visualization.py:select_mask_from_array."""
    while array.ndim > 2 and array.shape[0] == 1:
        array = array[0]
    ids = ids if isinstance(ids, list) or ids is None else [ids]
    flags = bool(ids) and all(isinstance(i, bool) for i in ids)
    if array.ndim == 3:
        planes = (array if array.shape[0] < 16 and array.shape[0] != array.shape[1] else np.moveaxis(array, 2, 0)) != 0
        if flags and len(ids) == len(planes):
            chosen = np.flatnonzero(ids)
        else:
            chosen = [] if flags else [i for i in map(int, ids or []) if i < len(planes)]
        return planes[chosen].any(0) if len(chosen) else planes.any(0)
    if array.ndim != 2:
        raise BadRecord("bad mark", f"a mask of shape {list(array.shape)}, expected 2 or 3 dimensions")
    if array.dtype == bool or flags:
        return array != 0 if not ids or any(ids) else np.zeros(array.shape, bool)
    return np.isin(array, [int(i) for i in ids]) if ids else array != 0
