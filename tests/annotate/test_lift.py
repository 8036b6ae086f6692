"""Measured scenes: geometry from exact depth and ids, then answers from noisy specialists against the exact ones."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import binary_dilation, binary_erosion

from sv_jax.annotate.annotate import aligned
from sv_jax.annotate.colours import named, split_phrase
from sv_jax.annotate.lift import agree, lift, scale_of, sharpen, upright
from sv_jax.annotate.oracle import Noise, Oracle
from sv_jax.annotate.specialists import Clip
from sv_jax.errors import UserError
from sv_jax.scenes import generate, generate_many
from sv_jax.scenes.scene import SCALES
from sv_jax.tasks import ask, geometry
from sv_jax.tasks.view import View
from tests.annotate.answers import compare, measured, table

NOISE = {
    "none": Noise(),
    "low": Noise(jitter=0.02, waves=0.005, grain=0.002, blur=0.7),
    "middle": Noise(jitter=0.05, waves=0.01, grain=0.005, blur=1.0, masks=1),
    "high": Noise(jitter=0.10, waves=0.02, grain=0.01, blur=1.5, masks=1),
}
# By level: most of the median relative error of each number, and of the share of wrong choices and counts. At the two upper levels the
# tasks rarely find a distance that both the boxes and the points agree on.
LIMITS = {
    "none": {"object_size": 0.02, "depth": 0.005, "absolute_distance": 0.05, "choices": 0.03},
    "low": {"object_size": 0.06, "depth": 0.015, "absolute_distance": 0.09, "choices": 0.04},
    "middle": {"object_size": 0.10, "depth": 0.025, "choices": 0.06},
    "high": {"object_size": 0.15, "depth": 0.05, "choices": 0.08},
}


@pytest.fixture(scope="module")
def scenes():
    return list(generate_many([(scale, 700 + i) for scale in SCALES for i in range(2)], kind="plain", frames=4, size=(168, 168)))


@pytest.fixture(scope="module")
def room():
    return generate("indoor", 5, kind="plain", frames=3, size=(112, 112))


def given(scene, **changes):
    """Arguments of `lift` that measure a scene from its exact depth and ids."""
    phrases = tuple(thing.phrase for thing in scene.objects)
    arguments = {"name": scene.id, "frames": scene.frames, "fps": scene.fps, "depth": scene.depth, "ids": scene.ids, "phrases": phrases}
    return arguments | {"K": scene.K, "poses": scene.poses} | changes


@pytest.mark.parametrize("level", NOISE)
def test_answers_about_measured_scenes_are_near_the_exact_ones(scenes, level):
    errors = compare(scenes, NOISE[level])
    shown = f"noise {level}: {NOISE[level]}\n{table(errors)}"
    print(shown)
    assert sum(map(len, errors.values())) >= 70, shown
    for task, limit in LIMITS[level].items():
        if task != "choices":
            assert np.median(errors[task]) <= limit, shown
    choices = np.concatenate([errors[task] for task in ("counting", "position_comparison", "size_comparison")])
    assert choices.mean() <= LIMITS[level]["choices"], shown


def test_alignment_to_a_consistent_depth_leaves_the_mean_of_the_jitter(room):
    """With a strong alignment three frames share the mean of their scale errors, which is 1 / sqrt(3) as large."""
    clip = Clip(room.id, room.frames, room.fps, (112, 112))
    left, known = [], np.isfinite(room.depth)
    for seed in range(60):
        oracle = Oracle(room, Noise(jitter=0.08), seed)
        metric = oracle.depth(clip).values
        got = [np.log(d[known] / room.depth[known]) for d in (metric, aligned(metric, oracle.disparity(clip), 100.0))]
        left.append([np.sqrt(np.mean(e**2)) for e in got])
    before, after = np.sqrt(np.mean(np.square(left), 0))
    assert after / before == pytest.approx(3**-0.5, rel=0.15), (before, after)


def test_a_biased_depth_scales_every_length_and_no_choice(scenes):
    scene = scenes[2]
    sizes = [np.array([o.size[2] for o in measured(scene, Noise(bias=bias)).objects]) for bias in (0.0, np.log(1.1))]
    np.testing.assert_allclose(sizes[1] / sizes[0], 1.1, rtol=0.02)  # planes and mask borders are found anew


@pytest.mark.parametrize("scale", SCALES)
def test_the_ground_becomes_z_0_wherever_the_given_world_lies(scale):
    scene = generate(scale, 3, kind="plain", frames=2, size=(112, 112))
    rng = np.random.default_rng(0)
    turn = np.eye(4)
    turn[:3, :3] = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    turn[:3, 0] *= np.linalg.det(turn[:3, :3])
    turn[:3, 3] = rng.normal(size=3)
    back = upright(scene.depth.astype(np.float64), scene.ids, scene.K, turn @ scene.poses) @ turn
    assert np.degrees(np.arccos(min(back[2, 2], 1.0))) < 0.02
    pose = back @ scene.poses[0]
    assert pose[2, 3] == pytest.approx(scene.poses[0, 2, 3], rel=1e-3)
    np.testing.assert_allclose(pose[:2, 3], 0, atol=1e-6 * pose[2, 3])
    assert abs(pose[1, 0]) < 1e-6 and pose[0, 0] > 0


def test_a_single_frame_needs_no_pose(room):
    alone = {"frames": room.frames[:1], "depth": room.depth[:1], "ids": room.ids[:1], "poses": None}
    scene = lift(**given(room, **alone))
    assert scene.poses.shape == (1, 4, 4) and scene.poses[0, 2, 3] == pytest.approx(room.poses[0, 2, 3], rel=1e-3)
    assert {qa.task for qa in ask(scene, np.random.default_rng(0), 12)} >= {"object_size", "depth", "counting"}


def test_measured_objects_lie_where_their_pixels_are(room):
    scene = lift(**given(room))
    view = View(scene)
    for index, thing in enumerate(scene.objects):
        local = (view.cloud(index) - thing.center) @ thing.rotation
        assert (np.abs(local) <= thing.size / 2 + 1e-5)[:, :2].all() and local[:, 2].max() <= thing.size[2] / 2 + 1e-5
        assert len(thing.parts) <= 8 and thing.phrase in {o.phrase for o in room.objects}


def test_what_stands_on_something_else_keeps_its_own_height(room):
    """The same room 1 m lower: objects that hang a metre over the ground, of which the camera sees the ground beyond."""
    exact = lift(**given(room))
    lowered = upright(room.depth.astype(np.float64), room.ids, room.K, room.poses)
    points = geometry.world_points(room.depth, room.K, room.poses) @ lowered[:3, :3].T + lowered[:3, 3]
    depth = room.depth.copy()
    ground = (room.ids == 0) & np.isfinite(depth)
    eye = (lowered @ room.poses)[:, 2, 3][:, None, None]
    depth[ground] = (depth * (eye + 1.0) / np.maximum(eye - points[..., 2], 1e-3))[ground]
    hanging = lift(**given(room, depth=depth))
    bottoms = {o.phrase: o.center[2] - o.size[2] / 2 for o in hanging.objects}
    above = [phrase for phrase, z in bottoms.items() if z > 0.5]
    assert len(above) >= len(bottoms) / 2, bottoms
    heights = {o.phrase: o.size[2] for o in exact.objects}
    for thing in hanging.objects:
        if thing.phrase in above:
            assert thing.size[2] <= heights[thing.phrase] * 1.05


def test_mixed_pixels_are_taken_back_to_the_surface_and_sharp_depth_stays():
    rows, columns = np.indices((40, 40))
    plane = 1 / (0.5 + 0.005 * rows - 0.002 * columns)[None]
    ids = np.zeros((1, 40, 40), np.uint8)
    ids[:, 10:30, 8:30] = 1
    sharp = np.where(ids, plane, 2 * plane)
    sharp[:, 10, 8:30] *= 1.05  # another side of the object
    np.testing.assert_array_equal(sharpen(sharp, ids, 1), sharp)
    mixed = np.where(ids, plane, 2 * plane)
    mask = ids[0] > 0
    mixed[:, mask & ~binary_erosion(mask)] *= 1.3
    mixed[:, binary_dilation(mask) & ~mask] *= 0.85
    np.testing.assert_allclose(sharpen(mixed, ids, 1)[ids > 0], plane[ids > 0], rtol=1e-9)


def test_poses_that_contradict_the_depth_are_refused(room):
    agree(room.depth, room.K, room.poses)
    with pytest.raises(UserError, match="poses: they look world-to-camera; expected camera-to-world poses in metres"):
        agree(room.depth, room.K, np.linalg.inv(room.poses))
    with pytest.raises(UserError, match="poses: they look of OpenGL's axes"):
        agree(room.depth, room.K, room.poses @ np.diag([1.0, -1.0, -1.0, 1.0]))
    away = room.poses.copy()
    away[1:, :3, 3] *= 1000
    with pytest.raises(UserError, match="poses: seen from the next frame, depths (do not overlap|differ by)"):
        agree(room.depth, room.K, away)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: {"frames": s.frames[:0], "depth": s.depth[:0], "ids": s.ids[:0]}, "frames: found .* at least one frame"),
        (lambda s: {"ids": s.ids[:, :100]}, r"masks: found \[3, 100, 112\], expected \[3, 112, 112\] as the frames"),
        (lambda s: {"depth": s.depth[:2]}, r"depth: found \[2, 112, 112\], expected \[3, 112, 112\]"),
        (lambda s: {"depth": np.where(np.arange(3)[:, None, None] == 1, np.nan, s.depth)}, r"depth: missing in frame 1 \(1 of 3 frames\)"),
        (lambda s: {"K": s.K * np.array([[4], [4], [1]])}, "do not belong to frames of 112 x 112 pixels; were they for another size?"),
        (lambda s: {"K": s.K.T}, "intrinsics: expected a 3 x 3 matrix"),
        (lambda s: {"poses": None}, "poses: none for 3 frames"),
        (lambda s: {"poses": s.poses[:2]}, r"poses: found \[2, 4, 4\], expected \[3, 4, 4\]"),
        (lambda s: {"poses": s.poses * 2}, "poses: found a matrix that is no rotation and translation"),
        (lambda s: {"phrases": ("red mug",)}, "masks: found id . for 1 objects"),
        (lambda s: {"ids": np.zeros_like(s.ids)}, "no object with 16 pixels of known depth"),
        (lambda s: {"depth": np.where(s.ids > 0, s.depth, np.inf)}, "ground: no plane holds a tenth of the 0 background points"),
        (lambda s: {"scale": "indor"}, "did you mean 'indoor'?"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line(room, change, message):
    with pytest.raises(UserError, match=message) as error:
        lift(**given(room, **change(room)))
    assert "\n" not in str(error.value)


def test_the_scale_is_that_of_the_scenes_about_as_wide(scenes):
    right = [scale_of(scene.objects) == scene.scale for scene in scenes]
    assert np.mean(right) >= 0.8, [(scene.id, scale_of(scene.objects)) for scene in scenes]


def test_colours_come_from_the_phrase_or_from_the_pixels():
    red = np.full((50, 3), [200, 20, 25], np.uint8)
    assert split_phrase("blue coffee mug", red) == ("blue", "coffee mug")
    assert split_phrase("mug", red) == ("red", "mug")
    shades = {"white": (240, 240, 238), "grey": (120, 122, 120), "black": (20, 20, 22), "yellow": (240, 210, 20), "green": (20, 150, 40)}
    shades |= {"blue": (25, 60, 230), "purple": (148, 40, 188), "brown": (110, 62, 25), "orange": (250, 140, 20)}
    for name, rgb in shades.items():
        assert named(np.array([rgb], np.uint8)) == name
