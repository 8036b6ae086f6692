"""What a class of objects is made of: parts in the unit box, paints and textures.

A class is data: its usual size and its parts in the unit box [0, 1]^3 (x width, y depth, z height), which the parts fill. The front is
y = 0; what drives looks along x. The body takes the object's colour, and most of what one sees is body.
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
STEEL, GLASS, WATER, LEAF, SKIN = (0.64, 0.66, 0.68), (0.17, 0.21, 0.25), (0.30, 0.55, 0.62), (0.17, 0.34, 0.12), (0.72, 0.52, 0.40)

# Textures in metres. Those of small things would blur to an even tone on large ones, so each names what it is seen on.
WOOD = Texture(noise=0.4, length=(0.25, 0.02, 0.02))  # furniture, boards
FABRIC = Texture(noise=0.3, length=(0.02, 0.02, 0.02))
WEAVE = Texture(DARK, (0.018, 0.018, 0.012), line=0.12, bond=1.0, grain=0.4)  # baskets
BOARDS = Texture(DARK, (0.0, 0.0, 0.045), line=0.13, grain=0.25)  # crates
PLANKS = Texture(DARK, (0.0, 0.14, 0.14), line=0.07, grain=0.2)  # garden furniture
KEYS = Texture(DARK, (0.019, 0.019, 0.0), line=0.18)  # keyboards
PIANO_KEYS = Texture(DARK, (0.047, 0.0, 0.0), line=0.35)
RIBS = Texture(DARK, (0.06, 0.06, 0.0), line=0.14)  # radiators, suitcases
SLATS = Texture(DARK, (0.05, 0.05, 0.0), line=0.2)  # litter bins
THREAD = Texture(DARK, (0.0, 0.0, 0.0016), line=0.2, grain=0.15)
DIMPLES = Texture(DARK, (0.002, 0.002, 0.002), line=0.12, grain=0.2)
PEEL = Texture(noise=0.3, length=(0.004, 0.004, 0.004))  # fruit, beans
FOLIAGE = Texture(noise=0.6, length=(0.12, 0.12, 0.12))
STONE = Texture(noise=0.3, length=(0.15, 0.15, 0.15))
BRICKS = Texture(PALE, (0.215, 0.215, 0.065), line=0.08, bond=1.0, grain=0.2)
CORRUGATION = Texture(DARK, (0.9, 0.9, 2.6), line=0.12)  # stacked containers
STOREYS = Texture(GLASS, (0.0, 0.0, 3.0), line=0.42)  # a band of windows each 3 m
PANES = Texture(GREY, (1.5, 1.5, 0.0), line=0.08)  # window posts of vehicles and stands
LATTICE = Texture(DARK, (1.3, 1.3, 1.3), line=0.2)  # masts and jibs
COURSES = Texture(PALE, (0.0, 0.0, 12.0), line=0.25)  # warning bands of chimneys
MOWN = Texture(pitch=(5.5, 0.0, 0.0), grain=0.15)  # stripes of a lawn
BAYS = Texture(PALE, (2.5, 5.0, 0.0), line=0.08)  # of a parking lot
SEATS = Texture(PALE, (3.0, 3.0, 1.6), line=0.2)  # rows of a stand


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
    bears: tuple[str, ...] = ()  # classes that stand there, any that fit unless named


@dataclass(frozen=True)
class Model:
    """An object class: `size` is the usual width, depth, height in metres."""

    size: tuple[float, float, float]
    parts: tuple[Part, ...]
    tier: str = "basic"  # "basic": also of plain worlds; "more"; "unseen": only where it is asked for
    shelf: Shelf | None = None


FULL = (0.0, 1.0)
TOP = Shelf(FULL, FULL, 1)  # all of a flat top


def box(x: Span, y: Span, z: Span, paint: Rgb | None = BODY, texture: Texture | None = None) -> Part:
    return Part("box", x, y, z, paint, texture)


def tube(x: Span, y: Span, z: Span, paint: Rgb | None = BODY, texture: Texture | None = None) -> Part:
    return Part("cylinder", x, y, z, paint, texture)


def ball(x: Span, y: Span, z: Span, paint: Rgb | None = BODY, texture: Texture | None = None) -> Part:
    return Part("ellipsoid", x, y, z, paint, texture)


def centred(inset: Number, z: Span, paint: Rgb | None = BODY, part: Callable[..., Part] = tube, texture: Texture | None = None) -> Part:
    """A part centred in the unit box, `inset` away from its sides."""
    return part((inset, 1 - inset), (inset, 1 - inset), z, paint, texture)


def legs(top: float, side: float = 0.12, paint: Rgb | None = DARK) -> tuple[Part, ...]:
    """Four legs in the corners, up to `top`."""
    ends = ((0.0, side), (1 - side, 1.0))
    return tuple(box(x, y, (0.0, top), paint) for x in ends for y in ends)


def wheels(*spans: Span, top: float, width: float = 0.14) -> tuple[Part, ...]:
    """A pair of wheels on each x span, up to `top`, `width` of the depth wide."""
    return tuple(ball(x, y, (0, top), DARK) for x in spans for y in ((0, width), (1 - width, 1)))


def walls(x: float, y: float, floor: float, texture: Texture | None = None, z: Number = 1) -> tuple[Part, ...]:
    """A bottom up to `floor` and four walls up to `z`, `x` and `y` thick; `inside` is its shelf."""
    return (
        box(FULL, FULL, (0, floor), BODY, texture),
        *(box(side, FULL, (0, z), BODY, texture) for side in ((0, x), (1 - x, 1))),
        *(box((x, 1 - x), side, (0, z), BODY, texture) for side in ((0, y), (1 - y, 1))),
    )


def inside(x: float, y: float, floor: float) -> Shelf:
    """The floor between `walls`."""
    return Shelf((x, 1 - x), (y, 1 - y), floor, "in")


def slope(start: Span, end: Span, size: Span, y: Span, count: int, paint: Rgb | None = BODY) -> tuple[Part, ...]:
    """A slanting bar of `count` balls of `size` (x, z) with centres from `start` to `end` (x, z): parts are upright, only this leans."""
    (x0, z0), (x1, z1), (w, h) = start, end, size
    steps = [i / (count - 1) for i in range(count)]
    centers = [(x0 + t * (x1 - x0), z0 + t * (z1 - z0)) for t in steps]
    return tuple(ball((cx - w / 2, cx + w / 2), y, (cz - h / 2, cz + h / 2), paint) for cx, cz in centers)
