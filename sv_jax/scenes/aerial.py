"""Drone worlds: roads, fields, water and buildings over some hundred metres, seen on a flight."""

from __future__ import annotations

import numpy as np

from sv_jax.scenes import camera, surfaces
from sv_jax.scenes.layout import Layout
from sv_jax.scenes.place import TURNING, Crowd, corners_of

COUNT = 11, 19
LOADED = 0, 4  # objects on others


def draw(crowd: Crowd, scale: str, rng: np.random.Generator, frames: int, size: tuple[int, int]) -> Layout:
    """Blocks between straight roads; buildings stand along them."""
    half = rng.uniform(90, 220)  # of the region, metres
    lines = [np.sort(rng.uniform(-0.7, 0.7, rng.integers(1, 3))) * half for _ in range(2)]  # y of roads along x, x of roads along y
    wide, props = rng.uniform(7, 12), []
    for axis, places in enumerate(lines):
        for at in places:
            center, span = ((0, at), (12 * half, wide)) if axis == 0 else ((at, 0), (wide, 12 * half))
            crowd.block(corners_of(np.array(center, float), 0.0, np.array(span)))
            props.append(surfaces.slab([*center, 0.02 + 0.02 * axis], [*span, 0.04], surfaces.ASPHALT))
    for _ in range(int(rng.integers(2, 5))):  # fields
        colour = surfaces.one_of(((0.47, 0.46, 0.26), (0.31, 0.42, 0.20), (0.52, 0.44, 0.30)), rng)
        side = rng.uniform(0.3, 1.0, 2) * half
        field = surfaces.one_of(surfaces.GROUNDS["drone"], rng)[1]
        props.append(surfaces.slab([*rng.uniform(-1.6, 1.6, 2) * half, 0.0], [*side, 0.02], (colour, field), rng.integers(2) * 0.3))
    if rng.uniform() < 0.5:  # a lake, kept free
        place, side = rng.uniform(-0.8, 0.8, 2) * half, rng.uniform(0.25, 0.6, 2) * half
        props.append(surfaces.slab([*place, 0.0], [*side, 0.03], surfaces.WATER, 0.0, "cylinder"))
        crowd.block(corners_of(place, 0.0, side))

    def beside_road(size: np.ndarray):
        axis = int(rng.integers(2))
        at, along = rng.choice(lines[axis]), rng.uniform(-half, half)
        off = rng.choice([-1.0, 1.0]) * (wide / 2 + size[1] / 2 + rng.uniform(2, 20))
        turn = np.pi * rng.integers(2) + rng.uniform(-0.1, 0.1)
        return (np.array([along, at + off]), float(turn)) if axis == 0 else (np.array([at + off, along]), float(turn + np.pi / 2))

    def anywhere(size: np.ndarray):
        return rng.uniform(-half, half, 2), float(rng.uniform(-np.pi, np.pi))

    names = [name for name in crowd.names(int(rng.integers(COUNT[0], COUNT[1] + 1))) if max(crowd.models[name].size[:2]) < 0.9 * half]
    for name in sorted(names, key=lambda name: -max(crowd.models[name].size[:2])):
        crowd.put(name, beside_road if rng.uniform() < 0.7 else anywhere)
    crowd.load(int(rng.integers(LOADED[0], LOADED[1] + 1)), scale)
    if rng.uniform() < TURNING:
        crowd.turn(frames)
    fov = np.radians(rng.uniform(50, 68))
    poses = _flight(half, frames, rng) if rng.uniform() < 0.5 else _orbit(half, frames, size, fov, rng)
    reach = float(np.linalg.norm(poses[0, :3, 3]))
    ground = surfaces.tinted(surfaces.one_of(surfaces.GROUNDS[scale], rng), rng)
    return Layout(
        tuple(crowd.objects), poses, (surfaces.sun(reach, rng),), np.full(3, 0.55), ground, rng.uniform(0, 200, 2),
        surfaces.one_of(surfaces.SKIES, rng), 6000.0, fog=rng.uniform(12, 30) * half, props=tuple(props), fov=fov,
    )  # fmt: skip


def _flight(half: float, frames: int, rng: np.random.Generator) -> np.ndarray:
    """Straight over the region, looking ahead and down; or backward, away from it."""
    azimuth, pitch, altitude = rng.uniform(0, 2 * np.pi), np.radians(rng.uniform(30, 60)), rng.uniform(0.55, 1.1) * half
    ahead = np.array([np.cos(azimuth), np.sin(azimuth)])
    start = -ahead * (altitude / np.tan(pitch) + rng.uniform(0.1, 0.4) * half) + rng.uniform(-0.2, 0.2, 2) * half
    length = rng.uniform(0.3, 0.9) * (half if rng.uniform() < 0.5 else -0.6 * half)
    way = start + np.linspace(0, length, frames)[:, None] * ahead
    eyes = np.column_stack([way, altitude * (1 + rng.uniform(-0.15, 0.15) * np.linspace(0, 1, frames))])
    yaw = azimuth + np.radians(rng.uniform(-25, 25)) * np.linspace(-1, 1, frames)
    forward = np.stack([np.cos(yaw) * np.cos(pitch), np.sin(yaw) * np.cos(pitch), np.full(frames, -np.sin(pitch))], -1)
    return camera.walk(eyes, eyes + forward, rng, 0.004)


def _orbit(half: float, frames: int, size: tuple[int, int], fov: float, rng: np.random.Generator) -> np.ndarray:
    shown = np.array(
        [[*corner, z] for corner in corners_of(rng.uniform(-0.2, 0.2, 2) * half, 0.0, np.full(2, 1.1 * half)) for z in (0.0, 20.0)]
    )
    return camera.path(shown, frames, size, (np.radians(30), np.radians(58)), rng, (15.0, 80.0), fov)
