from __future__ import annotations

import numpy as np
import pytest

from sv_jax.scenes.camera import intrinsics, look_along
from sv_jax.scenes.scene import Object, Room, Scene
from sv_jax.tasks import ask
from tests.tasks.recompute import Pixels, check

SIDE = 64
HEIGHT = 2.6


def corners(width: float, depth: float, cut: float) -> np.ndarray:
    """A rectangle around the origin, or an L whose arms are 1 - cut wide."""
    a, b = width / 2, depth / 2
    if not cut:
        return np.array([[a, b], [-a, b], [-a, -b], [a, -b]])
    x, y = a - cut * width, b - cut * depth
    return np.array([[a, y], [x, y], [x, b], [-a, b], [-a, -b], [a, -b]])


def look(floor: np.ndarray, sweep: float, down: float = 0.25, frames: int = 12) -> Scene:
    """An empty room seen on a turn by `sweep` degrees from a corner that all of it can be seen from, by the nearest plane that a ray meets;
    a patch of the first frame stands for an object."""
    K = intrinsics((SIDE, SIDE), np.radians(70))
    eye = np.append(floor.min(0) * 0.6, 1.5)
    angle = np.radians(sweep) * np.linspace(0, 1, frames) + 0.3
    ahead = np.stack([np.cos(angle), np.sin(angle), np.full(frames, -down)], -1)
    axes = look_along(ahead / np.linalg.norm(ahead, axis=1, keepdims=True), np.zeros(frames))
    u, v = np.meshgrid(np.arange(SIDE) + 0.5, np.arange(SIDE) + 0.5)
    rays = np.einsum("fij,hwj->fhwi", axes, np.stack([u, v, np.ones_like(u)], -1) @ np.linalg.inv(K).T)
    with np.errstate(divide="ignore", invalid="ignore"):
        depth = np.where(rays[..., 2] < 0, -eye[2] / rays[..., 2], (HEIGHT - eye[2]) / rays[..., 2])
        for a, b in zip(floor, np.roll(floor, -1, 0), strict=True):
            axis = int(a[0] != b[0])  # the wall lies across this axis
            t = (a[axis] - eye[axis]) / rays[..., axis]
            along = eye[1 - axis] + t * rays[..., 1 - axis]
            low, high = sorted((a[1 - axis], b[1 - axis]))
            depth = np.where((t > 0) & (along >= low) & (along <= high) & (t < depth), t, depth)
    ids = np.zeros(depth.shape, np.uint8)
    ids[0, 30:36, 30:36] = 1
    poses = np.tile(np.eye(4), (frames, 1, 1))
    poses[:, :3, :3], poses[:, :3, 3] = axes, eye
    mug = Object("mug", "red", np.zeros(3), 0.0, np.ones(3), ())
    frames = np.zeros((*ids.shape, 3), np.uint8)
    return Scene("indoor-0", "indoor", frames, depth.astype(np.float32), ids, K, poses, 2.0, (mug,), None, Room(floor, HEIGHT))


ROOMS = [(4.0, 3.5, 0.0), (6.8, 4.1, 0.0), (5.0, 5.0, 0.4), (7.0, 4.5, 0.3), (6.0, 5.5, 0.5)]


@pytest.mark.parametrize("width, depth, cut", ROOMS)
@pytest.mark.parametrize("down", [0.25, -0.1])
def test_area_and_volume_follow_from_background_points(width, depth, cut, down):
    scene = look(corners(width, depth, cut), 330, down)
    asked = [qa for k in range(4) for qa in ask(scene, np.random.default_rng(k), 2, ["room_size"])]
    pixels = Pixels.of(scene)
    for qa in asked:
        assert (verdict := check(pixels, qa)).agrees, (verdict, qa)
        assert "cubic" in qa.question if qa.unit == "m³" else "square" in qa.question
        assert f"{qa.answer} {qa.unit.translate({178: '2', 179: '3'})}." in qa.reasoning
    assert {"m²", "m³"} >= {qa.unit for qa in asked} and any(qa.unit == "m²" for qa in asked)
    assert any(qa.unit == "m³" for qa in asked)


def test_nothing_is_asked_of_a_room_seen_in_part_or_not_at_all():
    floor = corners(5.0, 4.0, 0.0)
    assert ask(look(floor, 330), np.random.default_rng(0), 1, ["room_size"])
    assert not ask(look(floor, 150), np.random.default_rng(0), 1, ["room_size"])
    scene = look(floor, 330)
    scene.ids[1:] = 1  # something stands before all walls
    assert not ask(scene, np.random.default_rng(0), 1, ["room_size"])


def test_a_clip_that_never_looks_up_is_not_asked_for_a_volume():
    scene = look(corners(4.0, 3.5, 0.0), 330, down=0.7)
    assert {qa.unit for k in range(6) for qa in ask(scene, np.random.default_rng(k), 1, ["room_size"])} == {"m²"}


def test_worlds_without_a_room_give_nothing(scenes):
    assert not any(ask(scene, np.random.default_rng(0), 1, ["room_size"]) for scene in scenes)
