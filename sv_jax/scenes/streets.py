"""Outdoor worlds: a street with houses, seen on a walk along it, or a square, seen from its side."""

from __future__ import annotations

import numpy as np

from sv_jax.scenes import camera, surfaces
from sv_jax.scenes.layout import Layout
from sv_jax.scenes.place import TURNING, Crowd, corners_of, in_disc

KERB = 0.12  # metres that a pavement stands above the road
ON_ROAD = ("car", "van", "bus", "motorcycle")
LARGE = 4.0  # metres of width from which something stands behind the pavement
STREET = 0.55  # share of streets
LOADED = 0, 4  # objects on or in others


def draw(crowd: Crowd, scale: str, rng: np.random.Generator, frames: int, size: tuple[int, int]) -> Layout:
    layout = _street if rng.uniform() < STREET else _square
    props, poses, fov = layout(crowd, rng, frames, size)
    reach = float(np.linalg.norm(poses[0, :3, 3]))
    crowd.load(int(rng.integers(LOADED[0], LOADED[1] + 1)), scale)
    if rng.uniform() < TURNING:
        crowd.turn(frames)
    ground = surfaces.tinted(surfaces.one_of(surfaces.GROUNDS[scale], rng), rng)
    return Layout(
        tuple(crowd.objects), poses, (surfaces.sun(max(reach, 20.0), rng),), np.full(3, 0.55), ground, rng.uniform(0, 5, 2),
        surfaces.one_of(surfaces.SKIES, rng), 400.0, fog=700.0, props=tuple(props), fov=fov,
    )  # fmt: skip


def _street(crowd: Crowd, rng: np.random.Generator, frames: int, size: tuple[int, int]):
    """The street runs along x; the camera walks on a pavement."""
    road, walk = rng.uniform(6.0, 9.0), rng.uniform(2.5, 4.0)  # widths
    long = rng.uniform(30, 45)  # of the stretch with objects
    props = [surfaces.slab([0, 0, 0.0], [400, road, 0.02], surfaces.ASPHALT)]
    dash = ((0.85, 0.85, 0.83), None)
    props += [surfaces.slab([x, 0, 0.012], [3.0, 0.15, 0.01], dash) for x in np.arange(-31.5, 40, 9.0)]
    props += [surfaces.slab([0, side * (road + walk) / 2, KERB / 2], [400, walk, KERB], surfaces.PAVING) for side in (-1, 1)]
    own = -1.0  # the side on which the camera walks: its strip along the road's edge stays free
    lane = own * (road / 2 + 0.6)
    crowd.block(corners_of(np.array([0.0, lane]), 0.0, np.array([long + 40, 0.9])))

    def place(size: np.ndarray, name: str):
        x, side = rng.uniform(-long / 2, long / 2), rng.choice([-1.0, 1.0])
        flip = np.pi * rng.integers(2)
        if name in ON_ROAD:
            return np.array([x, side * (road / 2 - size[1] / 2 - 0.3)]), float(flip)
        front = 0.0 if side < 0 else np.pi  # models face -y
        if max(size[:2]) > LARGE or size[2] > 6:
            return np.array([x, side * (road / 2 + walk + size[1] / 2 + rng.uniform(0.3, 2.0))]), float(np.pi - front)
        return np.array([x, side * (road / 2 + rng.uniform(0.2, 1.0) * (walk - size[1] / 2))]), float(front + rng.uniform(-0.2, 0.2))

    houses = [name for name in crowd.models if max(crowd.models[name].size[:2]) > LARGE and name not in ON_ROAD]
    for name in [str(rng.choice(houses)) for _ in range(rng.integers(3, 6))] + crowd.names(int(rng.integers(9, 15))):
        height = KERB if max(crowd.models[name].size[:2]) <= LARGE and name not in ON_ROAD else 0.0
        crowd.put(name, lambda size, name=name: place(size, name), height)
    eye, start = KERB + rng.uniform(1.5, 1.8), -long / 2 - rng.uniform(3, 6)
    stride = rng.uniform(0.35, 0.7) * long
    end = start + (stride if rng.uniform() < 0.5 else -0.6 * stride)  # forward, or drawing back
    eyes = np.column_stack([np.linspace(start, end, frames), np.full(frames, lane), np.full(frames, eye)])
    glance = np.radians(rng.uniform(5, 12) + rng.uniform(-18, 18) * np.sin(np.linspace(0, np.pi * rng.uniform(0.6, 1.6), frames)))
    ahead = np.stack([np.cos(glance), -own * np.sin(glance), np.full(frames, -rng.uniform(0.02, 0.10))], -1)
    return props, camera.walk(eyes, eyes + ahead, rng), np.radians(rng.uniform(52, 66))


def _square(crowd: Crowd, rng: np.random.Generator, frames: int, size: tuple[int, int]):
    """Things scattered over a square that the camera passes at its edge, or looks down on from a window."""
    radius = rng.uniform(7, 13)
    props = [surfaces.slab([0, 0, 0.0], [2.6 * radius, 2.6 * radius, 0.03], surfaces.PAVING, rng.uniform(0, np.pi))]
    names = [name for name in crowd.names(int(rng.integers(8, 14))) if max(crowd.models[name].size) < radius]
    for name in sorted(names, key=lambda name: -max(crowd.models[name].size[:2])):
        crowd.put(name, in_disc(radius, rng))
    fov = np.radians(rng.uniform(50, 65))
    shown = np.array([[*corner, z] for corner in corners_of(np.zeros(2), 0.0, np.full(2, 1.1 * radius)) for z in (0.0, 0.3 * radius)])
    return props, camera.path(shown, frames, size, (np.radians(12), np.radians(38)), rng, (20.0, 90.0), fov), fov
