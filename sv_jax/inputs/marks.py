"""Visual prompts: a point, box or mask drawn on frames of the model's size, and its name in the text ("the red box").

A mark is a dict {"kind": "point", "xy": (x, y)}, {"kind": "box", "xyxy": (x1, y1, x2, y2)} or {"kind": "mask", "mask": bool [h, w], the
path of an image, or COCO's uncompressed run lengths {"size": [h, w], "counts": [...]}}, with "frame" (default 0) and "color" (default:
the next of COLORS). Coordinates are pixels of the frame as given, x to the right, y down.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np

from sv_jax.errors import UserError, unknown

COLORS = {"red": (255, 0, 0), "blue": (0, 128, 255), "green": (0, 255, 0), "yellow": (255, 215, 0)}
KINDS = {"point": "xy", "box": "xyxy", "mask": "mask"}
MASK_ALPHA = 0.35


def with_colors(marks: Sequence[dict]) -> list[dict]:
    """The marks, each with a kind, a frame and a colour; those without a colour take COLORS in turn. Raises UserError for unknown names."""
    out, names = [], list(COLORS)
    for i, mark in enumerate(marks):
        mark = {"frame": 0, "color": names[i % len(names)], **mark}
        if mark.get("kind") not in KINDS:
            raise unknown("mark kind", mark.get("kind"), KINDS)
        if mark["color"] not in COLORS:
            raise unknown("mark color", mark["color"], COLORS)
        if mark.get(KINDS[mark["kind"]]) is None:
            raise UserError(f"{mark['kind']}: field {KINDS[mark['kind']]!r} is missing")
        out.append(mark)
    return out


def name(mark: dict) -> str:
    """{"kind": "box", "color": "red"} -> "the red box"."""
    return f"the {mark['color']} {mark['kind']}"


def mention(question: str, marks: Sequence[dict], frames: int = 1) -> str:
    """The question, opened by a sentence that names the marks it does not itself name. frames: how many the picture has."""
    new = [m for m in with_colors(marks) if name(m).removeprefix("the ") not in question]
    if not new:
        return question
    where = [name(m) + (f" in frame {m['frame'] + 1}" if frames > 1 else "") for m in new]
    return f"Look at {' and '.join(where)}.\n{question}"


def draw(frames: np.ndarray, marks: Sequence[dict], size: tuple[int, int] | None = None) -> np.ndarray:
    """A copy of u8 [T, H, W, 3] with the marks drawn. size: (height, width) that the coordinates belong to, when the frames were resized.

    Raises UserError, naming the field, for a mark outside its frame or a frame that does not exist.
    """
    frames = frames.copy()
    height, width = size or frames.shape[1:3]
    for mark in with_colors(marks):
        kind, field = mark["kind"], KINDS[mark["kind"]]
        if not 0 <= int(mark["frame"]) < len(frames):
            raise UserError(f"{kind} frame {mark['frame']}: expected 0 to {len(frames) - 1}")
        frame, color = frames[int(mark["frame"])], np.array(COLORS[mark["color"]])
        if kind == "mask":
            _mask(frame, load_mask(mark[field]), color)
            continue
        xy = _coordinates(kind, field, mark[field], height, width)
        scaled = xy * np.array([frame.shape[1] / width, frame.shape[0] / height])
        (_point if kind == "point" else _box)(frame, scaled, color)
    return frames


def load_mask(mask: np.ndarray | str | os.PathLike | dict) -> np.ndarray:
    """bool [h, w] of an array or of an image file, any non-zero pixel counting, or of run lengths."""
    if isinstance(mask, dict):
        return _from_run_lengths(mask)
    if isinstance(mask, str | os.PathLike):
        from PIL import Image, UnidentifiedImageError

        try:
            mask = np.asarray(Image.open(mask).convert("L"))
        except (OSError, UnidentifiedImageError) as error:
            raise UserError(f"mask {str(mask)!r}: {getattr(error, 'strerror', None) or 'not an image file'}") from None
    mask = np.asarray(mask)
    if mask.ndim != 2 or not mask.size:
        raise UserError(f"mask: expected an array [height, width], found shape {list(mask.shape)}")
    return mask != 0


def _from_run_lengths(mask: dict) -> np.ndarray:
    try:
        height, width = mask["size"]
        flat = np.repeat(np.arange(len(mask["counts"])) % 2 == 1, mask["counts"])
        return flat.reshape(width, height).T
    except (KeyError, TypeError, ValueError):
        raise UserError(f"mask: expected run lengths {{size: [height, width], counts}} that fill the size, found {mask!r:.80}") from None


def _coordinates(kind: str, field: str, values, height: int, width: int) -> np.ndarray:
    """Checked [n, 2] (x, y) in pixels of a frame of height x width."""
    try:
        xy = np.asarray(values, np.float64).reshape(len(field) // 2, 2)
    except (TypeError, ValueError):
        raise UserError(f"{kind} {field}: expected {len(field)} numbers, found {values!r}") from None
    shown = ",".join(f"{v:g}" for v in xy.flat)
    if not (np.isfinite(xy).all() and (xy >= 0).all() and (xy <= (width, height)).all()):
        raise UserError(f"{kind} {field} {shown} is outside the frame, which is {width} x {height} pixels (width x height)")
    if kind == "box" and not (xy[1] > xy[0]).all():
        raise UserError(f"box xyxy {shown}: expected x1 < x2 and y1 < y2 (the frame is {width} x {height} pixels)")
    return xy


def _point(frame: np.ndarray, xy: np.ndarray, color: np.ndarray) -> None:
    height, width = frame.shape[:2]
    radius = max(8, int(0.014 * min(height, width)))
    x, y = np.floor(xy[0])
    rows, cols = np.ogrid[:height, :width]
    frame[(cols - x) ** 2 + (rows - y) ** 2 <= radius**2] = color


def _box(frame: np.ndarray, xy: np.ndarray, color: np.ndarray) -> None:
    stroke = max(2, int(0.004 * min(frame.shape[:2])))
    (x1, y1), (x2, y2) = np.floor(xy[0]).astype(int), np.ceil(xy[1]).astype(int)
    area = frame[y1:y2, x1:x2]
    hole = area[stroke:-stroke, stroke:-stroke].copy()
    area[:] = color
    area[stroke:-stroke, stroke:-stroke] = hole


def _mask(frame: np.ndarray, mask: np.ndarray, color: np.ndarray) -> None:
    rows = np.arange(frame.shape[0]) * mask.shape[0] // frame.shape[0]
    cols = np.arange(frame.shape[1]) * mask.shape[1] // frame.shape[1]
    chosen = mask[rows][:, cols]
    frame[chosen] = np.round((1 - MASK_ALPHA) * frame[chosen] + MASK_ALPHA * color)
