"""Grounds, walls and lights of the full worlds: colours and textures at physical scale, drawn for each scene."""

from __future__ import annotations

import numpy as np

from sv_jax.scenes.layout import SUN, Lamp, upward
from sv_jax.scenes.scene import Object, Primitive, Texture, Triple

ROOM = ((0.70, 0.67, 0.62), (0.50, 0.49, 0.50))  # horizon and zenith of a backdrop indoors
SKIES = (((0.80, 0.86, 0.92), (0.42, 0.60, 0.85)), ((0.86, 0.86, 0.86), (0.66, 0.70, 0.76)), ((0.93, 0.82, 0.68), (0.47, 0.58, 0.80)))
Surface = tuple[Triple, Texture | None]


def _planks(colour: Triple, width: float, long: float) -> Surface:
    """Boards along y with dark joints and grain."""
    dark = tuple(0.6 * c for c in colour)
    return colour, Texture(dark, (width, long, 0.0), line=0.03, bond=1.0, grain=0.18, noise=0.3, length=(width / 9, width * 1.2, width))


def _tiles(colour: Triple, joint: Triple, side: float) -> Surface:
    return colour, Texture(joint, (side, side, 0.0), line=0.04, grain=0.06, noise=0.08, length=(side / 3,) * 3)


def _grid(colour: Triple, line: Triple, side: float) -> Surface:
    return colour, Texture(line, (side, side, 0.0), line=0.05, noise=0.05, length=(side * 3,) * 3)


def _checks(colour: Triple, other: Triple, side: float) -> Surface:
    return colour, Texture(other, (side, side, 0.0), checker=0.8, grain=0.05)


def _plain(colour: Triple, noise: float, length: float) -> Surface:
    return colour, Texture(noise=noise, length=(length,) * 3)


GROUNDS: dict[str, tuple[Surface, ...]] = {
    "tiny": (
        _grid((0.16, 0.36, 0.30), (0.45, 0.60, 0.55), 0.010),  # a cutting mat
        _plain((0.84, 0.83, 0.80), 0.04, 0.004),  # paper
        _grid((0.86, 0.86, 0.83), (0.60, 0.70, 0.82), 0.005),  # squared paper
        _planks((0.52, 0.38, 0.25), 0.045, 0.6),
        _checks((0.50, 0.47, 0.43), (0.40, 0.38, 0.36), 0.0015),  # cloth
        _plain((0.46, 0.35, 0.25), 0.3, 0.004),  # cork
    ),
    "tabletop": (
        _planks((0.55, 0.40, 0.26), 0.12, 1.6),
        _planks((0.40, 0.28, 0.19), 0.09, 1.2),
        _checks((0.74, 0.72, 0.68), (0.52, 0.60, 0.66), 0.05),  # a tablecloth
        _tiles((0.66, 0.63, 0.58), (0.45, 0.44, 0.42), 0.15),
        _plain((0.62, 0.61, 0.60), 0.25, 0.05),  # stone
    ),
    "indoor": (
        _planks((0.56, 0.42, 0.28), 0.14, 1.8),
        _planks((0.44, 0.33, 0.23), 0.10, 1.2),
        _tiles((0.66, 0.65, 0.62), (0.42, 0.42, 0.41), 0.33),
        _checks((0.62, 0.60, 0.57), (0.50, 0.50, 0.50), 0.30),
        _plain((0.52, 0.48, 0.45), 0.2, 0.03),  # carpet
    ),
    "outdoor": (
        _plain((0.36, 0.42, 0.25), 0.45, 0.35),  # grass
        _tiles((0.55, 0.53, 0.50), (0.38, 0.37, 0.36), 0.5),
        _plain((0.48, 0.44, 0.38), 0.3, 0.15),  # gravel
    ),
    "drone": (
        _plain((0.37, 0.41, 0.26), 0.4, 9.0),  # meadow
        _plain((0.44, 0.42, 0.31), 0.35, 14.0),
        _checks((0.40, 0.43, 0.28), (0.46, 0.45, 0.31), 90.0),  # fields
    ),
}
WALLS: tuple[Surface, ...] = (
    _plain((0.80, 0.77, 0.71), 0.04, 0.4),
    _plain((0.64, 0.70, 0.72), 0.04, 0.4),
    ((0.78, 0.74, 0.66), Texture((0.70, 0.66, 0.60), (0.3, 0.3, 0.0), checker=0.9)),  # striped paper
    ((0.52, 0.30, 0.23), Texture((0.62, 0.59, 0.55), (0.215, 0.215, 0.065), line=0.06, bond=1.0, grain=0.25)),  # brick
)
ASPHALT = _plain((0.27, 0.27, 0.28), 0.25, 0.08)
PAVING = _tiles((0.56, 0.55, 0.53), (0.40, 0.40, 0.39), 0.4)
WATER = _plain((0.16, 0.31, 0.42), 0.2, 6.0)


def one_of(choices, rng: np.random.Generator):
    return choices[rng.integers(len(choices))]


def tinted(surface: Surface, rng: np.random.Generator) -> tuple[np.ndarray, Texture]:
    """A surface a little brighter or darker, warmer or colder."""
    colour, texture = surface
    return np.array(colour) * rng.uniform(0.88, 1.08) * rng.uniform(0.97, 1.03, 3), texture


def slab(center, size, surface: Surface, yaw: float = 0.0, kind: str = "box", shadow: bool = False) -> Object:
    """Background that is no object: a box or disc of full `size` [3] around `center` [3]."""
    size = np.asarray(size, np.float64)
    part = Primitive(kind, (0.0, 0.0, 0.0), tuple((size / 2).tolist()), tuple(surface[0]), surface[1], shadow)
    return Object("", "", np.asarray(center, np.float64), float(yaw), size, (part,))


def sun(reach: float, rng: np.random.Generator) -> Lamp:
    """Sunlight for a scene whose camera is `reach` metres from its middle."""
    warm = rng.uniform(0, 1)
    direction = upward(rng.uniform(0, 2 * np.pi), np.radians(rng.uniform(25, 65)))
    return Lamp(SUN * reach * direction, rng.uniform(0.66, 0.86) * np.array([1.0, 1 - 0.06 * warm, 1 - 0.16 * warm]))


def lamp(place, reach: float, rng: np.random.Generator, power: float = 0.9) -> Lamp:
    """A warm or white lamp."""
    warm = rng.uniform(0, 1)
    return Lamp(np.asarray(place, np.float64), power * np.array([1.0, 1 - 0.10 * warm, 1 - 0.25 * warm]), reach)
