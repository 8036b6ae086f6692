"""Objects that turn, rendered for this, and the balance of how the camera moved."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from sv_jax.scenes import camera, plain
from sv_jax.scenes.generate import render
from sv_jax.scenes.place import corners_of
from sv_jax.scenes.scene import Room, Scene
from sv_jax.scenes.worlds import WORLDS, build
from sv_jax.tasks.motion import rotation, view_change
from sv_jax.tasks.view import View
from tests.tasks.recompute import Pixels
from tests.tasks.recompute.motion import turned

SIZE, FRAMES = (112, 112), 4
TURNING = {("tabletop", "book"): 105.0, ("indoor", "sofa"): -75.0, ("drone", "warehouse"): 60.0, ("tabletop", "can"): 100.0}  # degrees


@pytest.fixture(scope="module")
def turning():
    """(scale, class) -> a scene with one object, which turns."""
    layouts = []
    for seed, ((scale, name), degrees) in enumerate(TURNING.items()):
        rng, model = np.random.default_rng(seed), WORLDS[scale].models[name]
        size = np.array(model.size)
        thing = build(name, model, "red", size, np.zeros(2), 0.3)
        yaws = 0.3 + np.radians(degrees) * np.linspace(0, 1, FRAMES)
        thing = replace(thing, motion=np.column_stack([np.tile(thing.center, (FRAMES, 1)), yaws]))
        ground = corners_of(np.zeros(2), 0.0, 1.2 * np.full(2, np.hypot(*size[:2])))
        shown = np.array([[*corner, z] for corner in ground for z in (0.0, size[2])])
        poses = camera.path(shown, FRAMES, SIZE, (np.radians(48), np.radians(52)), rng)
        layouts.append(replace(plain.draw(scale, rng, FRAMES, SIZE), objects=(thing,), poses=poses))
    rgb, depth, ids, whole = (np.asarray(a) for a in render(layouts, SIZE, len(layouts))[:4])
    return {
        key: Scene(
            "-".join(key), key[0], rgb[i], depth[i], ids[i], camera.intrinsics(SIZE, o.fov), o.poses, 2.0, o.objects, whole[i, :, :1]
        )
        for i, (key, o) in enumerate(zip(TURNING, layouts, strict=True))
    }


def frames_of(qa) -> tuple[int, int]:
    """The two frames, from 0, in the order in which the question names them."""
    numbers = {"the first frame": 0, "the last frame": FRAMES - 1, **{f"frame {k + 1}": k for k in range(FRAMES)}}
    first, then = dict.fromkeys(re.findall(r"the first frame|the last frame|frame \d+", qa.question))
    return numbers[first], numbers[then]


def questions(scene: Scene) -> list:
    view = View(scene)
    asked = [rotation(view, np.random.default_rng(seed)) for seed in range(40)]
    return [qa for qa in asked if qa and "the red" in qa.question]


@pytest.mark.parametrize("key", list(TURNING)[:3], ids="-".join)
def test_angle_and_sense_of_a_turn_follow_from_outlines_followed_from_frame_to_frame(turning, key):
    scene = turning[key]
    steps = np.degrees(turned(Pixels.of(scene), 1))
    assert sum(steps) == pytest.approx(TURNING[key], abs=4)
    kinds = Counter()
    for qa in questions(scene):
        i, j = frames_of(qa)
        assert set(range(i, j + 1)) | {mark["frame"] for mark in qa.marks} == set(qa.frames)
        angle = sum(steps[i:j])
        if qa.options:
            assert qa.options["AB".index(qa.answer)] == ("counter-clockwise" if angle > 0 else "clockwise")
        else:
            assert float(qa.answer) == pytest.approx(abs(angle), abs=max(4, 0.1 * abs(angle)))
            assert 10 <= float(qa.answer) <= 170 and np.degrees(qa.answer_si) == pytest.approx(float(qa.answer), abs=0.51)
        kinds[qa.answer_type, qa.answer if qa.options else ""] += 1
    assert set(kinds) == {("number", ""), ("choice", "A"), ("choice", "B")}


def test_turns_that_the_frames_do_not_show_are_not_asked_for(turning):
    """Of a round object; of one that turns otherwise than its pixels; in steps that the eye cannot follow."""
    assert not questions(turning["tabletop", "can"])
    scene = turning["tabletop", "book"]
    for factor in (1.2, 1 + 540 / TURNING["tabletop", "book"]):
        motion = scene.objects[0].motion.copy()
        motion[:, 3] = 0.3 + factor * (motion[:, 3] - 0.3)
        assert not questions(replace(scene, objects=(replace(scene.objects[0], motion=motion),)))


def test_of_a_walk_forward_and_backward_are_asked_equally(scenes):
    """A camera that goes straight ahead, over the pixels of a plain scene."""
    scene = scenes[0]
    poses = scene.poses[[0] * 4].copy()
    poses[:, :3, 3] += np.linspace(0, 0.6, 4)[:, None] * scene.depth[0].min() * poses[0, :3, 2]
    walk = View(replace(scene, poses=poses, depth=scene.depth[[0] * 4], ids=scene.ids[[0] * 4]))
    asked = [view_change(walk, np.random.default_rng(seed)) for seed in range(60)]
    ends = Counter(qa.options["AB".index(qa.answer)] for qa in asked if qa.options)
    assert set(ends) == {"forward", "backward"} and min(ends.values()) >= 0.3 * ends.total()
    for qa in asked:
        if qa.options:
            first, then = frames_of(qa)
            assert qa.options["AB".index(qa.answer)] == ("forward" if first < then else "backward")


def test_forward_and_backward_are_asked_of_rooms_only_where_their_frames_go_both_ways(scenes):
    scene = scenes[0]
    step = 0.15 * np.median(scene.depth[0][np.isfinite(scene.depth[0])])

    def ends(steps: list[float], room: Room | None) -> set[str]:
        poses = np.tile(scene.poses[0], (len(steps), 1, 1))
        poses[:, :3, 3] += step * np.array(steps)[:, None] * poses[0, :3, 2]
        view = View(replace(scene, poses=poses, depth=np.tile(scene.depth[:1], (len(steps), 1, 1)), room=room))
        asked = [view_change(view, np.random.default_rng(seed)) for seed in range(30)]
        return {qa.options["AB".index(qa.answer)] for qa in asked if qa is not None and qa.options}

    room = Room(np.array([[3.0, 3], [-3, 3], [-3, -3], [3, -3]]), 2.5)
    both = {"forward", "backward"}
    assert ends([0, 1, 2, 3], None) == both and ends([0, 1, 2, 3], room) == set() and ends([0, 1, -1, 0], room) == both
