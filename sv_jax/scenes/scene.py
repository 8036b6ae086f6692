"""The canonical scene: what every source of clips produces and what the tasks read.

World: metres, z up, the ground is z = 0. Camera: OpenCV (x right, y down, z forward). Pixel centres lie at +1/2.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

SCALES = ("tiny", "tabletop", "indoor", "outdoor", "drone")
KINDS = ("box", "cylinder", "ellipsoid")


Triple = tuple[float, float, float]


@dataclass(frozen=True)
class Texture:
    """What varies a surface's colour: cells of lines or of a checkerboard, and noise. Lengths are metres along the object's own axes; 0 is
    an axis without."""

    second: Triple | None = None  # red, green, blue of lines and odd cells; None: the surface's own
    pitch: Triple = (0.0, 0.0, 0.0)  # side of a cell
    line: float = 0.0  # share of a cell's side that the line before it takes
    bond: float = 0.0  # 1: every other row of cells is shifted by half a cell, as bricks are
    checker: float = 0.0  # 1: every other cell takes the second colour
    grain: float = 0.0  # by which share cells differ in brightness
    noise: float = 0.0  # by which share smooth noise changes the brightness ...
    length: Triple = (0.0, 0.0, 0.0)  # ... over this distance


@dataclass(frozen=True)
class Primitive:
    """An upright convex part in its object's frame, whose origin is the centre of the object's bounding box.

    A cylinder is elliptic and stands along z; `half` are half sizes along the object's axes, for every kind.
    """

    kind: str  # one of KINDS
    center: Triple  # metres
    half: Triple  # metres
    albedo: Triple  # red, green, blue in [0, 1]
    texture: Texture | None = None
    shadow: bool = True  # whether it casts one; walls and what lies flat need not


@dataclass(frozen=True)
class Solid:
    """A primitive placed in the world: turned by `yaw` about its own vertical axis."""

    kind: str
    center: np.ndarray  # f64 [3], world
    yaw: float  # radians, counter-clockwise seen from above
    size: np.ndarray  # f64 [3], full sizes along its own axes


@dataclass(frozen=True, eq=False)
class Object:
    """An object standing in the world; its solid is the union of its parts. One that moves is described as the first frame has it."""

    name: str  # class: "mug"
    colour: str  # of its body: "red"
    center: np.ndarray  # f64 [3], world, of the bounding box
    yaw: float  # radians about z, counter-clockwise seen from above
    size: np.ndarray  # f64 [3]: full width, depth, height of the bounding box along the object's own axes x, y, z
    parts: tuple[Primitive, ...]
    parent: int | None = None  # index of the object that bears or holds it; None: the ground
    relation: str | None = None  # to its parent: "on", "in", …
    motion: np.ndarray | None = None  # f64 [F, 4]: center and yaw in each frame; None: it rests

    @property
    def phrase(self) -> str:
        return f"{self.colour} {self.name}"

    def places(self, frames: int) -> tuple[np.ndarray, np.ndarray]:
        """Centers f64 [F, 3] and yaws f64 [F] in each of the first F frames."""
        if self.motion is not None:
            return self.motion[:frames, :3], self.motion[:frames, 3]
        return np.tile(self.center, (frames, 1)), np.full(frames, self.yaw)

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
class Room:
    """A closed room: its floor and its height."""

    corners: np.ndarray  # f64 [n, 2]: of the floor inside the walls, counter-clockwise, metres
    height: float  # metres


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
    whole: np.ndarray | None = None  # i32 [F, objects]: pixels that each object would show if it were alone; None: not known
    room: Room | None = None
