"""The canonical scene: what every source of clips produces and what the tasks read.

World: metres, z up, the ground is z = 0. Camera: OpenCV (x right, y down, z forward). Pixel centres lie at +1/2.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

SCALES = ("tiny", "tabletop", "indoor", "outdoor", "drone")
KINDS = ("box", "cylinder", "ellipsoid")


@dataclass(frozen=True)
class Primitive:
    """An upright convex part in its object's frame, whose origin is the centre of the object's bounding box.

    A cylinder is elliptic and stands along z; `half` are half sizes along the object's axes, for every kind.
    """

    kind: str  # one of KINDS
    center: tuple[float, float, float]  # metres
    half: tuple[float, float, float]  # metres
    albedo: tuple[float, float, float]  # red, green, blue in [0, 1]


@dataclass(frozen=True)
class Solid:
    """A primitive placed in the world: turned by `yaw` about its own vertical axis."""

    kind: str
    center: np.ndarray  # f64 [3], world
    yaw: float  # radians, counter-clockwise seen from above
    size: np.ndarray  # f64 [3], full sizes along its own axes


@dataclass(frozen=True, eq=False)
class Object:
    """An object standing in the world; its solid is the union of its parts."""

    name: str  # class: "mug"
    colour: str  # of its body: "red"
    center: np.ndarray  # f64 [3], world, of the bounding box
    yaw: float  # radians about z, counter-clockwise seen from above
    size: np.ndarray  # f64 [3]: full width, depth, height of the bounding box along the object's own axes x, y, z
    parts: tuple[Primitive, ...]

    @property
    def phrase(self) -> str:
        return f"{self.colour} {self.name}"

    @cached_property
    def rotation(self) -> np.ndarray:
        """f64 [3, 3]: object to world axes."""
        cos, sin = np.cos(self.yaw), np.sin(self.yaw)
        return np.array([[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]])

    @cached_property
    def solids(self) -> tuple[Solid, ...]:
        """The parts in the world, in order."""
        return tuple(
            Solid(part.kind, self.center + self.rotation @ np.array(part.center), self.yaw, 2 * np.array(part.half)) for part in self.parts
        )


@dataclass(frozen=True, eq=False)
class Scene:
    """A posed clip with exact geometry. F frames of H x W pixels."""

    id: str
    scale: str  # one of SCALES
    frames: np.ndarray  # u8 [F, H, W, 3]
    depth: np.ndarray  # f32 [F, H, W]: z-depth in metres, inf for sky
    ids: np.ndarray  # u8 [F, H, W]: 0 background, k for objects[k - 1]
    K: np.ndarray  # f64 [3, 3]
    poses: np.ndarray  # f64 [F, 4, 4]: camera to world
    fps: float
    objects: tuple[Object, ...]
