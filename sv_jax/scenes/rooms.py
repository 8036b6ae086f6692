"""Indoor worlds: a furnished room with a door and windows, seen on a walk through it."""

from __future__ import annotations

import numpy as np

from sv_jax.scenes import camera, surfaces
from sv_jax.scenes.layout import Layout
from sv_jax.scenes.place import TURNING, Crowd, corners_of, meet
from sv_jax.scenes.scene import Room

WALL = 0.12  # metres of thickness
COUNT = 7, 13
LOADED = 1, 5
EYE = 1.35, 1.75  # height of the camera, metres
AROUND = 0.4  # share of clips that look all around: only they show the whole room
CLEARANCE = 0.45  # metres between the camera's way and what it could run into
AGAINST = ("wardrobe", "sofa", "bed", "bookshelf", "desk", "fridge", "television", "radiator", "piano", "washing machine", "toilet")


def draw(crowd: Crowd, scale: str, rng: np.random.Generator, frames: int, size: tuple[int, int]) -> Layout | None:
    """A rectangular or L-shaped room whose floor lies around the origin; None where no way through it was found."""
    width, depth, height = rng.uniform(3.8, 7.5), rng.uniform(3.4, 6.0), rng.uniform(2.4, 3.1)
    floor, cut = _floor(width, depth, rng)
    if cut is not None:
        crowd.block(cut)
    count = int(rng.integers(COUNT[0], COUNT[1] + 1))
    along_wall, inside = _against(floor, rng), _inside(floor, rng)
    for name in sorted(crowd.names(count), key=lambda name: -max(crowd.models[name].size[:2])):
        crowd.put(name, along_wall if name in AGAINST or rng.uniform() < 0.3 else inside)
    crowd.load(int(rng.integers(LOADED[0], LOADED[1] + 1)), "indoor")
    if rng.uniform() < TURNING:
        crowd.turn(frames)
    poses = _walk(crowd, floor, frames, rng)
    if poses is None:
        return None
    middle = floor.mean(0)
    lights = (surfaces.lamp([*middle, height - 0.25], 5.0, rng, 0.85),)
    ground = surfaces.tinted(surfaces.one_of(surfaces.GROUNDS[scale], rng), rng)
    return Layout(
        tuple(crowd.objects), poses, lights, np.full(3, 0.46), ground, rng.uniform(0, 5, 2), surfaces.ROOM, 60.0,
        props=_shell(floor, height, rng), room=Room(floor, height), fov=np.radians(rng.uniform(58, 72)),
    )  # fmt: skip


def _floor(width: float, depth: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray | None]:
    """Corners [n, 2], counter-clockwise, of the floor, and of the rectangle [4, 2] that an L-shaped one lacks."""
    a, b = width / 2, depth / 2
    if rng.uniform() < 0.7:
        return np.array([[a, b], [-a, b], [-a, -b], [a, -b]]), None
    x, y = a - rng.uniform(0.3, 0.5) * width, b - rng.uniform(0.3, 0.5) * depth
    cut = corners_of(np.array([(a + x) / 2, (b + y) / 2]), 0.0, np.array([a - x, b - y]))
    return np.array([[a, y], [x, y], [x, b], [-a, b], [-a, -b], [a, -b]]), cut


def _against(floor: np.ndarray, rng: np.random.Generator):
    """Places along the walls; an object's back, its +y side, is at the wall."""
    edges = np.roll(floor, -1, 0) - floor

    def place(size: np.ndarray) -> tuple[np.ndarray, float]:
        lengths = np.linalg.norm(edges, axis=1)
        i = rng.choice(len(edges), p=lengths / lengths.sum())
        way = edges[i] / lengths[i]
        inward = np.array([-way[1], way[0]])
        room = max(lengths[i] - size[0] - 0.1, 0.0)
        xy = floor[i] + way * (size[0] / 2 + 0.05 + rng.uniform() * room) + inward * (size[1] / 2 + 0.04)
        return xy, float(np.arctan2(-inward[1], -inward[0]) - np.pi / 2)

    return place


def _inside(floor: np.ndarray, rng: np.random.Generator):
    """Places away from the walls."""
    low, high = floor.min(0), floor.max(0)

    def place(size: np.ndarray) -> tuple[np.ndarray, float]:
        reach = np.hypot(*size[:2]) / 2 + 0.3
        xy = (low + high) / 2 + rng.uniform(-1, 1, 2) * np.maximum((high - low) / 2 - reach, 0)
        yaw = rng.integers(4) * np.pi / 2 + rng.uniform(-0.15, 0.15) if rng.uniform() < 0.5 else rng.uniform(-np.pi, np.pi)
        return xy, float(yaw)

    return place


def _walk(crowd: Crowd, floor: np.ndarray, frames: int, rng: np.random.Generator) -> np.ndarray | None:
    """A way between two free places; the view turns over the room, in some clips all around."""
    low, high = floor.min(0) + CLEARANCE, floor.max(0) - CLEARANCE
    eye = rng.uniform(*EYE)
    # what reaches up to the camera is in its way; what is lower may be close, but not fill the picture
    solid = [corners_of(o.center[:2], o.yaw, o.size, CLEARANCE if o.center[2] + o.size[2] / 2 > eye - 0.35 else 0.1) for o in crowd.objects]
    solid += [corners_of(c.mean(0), 0.0, np.ptp(c, axis=0), CLEARANCE) for c in crowd.blocked]
    middle = np.mean([thing.center[:2] for thing in crowd.objects], 0)
    sweep = rng.choice([-1.0, 1.0]) * np.radians(rng.uniform(300, 345) if rng.uniform() < AROUND else rng.uniform(50, 130))
    for _ in range(200):
        start, end = sorted(rng.uniform(low, high, (2, 2)), key=lambda spot: -np.linalg.norm(spot - middle))
        if np.linalg.norm(end - start) < 0.8 or np.linalg.norm(start - middle) < 1.2:
            continue
        way = camera.along(np.array([start, end]), frames)
        steps = camera.along(np.array([start, end]), 12)
        if any(meet(corners_of(spot, 0.0, np.full(2, 0.02)), box) for spot in steps for box in solid):
            continue
        toward = middle - way[0]  # at first, what is there lies ahead
        angle = np.arctan2(toward[1], toward[0]) + sweep * np.linspace(-0.1, 0.9, frames)
        down = np.tan(np.radians(rng.uniform(12, 24)))
        ahead = np.stack([np.cos(angle), np.sin(angle), np.full(frames, -down)], -1)
        eyes = np.column_stack([way, np.full(frames, eye) + 0.02 * np.sin(np.arange(frames))])
        return camera.walk(eyes, eyes + ahead, rng)
    return None


def _shell(floor: np.ndarray, height: float, rng: np.random.Generator):
    """Walls around the floor, ceiling, a door and windows."""
    paper = surfaces.one_of(surfaces.WALLS, rng)
    parts = [
        surfaces.slab([*(floor.min(0) + floor.max(0)) / 2, height + 0.05], [*np.ptp(floor, axis=0) + 1, 0.1], ((0.88, 0.88, 0.86), None))
    ]
    edges = np.roll(floor, -1, 0) - floor
    door = int(rng.integers(len(edges)))
    for i, edge in enumerate(edges):
        length = np.linalg.norm(edge)
        way = edge / length
        outward = np.array([way[1], -way[0]])
        yaw, middle = float(np.arctan2(way[1], way[0])), floor[i] + edge / 2
        parts.append(surfaces.slab([*middle + outward * WALL / 2, height / 2], [length + 2 * WALL, WALL, height], paper, yaw))
        where = floor[i] + way * length * rng.uniform(0.35, 0.65)
        if i == door and length > 1.5:
            parts.append(surfaces.slab([*where, 1.02], [0.9, 0.03, 2.04], ((0.45, 0.30, 0.19), None), yaw))
        elif length > 2 and rng.uniform() < 0.6:
            parts.append(surfaces.slab([*where, 1.55], [1.3, 0.03, 1.2], ((0.85, 0.92, 0.97), None), yaw))
    return tuple(parts)
