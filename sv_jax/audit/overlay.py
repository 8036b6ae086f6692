"""What a question is about, drawn: outlines of its objects, and its answer as a line, a point or numbers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from sv_jax.audit.questions import objects
from sv_jax.audit.samples import Clip, answer
from sv_jax.inputs.marks import load_mask
from sv_jax.scenes import camera
from sv_jax.tasks import QA, geometry
from sv_jax.tasks.numbers import plural

WIDTH = 480  # pixels of the overlay
COLOURS = ((0, 229, 255), (255, 64, 200), (255, 160, 0), (170, 255, 60), (255, 255, 255))
TEXT = 14  # pixels
LINE = 2


def subjects(qa: QA, clip: Clip, frame: int) -> list[int]:
    """Indices of the objects that the question is about, in its order, as far as the frame shows them. Objects that share a phrase are
    told apart by the marks on them, those of the first frame that has any."""
    if clip.ids is None:
        return []
    shown = [i for i in range(len(clip.objects)) if (clip.ids[frame] == i + 1).any()]
    on_marks = _marked(qa, clip.ids)
    found: dict[int, None] = {}
    for phrase in objects(qa):
        fitting = [i for i in shown if phrase in _phrases(clip.objects[i])]
        if len(fitting) > 1 and qa.marks:
            fitting = [i for i in fitting if i + 1 in on_marks]
        found.update(dict.fromkeys(fitting))
    return list(found)


def overlay(qa: QA, clip: Clip, frame: int):
    """A transparent PIL image, WIDTH wide, to lie on the frame; None where there is nothing to draw."""
    from PIL import Image, ImageDraw

    chosen = subjects(qa, clip, frame)
    if not chosen:
        return None
    height, width = clip.ids.shape[1:]
    zoom = WIDTH / width
    size = (round(height * zoom), WIDTH)
    rows, columns = (np.minimum((np.arange(side) / zoom).astype(int), limit - 1) for side, limit in zip(size, (height, width), strict=True))
    pixels = np.zeros((*size, 4), np.uint8)
    for n, index in enumerate(chosen):
        _outline(pixels, (clip.ids[frame] == index + 1)[rows][:, columns], COLOURS[n % len(COLOURS)])
    image = Image.fromarray(pixels)
    pen = ImageDraw.Draw(image)
    for n, index in enumerate(chosen):
        x0, y0, _, _ = _box(clip, index, frame, zoom)
        number = f"{n + 1} " if qa.task == "counting" else ""
        _label(pen, (x0, y0 - TEXT - 5), number + _phrases(clip.objects[index])[0], COLOURS[n % len(COLOURS)])
    if draw := DRAWN.get(qa.task):
        draw(pen, qa, clip, frame, chosen, zoom)
    return image


def _phrases(thing: dict) -> tuple[str, ...]:
    """What questions call an object, or a group that it belongs to."""
    return f"{thing['colour']} {thing['name']}", plural(thing["name"]), f"{thing['colour']} objects", "objects"


def _marked(qa: QA, ids: np.ndarray) -> set[int]:
    """The ids under the marks of the first frame that has any."""
    first = min((mark.get("frame", 0) for mark in qa.marks), default=0)
    return {_under(mark, ids[first]) for mark in qa.marks if mark.get("frame", 0) == first}


def _under(mark: dict, ids: np.ndarray) -> int:
    """The id that a point marks, or that fills most of a box or mask; 0 where it is none."""
    if mark["kind"] == "point":
        x, y = (int(v) for v in mark["xy"])
        return int(ids[min(y, len(ids) - 1), min(x, ids.shape[1] - 1)])
    if mark["kind"] == "mask":
        inside = ids[load_mask(mark["mask"])]
    else:
        x0, y0, x1, y1 = (round(v) for v in mark["xyxy"])
        inside = ids[y0:y1, x0:x1]
        # a neighbour may fill more of the box: the object is the one that the box encloses
        enclosed = [k for k in np.unique(inside) if k and (inside == k).sum() >= 0.98 * (ids == k).sum()]
        inside = inside[np.isin(inside, enclosed)]
    count = np.bincount(inside[inside > 0], minlength=1)
    return int(count.argmax()) if count.any() else 0


def _outline(pixels: np.ndarray, mask: np.ndarray, colour: tuple[int, int, int]) -> None:
    """A coloured line just inside the mask, with a dark one inside of it, so that it shows on any ground."""
    from scipy.ndimage import binary_erosion

    inner = binary_erosion(mask, iterations=LINE)
    pixels[inner & ~binary_erosion(inner, iterations=1)] = (0, 0, 0, 200)
    pixels[mask & ~inner] = (*colour, 255)


def _box(clip: Clip, index: int, frame: int, zoom: float) -> tuple[float, float, float, float]:
    """x0, y0, x1, y1 of an object in pixels of the overlay."""
    return tuple(zoom * side for side in geometry.box_of(clip.ids[frame] == index + 1))


def _label(pen, xy: tuple[float, float], text: str, colour: tuple[int, int, int]) -> None:
    """Text on a dark ground, moved into the picture."""
    from PIL import ImageFont

    text = text.replace("²", "2")  # the font has none
    font = ImageFont.load_default(size=TEXT)
    wide = pen.textlength(text, font=font) + 6
    x, y = max(0, min(xy[0], pen.im.size[0] - wide)), max(0, min(xy[1], pen.im.size[1] - TEXT - 5))
    pen.rectangle((x, y, x + wide, y + TEXT + 4), fill=(0, 0, 0, 190))
    pen.text((x + 3, y + 1), text, fill=(*colour, 255), font=font)


def _line(pen, a: tuple[float, float], b: tuple[float, float], text: str) -> None:
    """A white line with round ends, and its length in the middle."""
    for colour, width, radius in (((0, 0, 0, 255), 5, 5), ((255, 255, 255, 255), 2, 3)):
        pen.line((*a, *b), fill=colour, width=width)
        for x, y in (a, b):
            pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)
    _label(pen, ((a[0] + b[0]) / 2 + 6, (a[1] + b[1]) / 2 - TEXT / 2), text, (255, 255, 255))


def _height(pen, qa: QA, clip: Clip, frame: int, chosen: list[int], zoom: float) -> None:
    """Along the object's right side, from its lowest to its highest row."""
    _, y0, x1, y1 = _box(clip, chosen[0], frame, zoom)
    x = min(x1 + 6, WIDTH - 4)
    _line(pen, (x, y0), (x, y1), answer(qa))


def _distance(pen, qa: QA, clip: Clip, frame: int, chosen: list[int], zoom: float) -> None:
    """Between the nearest points of two objects that the frame shows."""
    from scipy.spatial import cKDTree

    if len(chosen) != 2 or clip.poses is None:
        return
    points = geometry.world_points(clip.depth[[frame]], clip.K, clip.poses[[frame]])[0]
    a, b = (points[(clip.ids[frame] == i + 1) & np.isfinite(clip.depth[frame])] for i in chosen)
    if not (len(a) and len(b)):  # measured depth has holes
        return
    away, nearest = cKDTree(a).query(b)
    ends = np.stack([a[nearest[away.argmin()]], b[away.argmin()]])
    (xa, ya), (xb, yb) = zoom * camera.project(ends, clip.K, clip.poses[[frame]])[0][:, :2]
    _line(pen, (xa, ya), (xb, yb), answer(qa))


def _depth(pen, qa: QA, clip: Clip, frame: int, chosen: list[int], zoom: float) -> None:
    """At the nearest pixel of the object."""
    depth = np.where(clip.ids[frame] == chosen[0] + 1, clip.depth[frame], np.inf)
    y, x = np.unravel_index(depth.argmin(), depth.shape)
    at = (zoom * (x + 0.5), zoom * (y + 0.5))
    _line(pen, at, at, answer(qa))


def _area(pen, qa: QA, clip: Clip, frame: int, chosen: list[int], zoom: float) -> None:
    x0, y0, x1, y1 = _box(clip, chosen[0], frame, zoom)
    _label(pen, ((x0 + x1) / 2 - 2 * TEXT, (y0 + y1) / 2), answer(qa), (255, 255, 255))


DRAWN: dict[str, Callable] = {"object_size": _height, "absolute_distance": _distance, "depth": _depth, "area_estimation": _area}
