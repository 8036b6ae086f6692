"""Specialists: models that measure a clip. One interface for each kind, chosen by name: `NAME` or `NAME:WHERE`.

A depth specialist is a function Clip -> Depth, a detector (Clip, phrases) -> Boxes in the first frame, a tracker (Clip, Boxes) -> ids.
WHERE is a model folder or hub id, and for `disk` a folder with one `<clip name>.npz` for each clip: what was measured elsewhere.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sv_jax.errors import UserError, unknown

DEPTH_KINDS = ("metric", "disparity")


@dataclass(frozen=True, eq=False)
class Clip:
    """What specialists look at. F frames of H x W pixels."""

    name: str
    frames: np.ndarray  # u8 [F, H, W, 3]
    fps: float
    full: tuple[int, int]  # height and width of the video itself, before it was shrunk to H x W
    K: np.ndarray | None = None  # f64 [3, 3] in pixels of the frames; None is unknown


@dataclass(frozen=True, eq=False)
class Depth:
    """What a depth specialist says of a clip."""

    values: np.ndarray  # f [F, H, W]: z-depth in metres, or a disparity that is affine in inverse depth; not finite is unknown
    kind: str = "metric"  # one of DEPTH_KINDS
    focal: float | None = None  # pixels, where the specialist estimates it

    def __post_init__(self):
        if self.kind not in DEPTH_KINDS:
            raise unknown("depth kind", self.kind, DEPTH_KINDS)


@dataclass(frozen=True, eq=False)
class Boxes:
    """Objects that a detector found in the first frame."""

    xyxy: np.ndarray  # f [n, 4] in pixels
    score: np.ndarray  # f [n]
    phrases: tuple[str, ...]  # "red mug"


DepthSpecialist = Callable[[Clip], Depth]
Detector = Callable[[Clip, tuple[str, ...]], Boxes]
Tracker = Callable[[Clip, Boxes], np.ndarray]  # u8 [F, H, W]: 0 background, k for the k-th box


class Disk:
    """Reads what was measured elsewhere from `folder`/<clip name>.npz.

    `depth` [F, H, W] in metres or `disparity` [F, H, W]; `boxes` [n, 4] as x0, y0, x1, y1, `phrases` [n] and optionally `score` [n]; `ids`
    [F, H, W] of integers. All are in pixels of the frames or of the video itself, for the frames that were sampled.
    """

    def __init__(self, folder: str):
        if not Path(folder).is_dir():
            raise UserError(f"disk:{folder}: no such folder; expected one with a <video name>.npz for each video")
        self._folder = Path(folder)

    def depth(self, clip: Clip) -> Depth:
        return Depth(self._images(clip, "depth").astype(np.float32))

    def disparity(self, clip: Clip) -> Depth:
        return Depth(self._images(clip, "disparity").astype(np.float32), "disparity")

    def detect(self, clip: Clip, phrases: tuple[str, ...]) -> Boxes:
        """The stored boxes whose phrase is one of `phrases` (all of them where none are given)."""
        boxes, said = self._array(clip, "boxes"), [str(p) for p in self._array(clip, "phrases")]
        if boxes.shape != (len(said), 4):
            raise UserError(
                f"{self._file(clip)}: boxes {list(boxes.shape)} and {len(said)} phrases; expected a phrase and 4 numbers for each"
            )
        kept = [i for i, phrase in enumerate(said) if not phrases or phrase in phrases]
        score = self._array(clip, "score") if "score" in self._names(clip) else np.ones(len(said))
        zoom = np.tile(np.array(clip.frames.shape[2:0:-1]) / self._size(clip)[::-1], 2)
        return Boxes(boxes[kept] * zoom, np.asarray(score)[kept], tuple(said[i] for i in kept))

    def track(self, clip: Clip, boxes: Boxes) -> np.ndarray:
        ids = self._images(clip, "ids")
        if not np.issubdtype(ids.dtype, np.integer) or ids.min() < 0 or ids.max() > 255:
            raise UserError(f"{self._file(clip)}: ids are {ids.dtype} from {ids.min()} to {ids.max()}, expected integers from 0 to 255")
        return ids.astype(np.uint8)

    def _file(self, clip: Clip) -> str:
        return str(self._folder / f"{clip.name}.npz")

    def _names(self, clip: Clip) -> list[str]:
        return self._read(clip, lambda stored: stored.files)

    def _read(self, clip: Clip, get: Callable):
        """`get` of the opened file, which reads an array when it is asked for."""
        try:
            with np.load(self._file(clip)) as stored:
                return get(stored)
        except (OSError, ValueError, zipfile.BadZipFile) as error:
            reason = "no such file" if isinstance(error, FileNotFoundError) else "not an npz file of numbers and text"
            raise UserError(f"{self._file(clip)}: {reason}; expected what a specialist measured in {clip.name!r}") from None

    def _array(self, clip: Clip, key: str) -> np.ndarray:
        names = self._names(clip)
        if key not in names:
            raise UserError(f"{self._file(clip)}: no {key} in it, found {', '.join(sorted(names)) or 'nothing'}")
        return self._read(clip, lambda stored: stored[key])

    def _size(self, clip: Clip) -> np.ndarray:
        """Height and width of the pixels in which the file's boxes are: of its images where it has some, else of the video itself."""
        images = [name for name in self._names(clip) if name in ("depth", "disparity", "ids")]
        shape = self._array(clip, images[0]).shape if images else ()
        return np.array(shape[1:] if len(shape) == 3 else clip.full)

    def _images(self, clip: Clip, key: str) -> np.ndarray:
        """[F, H, W] at the clip's size: the nearest pixel's value, since neither ids nor depth across an edge may be mixed."""
        images, (frames, height, width) = self._array(clip, key), clip.frames.shape[:3]
        if images.shape not in ((frames, height, width), (frames, *clip.full)):
            full = f" or {[frames, *clip.full]}" if clip.full != (height, width) else ""
            raise UserError(f"{self._file(clip)}: {key} {list(images.shape)}, expected {[frames, height, width]}{full}")
        rows, columns = (((np.arange(n) + 0.5) * size / n).astype(int) for n, size in zip((height, width), images.shape[1:], strict=True))
        return images[:, rows[:, None], columns]


def _disk(method: str) -> Callable[[str], Callable]:
    return lambda where: getattr(Disk(where), method)


def _model(adapter: str, published: str) -> Callable[[str], Callable]:
    """An adapter of `sv_jax.annotate.models`, of a checkpoint on the hub where no other is given."""

    def load(where: str) -> Callable:
        try:
            from sv_jax.annotate import models
        except ModuleNotFoundError as error:
            raise UserError(f"specialist {adapter}: needs {error.name}; pip install 'sv-jax[annotate]'") from None
        return getattr(models, adapter)(where or published)

    return load


# By name, functions of WHERE. A new specialist is an entry here.
DEPTHS = {
    "depth_anything": _model("DepthAnything", "depth-anything/Depth-Anything-V2-Metric-Indoor-Small-hf"),
    "depth_pro": _model("DepthPro", "apple/DepthPro-hf"),
    "disk": _disk("depth"),
}
VIDEO_DEPTHS = DEPTHS | {"disk": _disk("disparity")}
DETECTORS = {"disk": _disk("detect"), "grounding_dino": _model("GroundingDino", "IDEA-Research/grounding-dino-tiny")}
TRACKERS = {"disk": _disk("track"), "sam2": _model("Sam2", "facebook/sam2.1-hiera-tiny")}


def choose(kind: str, given: str, known: dict[str, Callable[[str], Callable]]) -> Callable:
    """The specialist that `NAME` or `NAME:WHERE` says, from one of the tables above. UserError for a name that is not in it."""
    name, _, where = given.partition(":")
    if name not in known:
        raise unknown(kind, name, known)
    return known[name](where)
