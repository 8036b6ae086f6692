"""What a world of each scale is made of: its object classes and their colours, its size, its ground, its sky."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sv_jax.scenes.catalogue import BODY, CLASSES, Model, Rgb
from sv_jax.scenes.scene import Object, Primitive

COLOURS: dict[str, Rgb] = {
    "red": (0.86, 0.09, 0.09),
    "green": (0.08, 0.60, 0.16),
    "blue": (0.10, 0.25, 0.90),
    "yellow": (0.96, 0.82, 0.08),
    "white": (0.95, 0.95, 0.95),
    "purple": (0.58, 0.16, 0.74),
    "orange": (0.95, 0.45, 0.05),
    "black": (0.06, 0.06, 0.07),
}
PLAIN_COLOURS = tuple(COLOURS)[:6]  # of plain worlds


@dataclass(frozen=True)
class World:
    """A scale's models, its range of scene radii in metres, and its ground: the pitch of its squares in metres, and two albedos."""

    radius: tuple[float, float]
    pitch: float
    ground: tuple[Rgb, Rgb]
    horizon: Rgb
    zenith: Rgb
    models: dict[str, Model]


ROOM = ((0.70, 0.67, 0.62), (0.50, 0.49, 0.50))  # horizon and zenith of a backdrop indoors
SKY = ((0.80, 0.86, 0.92), (0.42, 0.60, 0.85))


def _basic(scale: str) -> dict[str, Model]:
    return {name: model for name, model in CLASSES[scale].items() if model.tier == "basic"}


WORLDS: dict[str, World] = {
    "tiny": World((0.025, 0.050), 0.010, ((0.24, 0.30, 0.31), (0.33, 0.40, 0.41)), *ROOM, _basic("tiny")),
    "tabletop": World((0.13, 0.28), 0.05, ((0.50, 0.40, 0.30), (0.62, 0.52, 0.41)), *ROOM, _basic("tabletop")),
    "indoor": World((1.3, 2.8), 0.5, ((0.58, 0.55, 0.51), (0.70, 0.67, 0.63)), *ROOM, _basic("indoor")),
    "outdoor": World((3.5, 8.5), 2.0, ((0.36, 0.36, 0.36), (0.46, 0.46, 0.45)), *SKY, _basic("outdoor")),
    "drone": World((25.0, 55.0), 10.0, ((0.38, 0.40, 0.28), (0.47, 0.47, 0.36)), *SKY, _basic("drone")),
}


def build(name: str, model: Model, colour: str, size: np.ndarray, xy: np.ndarray, yaw: float, z: float = 0.0, **relation) -> Object:
    """An object of the given full `size` [3] standing at `xy` [2], its lower end at `z`; `relation` are its parent and relation."""
    size = np.asarray(size, np.float64)
    parts = []
    for part in model.parts:
        low, high = (np.array(ends) for ends in zip(part.x, part.y, part.z, strict=True))
        center, half = ((low + high) / 2 - 0.5) * size, (high - low) / 2 * size
        albedo = COLOURS[colour] if part.paint is BODY else part.paint
        parts.append(Primitive(part.kind, tuple(center.tolist()), tuple(half.tolist()), albedo, part.texture))
    return Object(name, colour, np.array([*xy, z + size[2] / 2]), float(yaw), size, tuple(parts), **relation)
