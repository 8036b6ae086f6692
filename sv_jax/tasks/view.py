"""A scene as its clip shows it: which objects are visible and where, in pixels, depth and world points. Tasks read only this."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.ndimage import find_objects

from sv_jax.scenes import camera
from sv_jax.scenes.scene import Object, Scene
from sv_jax.tasks import geometry, units

VISIBLE = 0.002  # share of the frame's pixels from which an object counts as visible (25 pixels of 112x112) …
UNHIDDEN = 0.6  # … with this share of its silhouette, …
SIDE = 0.03  # … and share of the frame's side that its box must reach both ways
GRID = 32  # rows and columns of points by which the overlap of two frames is measured
SAME_BOX = 0.5  # intersection over union of two boxes from which one may be taken for the other
TOLD = 0.9  # share of comparisons with marks where names would tell the answer
MOST = 0.8  # share of an object's longest side that the clip must show where others are called near or not
WHOLE = 0.95  # share of its silhouette from which nothing that matters of an object is hidden


@dataclass(frozen=True)
class Seen:
    """An object that the first frame shows."""

    index: int  # scene.objects[index]; its pixels hold index + 1
    object: Object
    unique: bool  # no other object of the scene has this phrase
    box: tuple[int, int, int, int]  # x0, y0, x1, y1 of its pixels in the first frame, edges (x1, y1 exclusive)
    depth: float  # metres from the camera plane to its nearest pixel in the first frame
    x: int  # percent of the width from the left edge of the first frame to the middle of its box
    sides: tuple[float, float]  # left and right end in pixels of the first frame, of hidden parts, too
    front: float  # metres from the camera plane to its nearest point, be it hidden or outside the frame

    @property
    def phrase(self) -> str:
        return self.object.phrase

    @property
    def height(self) -> float:
        return float(self.object.size[2])

    @property
    def top(self) -> float:
        """Metres above the ground."""
        return float(self.object.center[2]) + self.height / 2


@dataclass(frozen=True)
class View:
    """What a clip shows of `scene`. Everything is computed on first use and kept."""

    scene: Scene
    told: float = TOLD  # share of comparisons that mark their objects where the names alone would tell which is taller

    @cached_property
    def pixels(self) -> np.ndarray:
        """i64 [F, objects]: visible pixels of each object in each frame."""
        count = len(self.scene.objects) + 1
        return np.stack([np.bincount(ids.ravel(), minlength=count)[1:] for ids in self.scene.ids])

    @cached_property
    def seen(self) -> tuple[Seen, ...]:
        """The objects at rest that the first frame clearly shows, from left to right."""
        return self._shown(moving=False)

    def _shown(self, moving: bool) -> tuple[Seen, ...]:
        width = self.scene.ids.shape[2]
        phrases = [o.phrase for o in self.scene.objects]
        found = []
        for index, thing in enumerate(self.scene.objects):
            box = self.box(index)
            if box is None or (thing.motion is not None) != moving or self.share(index) < UNHIDDEN:
                continue
            depth = float(self.scene.depth[0][self.mask(index)].min())
            unique, x = phrases.count(thing.phrase) == 1, 50 * (box[0] + box[2]) // width
            found.append(Seen(index, thing, unique, box, depth, x, *self._beyond(index, box, depth)))
        return tuple(sorted(found, key=lambda s: s.box[0] + s.box[2]))

    def box(self, index: int, frame: int = 0) -> tuple[int, int, int, int] | None:
        """x0, y0, x1, y1 (exclusive) of an object that a frame shows clearly, else None."""
        height, width = self.scene.ids.shape[1:]
        if self.pixels[frame, index] < VISIBLE * height * width:
            return None
        x0, y0, x1, y1 = box = self._boxes(frame)[index]
        return box if x1 - x0 >= SIDE * width and y1 - y0 >= SIDE * height else None

    def share(self, index: int, frame: int = 0) -> float:
        """Share of an object's silhouette that nothing hides; 1 where it is not known."""
        whole = self.scene.whole
        return 1.0 if whole is None else float(self.pixels[frame, index] / max(whole[frame, index], 1))

    def _beyond(self, index: int, box: tuple[int, int, int, int], depth: float) -> tuple[tuple[float, float], float]:
        """`sides` and `front` of a Seen: at least those of its pixels. Where the silhouette is not known, neither is what is hidden."""
        sides = float(box[0]), float(box[2])
        if self.scene.whole is None:
            return sides, depth
        solids, pose = self.scene.objects[index].solids, self.scene.poses[0]
        nearest = [geometry.support(solid)(-pose[:3, 2]) for solid in solids]
        front = min(depth, *((np.array(nearest) - pose[:3, 3]) @ pose[:3, 2]).tolist())
        if self.share(index) < WHOLE:
            columns, _, away = camera.project(geometry.corners(solids), self.scene.K, self.scene.poses[:1])[0].T
            width = self.scene.ids.shape[2]
            ends = np.clip([columns.min(), columns.max()], 0, width) if away.min() > 0 else (0, width)
            sides = min(sides[0], float(ends[0])), max(sides[1], float(ends[1]))
        return sides, front

    @cached_property
    def level(self) -> str:
        """The scale anchor: the power of ten nearest to the geometric mean of the visible objects' longest sides."""
        longest = [max(s.object.size) for s in self.seen]
        return units.level(float(np.exp(np.mean(np.log(longest)))))

    def mask(self, index: int, frame: int = 0) -> np.ndarray:
        """bool [H, W]: the object's pixels."""
        return self.scene.ids[frame] == index + 1

    @cached_property
    def _sorted(self) -> tuple[np.ndarray, np.ndarray]:
        """Places of the objects' pixels in the clip, those of each together, and where each object's begin: one pass for all."""
        places = np.flatnonzero(self.scene.ids)
        starts = np.concatenate([[0], np.cumsum(self.pixels.sum(0))])
        return places[np.argsort(self.scene.ids.ravel()[places], kind="stable")], starts

    def cloud(self, index: int) -> np.ndarray:
        """f64 [n, 3]: the visible world points of an object, over all frames."""
        return self.once("cloud", index, lambda: self._cloud(index))

    def _cloud(self, index: int) -> np.ndarray:
        width = self.scene.ids.shape[2]
        points = np.empty((3, self.pixels[:, index].sum())).T  # columns lie together: most uses go along them
        ends = np.cumsum(self.pixels[:, index])
        depth, places = self.scene.depth.reshape(len(ends), -1), self._places(index)
        for frame, (start, end) in enumerate(zip([0, *ends[:-1]], ends, strict=True)):
            place = places[start:end] - frame * depth.shape[1]
            row, column = np.divmod(place, width)
            points[start:end] = geometry.points_at(depth[frame, place], column, row, self.scene.K, self.scene.poses[frame])
        return points

    def _places(self, index: int) -> np.ndarray:
        order, starts = self._sorted
        return order[starts[index] : starts[index + 1]]

    def thin(self, index: int) -> geometry.Tree:
        """`cloud` without points that share a cube of half a pixel's side with another one."""
        return self.once("thin", index, lambda: geometry.tree(geometry.thinned(self.cloud(index), self._side(index) / 2)))

    def _side(self, index: int) -> float:
        """Metres that a pixel spans where an object is nearest to the camera."""
        return float(self.scene.depth.ravel()[self._places(index)].min() / self.scene.K[1, 1])

    def span(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Lowest and highest coordinates [3] of an object's visible points."""
        return self.once("span", index, lambda: (self.cloud(index).min(0), self.cloud(index).max(0)))

    def outline(self, index: int) -> np.ndarray:
        """f64 [n, 2]: corners, counter-clockwise, of the convex outline of an object's visible points, seen from above."""
        return self.once("outline", index, lambda: geometry.hull(self.cloud(index)[:, :2]))

    def visible_height(self, seen: Seen) -> float:
        """Metres that the object's pixels span vertically, with half a pixel more at both ends."""
        return self.once("height", seen.index, lambda: float(np.subtract(*self.span(seen.index)[::-1])[2]) + self.pixel(seen))

    def shows_front(self, seen: Seen) -> bool:
        """Whether the first frame shows the object's nearest point, within 3 % of its depth."""
        return seen.depth <= 1.03 * seen.front

    def shows_height(self, seen: Seen) -> bool:
        """Whether the clip shows the object's full height: within 4 %, by at least 6 pixels."""
        return 6 * self.pixel(seen) <= seen.height and abs(self.visible_height(seen) - seen.height) <= 0.04 * seen.height

    def shows_longest(self, seen: Seen) -> bool:
        """Whether the clip shows most of the object's longest side, by which one judges how near others are."""
        axis = int(np.argmax(seen.object.size))
        if axis == 2:
            return self.visible_height(seen) >= MOST * seen.height
        along = self.outline(seen.index) @ seen.object.rotation[:2, axis]
        return float(np.ptp(along)) >= MOST * float(seen.object.size[axis])

    def pixel(self, seen: Seen) -> float:
        """Metres that one pixel spans on the object."""
        return float(seen.depth / self.scene.K[1, 1])

    def distance(self, a: Seen, b: Seen) -> float:
        """Closest distance of two objects in metres, 0 where they touch."""
        return self.once("distance", frozenset((a.index, b.index)), lambda: geometry.closest_distance(a.object, b.object))

    def gap(self, a: Seen, b: Seen) -> float | None:
        """`distance`; None where they nearly touch or the clip does not show it within 5 %."""
        return self.once("gap", frozenset((a.index, b.index)), lambda: self._gap(a, b))

    def _gap(self, a: Seen, b: Seen) -> float | None:
        true = self.distance(a, b)
        if true < 0.25 * min(max(a.object.size), max(b.object.size)):
            return None
        return true if true * (1 - 1e-6) <= geometry.approach(self.thin(a.index), self.thin(b.index)) < 1.05 * true else None

    def overlap(self, i: int, j: int) -> float:
        """Share of the points of frame i that lie in the image of frame j, of some GRID rows and columns: all would take long."""
        return float(self.once("overlaps", i, lambda: self._overlaps(i))[j])

    def _overlaps(self, i: int) -> np.ndarray:
        height, width = self.scene.ids.shape[1:]
        down, across = max(1, height // GRID), max(1, width // GRID)
        rows, columns = np.mgrid[:height:down, :width:across]
        depth = self.scene.depth[i, ::down, ::across]
        hit = np.isfinite(depth)
        points = geometry.points_at(depth[hit], columns[hit], rows[hit], self.scene.K, self.scene.poses[i])
        x, y, z = np.moveaxis(camera.project(points, self.scene.K, self.scene.poses), -1, 0)
        return ((z > 0) & (x >= 0) & (x < width) & (y >= 0) & (y < height)).mean(1)

    @cached_property
    def bare(self) -> bool:
        """Whether nothing but the objects rises from the ground: no walls, roads or mats, which one might take for objects, too."""
        depth, ids = self.scene.depth[:, ::4, ::4], self.scene.ids[:, ::4, ::4]
        frame, row, column = np.nonzero((ids == 0) & np.isfinite(depth))
        away = depth[frame, row, column]
        up = geometry.points_at(away, 4 * column, 4 * row, self.scene.K, self.scene.poses[frame])[:, 2]
        return not len(up) or float((up > 2e-5 * away).mean()) < 0.001

    def tells_box(self, index: int, frame: int = 0) -> bool:
        """Whether the box around an object's pixels in a frame could not be meant for another object's."""
        boxes = self._boxes(frame)
        return all(geometry.box_iou(boxes[index], box) < SAME_BOX for other, box in boxes.items() if other != index)

    def _boxes(self, frame: int) -> dict[int, tuple[int, int, int, int]]:
        """x0, y0, x1, y1 (exclusive) of every object that a frame shows at all."""
        found = self.once("boxes", frame, lambda: find_objects(self.scene.ids[frame]))
        return {i: (at[1].start, at[0].start, at[1].stop, at[0].stop) for i, at in enumerate(found) if at}

    def once(self, *call):
        """`call[-1]()`, kept under the rest of `call`."""
        key = call[:-1]
        if key not in self._kept:
            self._kept[key] = call[-1]()
        return self._kept[key]

    @cached_property
    def _kept(self) -> dict:
        return {}

    @cached_property
    def moving(self) -> tuple[Seen, ...]:
        """As `seen`, the objects that do not rest."""
        return self._shown(moving=True)
