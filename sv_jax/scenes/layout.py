"""A scene before it is rendered: what stands where, the light, the camera's path."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sv_jax.scenes import camera
from sv_jax.scenes.scene import Object, Room, Texture, Triple

SUN = 1e4  # distance of the sun in distances of the first camera from the middle of the scene: parallel light
FAR = 25.0  # the ground ends at this depth, in the same distances


@dataclass(frozen=True, eq=False)
class Lamp:
    """A light of a scene."""

    place: np.ndarray  # f64 [3], world
    power: np.ndarray  # f64 [3]: light on a surface that faces it from nearby, red, green, blue
    reach: float = np.inf  # metres at which half of it is left


@dataclass(frozen=True, eq=False)
class Layout:
    """A scene before it is rendered."""

    objects: tuple[Object, ...]
    poses: np.ndarray  # f64 [F, 4, 4], camera to world
    lamps: tuple[Lamp, ...]
    ambient: np.ndarray  # f64 [3]
    ground: tuple[np.ndarray, Texture]  # colour f64 [3], and what varies it
    origin: np.ndarray  # f64 [2], where a corner of the ground's cells lies, metres
    sky: tuple[Triple, Triple]  # horizon, zenith
    far: float  # z-depth in metres where the ground ends
    fog: float = np.inf  # distance in metres over which things fade into the horizon's colour
    props: tuple[Object, ...] = ()  # background that is no object: walls, roads
    room: Room | None = None
    fov: float = camera.FOV  # radians across the shorter side


def upward(azimuth: float, rise: float) -> np.ndarray:
    """The unit vector [3] towards `azimuth`, `rise` above the horizon, both in radians."""
    return np.array([np.cos(rise) * np.cos(azimuth), np.cos(rise) * np.sin(azimuth), np.sin(rise)])
