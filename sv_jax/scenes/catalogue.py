"""Object classes of every scale: real sizes and recognisable shapes.

A class is data: its usual size and its parts in the unit box [0, 1]^3 (x width, y depth, z height), which the parts fill.
A new class is one new entry here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sv_jax.scenes.scene import Texture

Rgb = tuple[float, float, float]
Number = int | float
Span = tuple[Number, Number]

BODY = None  # takes the object's colour
DARK, GREY, PALE, BROWN = (0.13, 0.13, 0.14), (0.45, 0.46, 0.48), (0.82, 0.80, 0.74), (0.38, 0.23, 0.12)


@dataclass(frozen=True)
class Part:
    """A primitive by its extents in the unit box."""

    kind: str
    x: Span
    y: Span
    z: Span
    paint: Rgb | None
    texture: Texture | None = None  # its lengths are metres: a brick is a brick on a kiosk and on a tower


@dataclass(frozen=True)
class Shelf:
    """Where a class bears or holds other objects: a level rectangle of its unit box, free above."""

    x: Span
    y: Span
    z: Number
    relation: str = "on"  # of what stands there: "on" it, or "in" it, between walls


@dataclass(frozen=True)
class Model:
    """An object class: `size` is the usual width, depth, height in metres."""

    size: tuple[float, float, float]
    parts: tuple[Part, ...]
    tier: str = "basic"  # "basic": also of plain worlds; "more"; "unseen": only where it is asked for
    shelf: Shelf | None = None


def _box(x: Span, y: Span, z: Span, paint: Rgb | None = BODY) -> Part:
    return Part("box", x, y, z, paint)


def _tube(x: Span, y: Span, z: Span, paint: Rgb | None = BODY) -> Part:
    return Part("cylinder", x, y, z, paint)


def _ball(x: Span, y: Span, z: Span, paint: Rgb | None = BODY) -> Part:
    return Part("ellipsoid", x, y, z, paint)


def _round(inset: Number, z: Span, paint: Rgb | None = BODY, part: Callable[..., Part] = _tube) -> Part:
    """A part centred in the unit box, `inset` away from its sides."""
    return part((inset, 1 - inset), (inset, 1 - inset), z, paint)


def _legs(top: float, side: float = 0.12, paint: Rgb = DARK) -> tuple[Part, ...]:
    """Four legs in the corners, up to `top`."""
    ends = ((0.0, side), (1 - side, 1.0))
    return tuple(_box(x, y, (0.0, top), paint) for x in ends for y in ends)


FULL = (0.0, 1.0)

TINY = {
    "coin": Model((0.024, 0.024, 0.0026), (_round(0, (0, 0.8), GREY), _round(0.1, (0.5, 1)))),
    "die": Model(
        (0.016, 0.016, 0.016),
        (
            _box((0.03, 0.97), (0.03, 0.97), (0, 0.97)),
            *(_ball((x - 0.11, x + 0.11), (y - 0.11, y + 0.11), (0.9, 1), DARK) for x, y in ((0.27, 0.27), (0.5, 0.5), (0.73, 0.73))),
            *(_ball(x, (0.36, 0.64), (0.36, 0.64), DARK) for x in ((0, 0.1), (0.9, 1))),
            *(_ball((0.36, 0.64), y, (0.36, 0.64), DARK) for y in ((0, 0.1), (0.9, 1))),
        ),
    ),
    "marble": Model((0.020, 0.020, 0.020), (_round(0, FULL, part=_ball),)),
    "battery": Model((0.0145, 0.0145, 0.045), (_round(0.02, (0, 0.3), DARK), _round(0, (0.3, 0.95)), _round(0.3, (0.9, 1), GREY))),
    "screw": Model(
        (0.015, 0.015, 0.036),
        (_round(0, (0, 0.16)), _round(0.25, (0.16, 0.4), GREY), _round(0.22, (0.4, 0.9)), _round(0.34, (0.9, 1), GREY)),
    ),
    "eraser": Model((0.022, 0.045, 0.014), (_box((0.03, 0.97), FULL, (0, 0.97)), _box(FULL, (0, 0.42), FULL, GREY))),
    "pawn": Model(
        (0.018, 0.018, 0.036),
        (_round(0, (0, 0.18)), _round(0.18, (0.05, 0.55), part=_ball), _round(0.32, (0.3, 0.7)), _round(0.2, (0.6, 1), part=_ball)),
    ),
    "brick": Model(
        (0.030, 0.016, 0.0115),
        (
            _box(FULL, FULL, (0, 0.83)),
            *(_tube(x, y, (0.8, 1)) for x in ((0.09, 0.41), (0.59, 0.91)) for y in ((0.06, 0.45), (0.55, 0.94))),
        ),
    ),
}

TABLETOP = {
    "mug": Model(
        (0.115, 0.085, 0.095),
        (
            _tube((0, 0.74), FULL, (0, 0.98)),
            _tube((0.07, 0.67), (0.09, 0.91), (0.9, 1), DARK),
            _box((0.72, 1), (0.42, 0.58), (0.68, 0.82)),
            _box((0.72, 1), (0.42, 0.58), (0.22, 0.36)),
            _box((0.88, 1), (0.42, 0.58), (0.3, 0.75)),
        ),
    ),
    "bottle": Model(
        (0.075, 0.075, 0.24),
        (_round(0, (0, 0.62)), _round(0, (0.5, 0.76), part=_ball), _round(0.31, (0.6, 0.92)), _round(0.28, (0.9, 1), DARK)),
    ),
    "book": Model(
        (0.15, 0.21, 0.035),
        (
            _box(FULL, FULL, (0, 0.14)),
            _box((0.02, 0.96), (0.03, 0.97), (0.14, 0.86), PALE),
            _box(FULL, FULL, (0.86, 1)),
            _box((0, 0.05), FULL, FULL),
        ),
    ),
    "apple": Model((0.078, 0.078, 0.088), (_round(0, (0, 0.86), part=_ball), _round(0.45, (0.8, 1), BROWN))),
    "box": Model((0.15, 0.12, 0.10), (_box((0, 1), FULL, (0, 0.98)), _box((0.42, 0.58), FULL, (0.5, 1), BROWN))),
    "bowl": Model(
        (0.15, 0.15, 0.065),
        (
            _round(0.28, (0, 0.2)),
            _round(0.14, (0.15, 0.5)),
            _round(0.05, (0.4, 0.75)),
            _round(0, (0.7, 0.98)),
            _round(0.07, (0.9, 1), DARK),
        ),
    ),
    "can": Model((0.066, 0.066, 0.118), (_round(0.04, (0, 0.07), GREY), _round(0, (0.07, 0.93)), _round(0.06, (0.93, 1), GREY))),
    "teapot": Model(
        (0.21, 0.13, 0.14),
        (
            _ball((0.14, 0.76), FULL, (0, 0.86)),
            _tube((0.26, 0.64), (0.2, 0.8), (0, 0.12)),
            _ball((0.4, 0.5), (0.42, 0.58), (0.83, 1), DARK),
            _box((0.7, 0.9), (0.42, 0.58), (0.36, 0.5)),
            _box((0.86, 1), (0.42, 0.58), (0.36, 0.8)),
            _box((0, 0.07), (0.42, 0.58), (0.25, 0.7)),
            _box((0, 0.22), (0.42, 0.58), (0.6, 0.7)),
            _box((0, 0.22), (0.42, 0.58), (0.25, 0.35)),
        ),
    ),
}

INDOOR = {
    "chair": Model((0.46, 0.48, 0.90), (*_legs(0.46, 0.13), _box(FULL, FULL, (0.46, 0.54)), _box(FULL, (0.87, 1), (0.5, 1)))),
    "table": Model((1.30, 0.80, 0.74), (*_legs(0.9, 0.08), _box(FULL, FULL, (0.9, 1)))),
    "sofa": Model(
        (1.80, 0.90, 0.82),
        (
            _box((0.1, 0.9), (0, 0.75), (0.06, 0.5)),
            _box(FULL, (0.72, 1), (0, 1)),
            _box((0, 0.12), (0, 0.8), (0, 0.68)),
            _box((0.88, 1), (0, 0.8), (0, 0.68)),
            _box((0.495, 0.505), (0, 0.73), (0.3, 0.51), DARK),
        ),
    ),
    "wardrobe": Model(
        (1.10, 0.58, 1.90),
        (
            _box(FULL, (0.04, 0.96), (0.05, 1)),
            _box((0.02, 0.98), (0.06, 0.94), (0, 0.05), DARK),
            _box((0.49, 0.51), (0.03, 0.97), (0.06, 0.98), DARK),
            *(_box(x, FULL, (0.45, 0.6), DARK) for x in ((0.41, 0.46), (0.54, 0.59))),
        ),
    ),
    "lamp": Model((0.42, 0.42, 1.45), (_round(0.1, (0, 0.03), DARK), _round(0.45, (0.02, 0.8), DARK), _round(0, (0.72, 1)))),
    "bed": Model(
        (1.40, 2.00, 0.90),
        (
            _box((0.02, 0.98), (0, 0.98), (0.05, 0.33), BROWN),
            _box(FULL, (0, 0.95), (0.33, 0.56)),
            _box(FULL, (0.95, 1), (0, 1), BROWN),
            _box((0.08, 0.46), (0.72, 0.92), (0.54, 0.68), PALE),
            _box((0.54, 0.92), (0.72, 0.92), (0.54, 0.68), PALE),
        ),
    ),
    "stool": Model((0.38, 0.38, 0.55), (_round(0, (0.86, 1)), *_legs(0.86, 0.12, BROWN))),
    "bookshelf": Model(
        (0.85, 0.32, 1.60),
        (
            *(_box(x, FULL, FULL) for x in ((0, 0.06), (0.94, 1))),
            *(_box((0.03, 0.97), (0.01, 0.99), (z, z + 0.04)) for z in (0.0, 0.32, 0.64, 0.96)),
            *(_box(x, (0.1, 0.9), (z, z + 0.22), BROWN) for x, z in (((0.1, 0.55), 0.04), ((0.4, 0.9), 0.36), ((0.1, 0.7), 0.68))),
            _box((0.04, 0.96), (0.45, 0.55), (0.02, 0.98), DARK),
        ),
    ),
}

OUTDOOR = {
    "car": Model(
        (4.30, 1.80, 1.50),
        (
            _box(FULL, (0.03, 0.97), (0.18, 0.60)),
            _box((0.22, 0.82), (0.08, 0.92), (0.58, 0.92), DARK),
            _box((0.26, 0.78), (0.06, 0.94), (0.9, 1)),
            *(_ball(x, y, (0, 0.42), DARK) for x in ((0.1, 0.26), (0.74, 0.9)) for y in ((0, 0.14), (0.86, 1))),
        ),
    ),
    "tree": Model(
        (3.00, 3.00, 5.00), (_round(0.43, (0, 0.5), BROWN), _round(0, (0.3, 0.8), part=_ball), _round(0.15, (0.5, 1), part=_ball))
    ),
    "bench": Model(
        (1.80, 0.65, 0.90),
        (
            *(_box(x, (0.1, 0.9), (0, 0.45), DARK) for x in ((0.08, 0.16), (0.84, 0.92))),
            _box(FULL, (0, 0.85), (0.45, 0.55)),
            _box(FULL, (0.88, 1), (0.62, 1)),
            *(_box(x, (0.85, 0.98), (0.4, 0.98), DARK) for x in ((0.1, 0.15), (0.85, 0.9))),
        ),
    ),
    "person": Model(
        (0.62, 0.40, 1.75),
        (
            _box((0.18, 0.48), (0.2, 0.8), (0, 0.47), DARK),
            _box((0.52, 0.82), (0.2, 0.8), (0, 0.47), DARK),
            _box((0.16, 0.84), (0.05, 0.95), (0.45, 0.82)),
            _box((0, 0.18), (0.2, 0.8), (0.42, 0.81)),
            _box((0.82, 1), (0.2, 0.8), (0.42, 0.81)),
            _ball((0.3, 0.7), (0, 1), (0.82, 1), (0.72, 0.52, 0.40)),
        ),
    ),
    "lamp post": Model((0.95, 0.95, 4.20), (_round(0.2, (0, 0.06), DARK), _round(0.37, (0, 0.8), DARK), _round(0, (0.76, 1), part=_ball))),
    "house": Model(
        (6.00, 5.00, 5.00),
        (
            _box((0.05, 0.95), (0.05, 0.95), (0, 0.62)),
            _box(FULL, FULL, (0.62, 0.68), DARK),
            _box((0.06, 0.94), (0.06, 0.94), (0.68, 0.78)),
            _box((0.18, 0.82), (0.18, 0.82), (0.78, 0.88)),
            _box((0.30, 0.70), (0.30, 0.70), (0.88, 1)),
            _box((0.42, 0.58), (0.03, 0.1), (0, 0.36), BROWN),
            *(_box(x, (0.03, 0.97), (0.28, 0.46), GREY) for x in ((0.14, 0.3), (0.7, 0.86))),
        ),
    ),
    "kiosk": Model(
        (2.20, 1.80, 2.60),
        (
            _box((0.08, 0.92), (0.1, 0.92), (0, 0.9)),
            _box(FULL, FULL, (0.9, 0.95), GREY),
            _box((0.06, 0.94), (0.06, 0.94), (0.94, 1)),
            _box((0.2, 0.8), (0.07, 0.95), (0.42, 0.76), DARK),
        ),
    ),
    "container": Model(
        (3.00, 1.70, 1.60), (_box(FULL, (0.02, 0.98), (0.06, 0.9)), *_legs(0.06, 0.1), _box((0.2, 0.8), FULL, (0.84, 1), GREY))
    ),
}

DRONE = {
    "house": Model(
        (14.0, 10.0, 9.0),
        (
            _box((0.05, 0.95), (0.05, 0.95), (0, 0.62)),
            _box(FULL, FULL, (0.62, 0.67), DARK),
            _box((0.02, 0.98), (0.1, 0.9), (0.67, 0.8)),
            _box((0.02, 0.98), (0.28, 0.72), (0.8, 0.93)),
            _box((0.72, 0.82), (0.25, 0.4), (0.7, 1), BROWN),
        ),
    ),
    "tower": Model(
        (16.0, 16.0, 44.0),
        (
            *(_box((0.02, 0.98), (0.02, 0.98), (z, z + 0.11)) for z in (0.0, 0.17, 0.34, 0.51, 0.68, 0.85)),
            _box((0.05, 0.95), (0.05, 0.95), (0.05, 0.9), DARK),
            _box(FULL, FULL, (0.93, 0.95), GREY),
            _box((0.3, 0.7), (0.3, 0.7), (0.95, 1), GREY),
        ),
    ),
    "tank": Model((19.0, 19.0, 13.0), (_round(0.02, (0, 0.82)), _round(0, (0.8, 0.86), GREY), _round(0.05, (0.68, 1), part=_ball))),
    "tree": Model(
        (10.0, 10.0, 14.0), (_round(0.43, (0, 0.5), BROWN), _round(0, (0.25, 0.75), part=_ball), _round(0.15, (0.45, 1), part=_ball))
    ),
    "warehouse": Model(
        (40.0, 26.0, 11.0),
        (
            _box(FULL, (0.02, 1), (0, 0.9)),
            *(_box((x, x + 0.08), (0.12, 0.9), (0.88, 1), DARK) for x in (0.14, 0.46, 0.78)),
            *(_box((x, x + 0.16), (0, 0.1), (0, 0.6), GREY) for x in (0.1, 0.42, 0.74)),
        ),
    ),
    "truck": Model(
        (14.0, 4.6, 5.2),
        (
            _box((0, 0.72), FULL, (0.2, 1)),
            _box((0.75, 1), (0.06, 0.94), (0.15, 0.72), GREY),
            _box((0.9, 0.99), (0.04, 0.96), (0.45, 0.66), DARK),
            _box((0.02, 0.98), (0.12, 0.88), (0.12, 0.22), DARK),
            *(_ball((x, x + 0.11), (0.02, 0.98), (0, 0.3), DARK) for x in (0.06, 0.2, 0.84)),
        ),
    ),
    "silo": Model((9.0, 9.0, 26.0), (_round(0.03, (0, 0.86)), _round(0.05, (0.72, 1), GREY, _ball), _round(0, (0.34, 0.40), GREY))),
    "church": Model(
        (26.0, 13.0, 26.0),
        (
            _box((0.3, 1), (0.02, 0.98), (0, 0.38)),
            _box((0.28, 1), (0, 1), (0.38, 0.41), DARK),
            _box((0.28, 0.99), (0.12, 0.88), (0.41, 0.49)),
            _box((0.28, 0.99), (0.32, 0.68), (0.49, 0.57)),
            _box((0, 0.34), (0.17, 0.83), (0, 0.72)),
            _box((0.04, 0.3), (0.25, 0.75), (0.72, 0.84), DARK),
            _box((0.12, 0.22), (0.4, 0.6), (0.84, 1), DARK),
        ),
    ),
}

CLASSES: dict[str, dict[str, Model]] = {"tiny": TINY, "tabletop": TABLETOP, "indoor": INDOOR, "outdoor": OUTDOOR, "drone": DRONE}
