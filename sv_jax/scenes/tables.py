"""Tiny and tabletop worlds: many things on a desk, some on or in others, seen by hand, all around, or on a way over them."""

from __future__ import annotations

import numpy as np

from sv_jax.scenes import camera, surfaces
from sv_jax.scenes.layout import FAR, Layout
from sv_jax.scenes.place import TURNING, Crowd, corners_of, in_disc

COUNT = 7, 13  # objects that stand on the desk
LOADED = 0, 4  # objects on or in others
TURNTABLE, SLIDE = 0.3, 0.3  # shares of clips that go far around, and that move over the desk
REACH = 0.62, 0.42  # share of the disc's radius that clips show, and those that move


def draw(crowd: Crowd, scale: str, rng: np.random.Generator, frames: int, size: tuple[int, int]) -> Layout:
    """Objects around the origin in a disc that they fill to about a fifth."""
    names = crowd.names(int(rng.integers(COUNT[0], COUNT[1] + 1)))
    longest = max(max(crowd.models[name].size) for name in names)
    names = [name for name in names if max(crowd.models[name].size) > 0.13 * longest]  # what would be a speck is left out
    area = sum(np.prod(crowd.models[name].size[:2]) for name in names)
    radius = float(np.sqrt(area / 0.22 / np.pi))
    for name in sorted(names, key=lambda name: -max(crowd.models[name].size[:2])):
        crowd.put(name, in_disc(radius, rng), gap=0.03 * radius)
    crowd.load(int(rng.integers(LOADED[0], LOADED[1] + 1)), scale)
    if rng.uniform() < TURNING:
        crowd.turn(frames)

    props = []
    if rng.uniform() < 0.6:  # a sheet, mat or cloth under some of them
        sheet = surfaces.one_of(surfaces.GROUNDS[scale], rng)
        side = radius * rng.uniform(0.7, 1.6, 2)
        props.append(surfaces.slab([*rng.uniform(-0.5, 0.5, 2) * radius, 0.0], [*side, 0.004 * radius], sheet, rng.uniform(-np.pi, np.pi)))
    fov = np.radians(rng.uniform(45, 60))
    focus = rng.uniform(-0.2, 0.2, 2) * radius
    kind = rng.uniform()
    slides = kind > 1 - SLIDE
    half, sweep = REACH[int(slides)] * radius, (90.0, 330.0) if kind < TURNTABLE else (15.0, 75.0)
    shown = np.array([[*corner, z] for corner in corners_of(focus, 0.0, np.full(2, 2 * half)) for z in (0.0, 0.25 * radius)])
    poses = camera.path(shown, frames, size, (np.radians(22), np.radians(55)), rng, sweep, fov)
    if slides:
        way = rng.uniform(0, 2 * np.pi)
        poses[:, :2, 3] += np.linspace(-0.5, 0.6, frames)[:, None] * radius * np.array([np.cos(way), np.sin(way)])
    reach = float(np.linalg.norm(poses[0, :3, 3]))
    if rng.uniform() < 0.5:
        lights = (surfaces.sun(reach, rng),)
    else:
        place = [*rng.uniform(-1, 1, 2) * 2.5 * radius, rng.uniform(2.5, 4.5) * radius]
        lights = (surfaces.lamp(place, 5 * radius, rng),)
    ground = surfaces.tinted(surfaces.one_of(surfaces.GROUNDS[scale], rng), rng)
    return Layout(
        tuple(crowd.objects), poses, lights, np.full(3, 0.48), ground, rng.uniform(0, 4 * radius, 2), surfaces.ROOM, FAR * reach,
        props=tuple(props), fov=fov,
    )  # fmt: skip
