"""Where objects can stand: free places among rectangles on the ground, and on the shelves of other objects."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from sv_jax.scenes.catalogue import CLASSES, Model
from sv_jax.scenes.scene import Object
from sv_jax.scenes.worlds import COLOURS, build

TRIES = 40  # places that are drawn for an object before it is left out
Place = Callable[[np.ndarray], tuple[np.ndarray, float]]  # size [3] -> a place [2] and a yaw, drawn
TURNING = 0.35  # share of scenes with an object that turns
LONGISH = 1.25  # times as long as wide
SAME_LOOK = 0.25  # share of repeated classes whose objects also have the same colour


def corners_of(xy: np.ndarray, yaw: float, size: np.ndarray, gap: float = 0.0) -> np.ndarray:
    """f64 [4, 2]: corners, counter-clockwise, of a rectangle of `size` (width, depth) that is `gap` wider on all sides."""
    cos, sin = np.cos(yaw), np.sin(yaw)
    half = np.array(size[:2]) / 2 + gap
    return xy + (np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]]) * half) @ np.array([[cos, sin], [-sin, cos]])


def meet(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two rectangles, corners [4, 2], overlap."""
    for first, second in ((a, b), (b, a)):
        edges = np.roll(first, -1, 0)[:2] - first[:2]
        for normal in np.stack([-edges[:, 1], edges[:, 0]], -1):
            p, q = first @ normal, second @ normal
            if p.max() <= q.min() or q.max() <= p.min():
                return False
    return True


class Crowd:
    """Objects of a scene as they are put in place; nothing stands in anything else."""

    def __init__(self, scale: str, rng: np.random.Generator, gap: float, *, unseen: bool = False, odd: bool = False):
        """`gap` metres stay free around each. `unseen` takes classes that other worlds never show, too; `odd` sizes are half or twice the
        usual ones for a third of the objects."""
        self.rng, self._gap, self._odd = rng, gap, odd
        self._unseen = unseen
        self.models = self._of(scale)
        self.objects: list[Object] = []
        self.blocked: list[np.ndarray] = []
        self._taken: list[np.ndarray] = []
        self._looks: dict[str, list[str]] = {}  # class -> colours that its next objects take

    def _of(self, scale: str) -> dict[str, Model]:
        return {name: model for name, model in CLASSES[scale].items() if self._unseen or model.tier != "unseen"}

    def block(self, corners: np.ndarray) -> None:
        """Keep a rectangle [4, 2] free of objects."""
        self.blocked.append(corners)
        self._taken.append(corners)

    def names(self, count: int, among: list[str] | None = None) -> list[str]:
        """`count` classes to place; one or two of them several times, and those of unseen classes first."""
        names = list(among or self.models)
        order = [names[i] for i in self.rng.permutation(len(names))]
        order.sort(key=lambda name: self.models[name].tier != "unseen")
        repeated = order[: self.rng.integers(1, 3)]
        extra = [name for name in repeated for _ in range(int(self.rng.integers(1, 4)))]
        return [*order, *(order[i % len(order)] for i in range(count))][: max(count - len(extra), 1)] + extra[: count - 1]

    def size_of(self, model: Model) -> np.ndarray:
        """f64 [3]: a size near the usual one."""
        factor = self.rng.uniform(0.8, 1.2)
        if self._odd and self.rng.uniform() < 1 / 3:
            factor *= self.rng.choice([0.5, 2.0])
        return np.array(model.size) * factor * self.rng.uniform(0.92, 1.08, 2)[[0, 0, 1]]

    def colour_of(self, name: str) -> str:
        """A colour for one more object of a class: another one than the last ones', unless the class looks alike."""
        if not self._looks.get(name):
            looks = [str(c) for c in self.rng.permutation(list(COLOURS))]
            self._looks[name] = [looks[0]] * len(looks) if self.rng.uniform() < SAME_LOOK else looks
        return self._looks[name].pop()

    def put(self, name: str, place: Place, z: float = 0.0, gap: float | None = None) -> Object | None:
        """One object of a class at a free place, `z` metres up; None where none was found."""
        model = self.models[name]
        size = self.size_of(model)
        for _ in range(TRIES):
            xy, yaw = place(size)
            around = corners_of(xy, yaw, size, self._gap if gap is None else gap)
            if not any(meet(around, other) for other in self._taken):
                self._taken.append(corners_of(xy, yaw, size))
                self.objects.append(build(name, model, self.colour_of(name), size, xy, yaw, z))
                return self.objects[-1]
        return None

    def load(self, count: int, scale: str) -> None:
        """Put up to `count` objects of a scale's classes onto or into the shelves of objects that have room for them."""
        models = self._of(scale)
        bearers = [i for i, thing in enumerate(self.objects) if self.models[thing.name].shelf]
        used: list[tuple[int, np.ndarray]] = []
        for _ in range(4 * count):
            if not bearers or len(used) == count:
                return
            index = int(self.rng.choice(bearers))
            bearer, shelf = self.objects[index], self.models[self.objects[index].name].shelf
            name = str(self.rng.choice(shelf.bears or list(models)))
            size, yaw = self.size_of(models[name]), float(self.rng.uniform(-np.pi, np.pi))
            low, high = (np.array([getattr(shelf, axis)[end] for axis in "xy"]) * bearer.size[:2] - bearer.size[:2] / 2 for end in (0, 1))
            turned = np.abs(corners_of(np.zeros(2), yaw, size)).max(0)  # half extents along the bearer's axes
            room = (high - low) / 2 - turned
            if (room < 0).any() or size[2] > 3 * min(high - low):
                continue
            local = (low + high) / 2 + self.rng.uniform(-1, 1, 2) * room
            around = corners_of(local, yaw, size, 0.02 * float(min(high - low)))
            if any(meet(around, other) for i, other in used if i == index):
                continue
            used.append((index, corners_of(local, yaw, size)))
            xy = bearer.center[:2] + bearer.rotation[:2, :2] @ local
            z = bearer.center[2] + (shelf.z - 0.5) * bearer.size[2]
            colour = self.colour_of(name)
            self.objects.append(build(name, models[name], colour, size, xy, bearer.yaw + yaw, z, parent=index, relation=shelf.relation))

    def turn(self, frames: int) -> None:
        """Let one object that has room for it turn in place during the clip, evenly, by 25 to 160 degrees; a longish one if there is one,
        as one sees how far it turns."""
        bearers = {thing.parent for thing in self.objects}
        sides = np.array([thing.size[:2] for thing in self.objects])
        round_ones = sides.max(1) < LONGISH * sides.min(1)
        for i in sorted(self.rng.permutation(len(self.objects)).tolist(), key=lambda i: round_ones[i]):
            thing = self.objects[i]
            around = corners_of(thing.center[:2], 0.0, np.full(2, np.hypot(*thing.size[:2])))
            others = [corners_of(o.center[:2], o.yaw, o.size) for o in self.objects if o is not thing]
            if i in bearers or thing.parent is not None or any(meet(around, other) for other in [*others, *self.blocked]):
                continue
            angle = self.rng.choice([-1.0, 1.0]) * np.radians(self.rng.uniform(25, 160))
            yaws = thing.yaw + angle * np.linspace(0, 1, frames)
            self.objects[i] = dataclasses.replace(thing, motion=np.column_stack([np.tile(thing.center, (frames, 1)), yaws]))
            return


def in_disc(radius: float, rng: np.random.Generator) -> Place:
    """Places in a disc around the origin, turned anyhow."""

    def place(size: np.ndarray) -> tuple[np.ndarray, float]:
        angle, distance = rng.uniform(0, 2 * np.pi), radius * np.sqrt(rng.uniform())
        return distance * np.array([np.cos(angle), np.sin(angle)]), float(rng.uniform(-np.pi, np.pi))

    return place
