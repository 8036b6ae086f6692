"""A scene as its clip shows it: which objects are visible and where, in pixels, depth and world points. Tasks read only this."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from sv_jax.scenes import camera
from sv_jax.scenes.scene import Object, Scene
from sv_jax.tasks import geometry, units

VISIBLE = 0.002  # share of the frame's pixels from which an object counts as visible (25 pixels of 112x112) …
SIDE = 0.03  # … and share of the frame's side that its box must reach both ways


@dataclass(frozen=True)
class Seen:
    """An object that the first frame shows."""

    index: int  # scene.objects[index]; its pixels hold index + 1
    object: Object
    unique: bool  # no other object of the scene has this phrase
    box: tuple[int, int, int, int]  # x0, y0, x1, y1 of its pixels in the first frame, edges (x1, y1 exclusive)
    depth: float  # metres from the camera plane to its nearest pixel in the first frame
    x: int  # percent of the width from the left edge of the first frame to the middle of its box

    @property
    def phrase(self) -> str:
        return self.object.phrase

    @property
    def height(self) -> float:
        return float(self.object.size[2])


@dataclass(frozen=True)
class View:
    """What a clip shows of `scene`. Everything is computed on first use and kept."""

    scene: Scene

    @cached_property
    def pixels(self) -> np.ndarray:
        """i64 [F, objects]: visible pixels of each object in each frame."""
        count = len(self.scene.objects) + 1
        return np.stack([np.bincount(ids.ravel(), minlength=count)[1:] for ids in self.scene.ids])

    @cached_property
    def seen(self) -> tuple[Seen, ...]:
        """The objects clearly visible in the first frame, from left to right."""
        width = self.scene.ids.shape[2]
        phrases = [o.phrase for o in self.scene.objects]
        found = []
        for index, thing in enumerate(self.scene.objects):
            box = self.box(index)
            if box is None:
                continue
            depth = float(self.scene.depth[0][self.mask(index)].min())
            found.append(Seen(index, thing, phrases.count(thing.phrase) == 1, box, depth, 50 * (box[0] + box[2]) // width))
        return tuple(sorted(found, key=lambda s: s.box[0] + s.box[2]))

    def box(self, index: int, frame: int = 0) -> tuple[int, int, int, int] | None:
        """x0, y0, x1, y1 (exclusive) of an object that a frame shows clearly, else None."""
        height, width = self.scene.ids.shape[1:]
        if self.pixels[frame, index] < VISIBLE * height * width:
            return None
        x0, y0, x1, y1 = box = geometry.box_of(self.mask(index, frame))
        return box if x1 - x0 >= SIDE * width and y1 - y0 >= SIDE * height else None

    @cached_property
    def level(self) -> str:
        """The scale anchor: the power of ten nearest to the geometric mean of the visible objects' longest sides."""
        longest = [max(s.object.size) for s in self.seen]
        return units.level(float(np.exp(np.mean(np.log(longest)))))

    def mask(self, index: int, frame: int = 0) -> np.ndarray:
        """bool [H, W]: the object's pixels."""
        return self.scene.ids[frame] == index + 1

    @cached_property
    def points(self) -> np.ndarray:
        """f64 [F, H, W, 3]: the world point behind every pixel's centre."""
        return geometry.world_points(self.scene.depth, self.scene.K, self.scene.poses)

    def cloud(self, index: int) -> np.ndarray:
        """f64 [n, 3]: the visible world points of an object, over all frames."""
        return self._once("cloud", index, lambda: self.points[self.scene.ids == index + 1])

    def outline(self, index: int) -> np.ndarray:
        """f64 [n, 2]: corners, counter-clockwise, of the convex outline of an object's visible points, seen from above."""
        return self._once("outline", index, lambda: geometry.hull(self.cloud(index)[:, :2]))

    def visible_height(self, seen: Seen) -> float:
        """Metres that the object's pixels span vertically, with half a pixel more at both ends."""
        return self._once("height", seen.index, lambda: float(np.ptp(self.cloud(seen.index)[:, 2])) + self.pixel(seen))

    def shows_height(self, seen: Seen) -> bool:
        """Whether the clip shows the object's full height: within 4 %, by at least 6 pixels."""
        return 6 * self.pixel(seen) <= seen.height and abs(self.visible_height(seen) - seen.height) <= 0.04 * seen.height

    def pixel(self, seen: Seen) -> float:
        """Metres that one pixel spans on the object."""
        return float(seen.depth / self.scene.K[1, 1])

    def gap(self, a: Seen, b: Seen) -> float | None:
        """Closest distance of two objects in metres; None where they nearly touch or the clip does not show it within 5 %."""
        return self._once("gap", frozenset((a.index, b.index)), lambda: self._gap(a.object, b.object, a.index, b.index))

    def _gap(self, a: Object, b: Object, i: int, j: int) -> float | None:
        true = geometry.closest_distance(a, b)
        if true < 0.25 * min(max(a.size), max(b.size)):
            return None
        visible = geometry.cloud_distance(self.cloud(i), self.cloud(j), below=1.05 * true)
        return true if true * (1 - 1e-6) <= visible < np.inf else None

    def overlap(self, i: int, j: int) -> float:
        """Share of the points of frame i that lie in the image of frame j, of every eighth row and column: all would take long."""
        return self._once("overlap", i, j, lambda: self._overlap(i, j))

    def _overlap(self, i: int, j: int) -> float:
        height, width = self.scene.ids.shape[1:]
        points = self.points[i, ::8, ::8][np.isfinite(self.scene.depth[i, ::8, ::8])]
        x, y, z = camera.project(points, self.scene.K, self.scene.poses[[j]])[0].T
        return float(((z > 0) & (x >= 0) & (x < width) & (y >= 0) & (y < height)).mean())

    def _once(self, *call):
        """`call[-1]()`, kept under the rest of `call`."""
        key = call[:-1]
        if key not in self._kept:
            self._kept[key] = call[-1]()
        return self._kept[key]

    @cached_property
    def _kept(self) -> dict:
        return {}
