"""Scenes as their readers use them: determinism, exact geometry across frames, and sizes that the pixels show."""

from __future__ import annotations

from collections import Counter
from itertools import combinations

import numpy as np
import pytest

from sv_jax.errors import UserError
from sv_jax.scenes import SCALES, camera, generate, generate_many
from sv_jax.scenes.generate import PIXELS, rng_of
from sv_jax.scenes.plain import draw
from sv_jax.scenes.worlds import COLOURS, PLAIN_COLOURS, WORLDS

PLAIN = {"kind": "plain", "frames": 4, "size": (112, 112)}
SPECS = [(scale, seed) for scale in SCALES for seed in range(3)]


@pytest.fixture(scope="module")
def scenes():
    return list(generate_many(SPECS, **PLAIN))


def same(a, b):
    for name in ("frames", "depth", "ids", "K", "poses"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
    assert a.id == b.id and [o.phrase for o in a.objects] == [o.phrase for o in b.objects]


def world_points(scene, frame):
    """f64 [H, W, 3]: points behind the pixels' centres, nan for sky."""
    v, u = np.mgrid[: scene.ids.shape[1], : scene.ids.shape[2]] + 0.5
    z = np.where(np.isfinite(scene.depth[frame]), scene.depth[frame], np.nan).astype(np.float64)
    K, pose = scene.K, scene.poses[frame]
    return np.stack([(u - K[0, 2]) / K[0, 0] * z, (v - K[1, 2]) / K[1, 1] * z, z], -1) @ pose[:3, :3].T + pose[:3, 3]


def test_a_scene_is_as_the_contract_says(scenes):
    for scene, (scale, _) in zip(scenes, SPECS, strict=True):
        assert scene.scale == scale
        assert scene.frames.shape == (4, 112, 112, 3) and scene.frames.dtype == np.uint8
        assert scene.depth.shape == scene.ids.shape == (4, 112, 112) and scene.depth.dtype == np.float32 and scene.ids.dtype == np.uint8
        assert scene.K.dtype == scene.poses.dtype == np.float64 and scene.poses.shape == (4, 4, 4)
        rotation = scene.poses[:, :3, :3]
        np.testing.assert_allclose(rotation @ rotation.transpose(0, 2, 1), np.tile(np.eye(3), (4, 1, 1)), atol=1e-12)
        np.testing.assert_allclose(np.linalg.det(rotation), 1)
        assert (rotation[:, 2, 1] < 0).all()  # the image's down points down
        assert 2 <= len(scene.objects) <= 5 and scene.ids.max() == len(scene.objects)
        assert len({o.phrase for o in scene.objects}) == len(scene.objects)
        assert all(o.name in WORLDS[scale].models and o.colour in PLAIN_COLOURS for o in scene.objects)


def test_a_scene_depends_on_its_scale_and_seed_alone(scenes):
    same(generate("indoor", 1, **PLAIN), scenes[SPECS.index(("indoor", 1))])
    for scene, spec in zip(generate_many(SPECS[::-1][:5], **PLAIN), SPECS[::-1][:5], strict=True):
        same(scene, scenes[SPECS.index(spec)])


def test_different_seeds_give_different_scenes(scenes):
    assert len({scene.frames.tobytes() for scene in scenes}) == len({scene.id for scene in scenes}) == len(SPECS)


def test_every_object_is_clear_in_the_first_frame_and_inside_every_frame(scenes):
    for scene in scenes:
        for number in range(1, len(scene.objects) + 1):
            mask = scene.ids == number
            assert mask[0].sum() >= PIXELS * mask[0].size
            assert not (mask[:, [0, -1]].any() or mask[:, :, [0, -1]].any())


def test_a_body_has_its_colour(scenes):
    """The nearest colour word of an object's pixels, shading removed, is its own for the largest share of its coloured pixels."""
    words = {name: np.array(rgb) / np.linalg.norm(rgb) for name, rgb in COLOURS.items()}
    right = total = 0
    for scene in scenes:
        for number, thing in enumerate(scene.objects, 1):
            rgb = scene.frames[0][scene.ids[0] == number] / 255.0
            rgb = rgb[(np.ptp(rgb, axis=1) > 0.25) | (rgb.min(1) > 0.35)]
            near = [max(words, key=lambda w: words[w] @ (p / np.linalg.norm(p))) for p in rgb]
            right += Counter(near).most_common(1)[0][0] == thing.colour
            total += 1
    assert right >= 0.9 * total


def test_points_of_one_frame_reproject_to_the_same_object_and_depth_in_another(scenes):
    agree = []
    for scene in scenes:
        points, steep = world_points(scene, 0), scene.depth[0] * 0.03
        for number in range(1, len(scene.objects) + 1):
            inner = scene.ids[0] == number
            for axis, step in ((0, 1), (0, -1), (1, 1), (1, -1)):  # away from silhouettes
                inner &= np.roll(scene.ids[0] == number, step, axis)
            u, v, z = camera.project(points[inner], scene.K, scene.poses[3:])[0].T
            rows, columns = np.floor(v).astype(int), np.floor(u).astype(int)
            seen, ids = scene.depth[3, rows, columns], scene.ids[3, rows, columns]
            nearest = np.min([scene.depth[3, rows + i, columns + j] for i in (-1, 0, 1) for j in (-1, 0, 1)], 0)
            assert (nearest <= z + steep[inner]).mean() > 0.99  # what frame 0 saw is there or behind something nearer
            agree += list(np.abs(seen / z - 1)[ids == number])
    assert len(agree) > 3000 and np.median(agree) < 0.003


def test_objects_sizes_are_the_boxes_of_their_parts_and_of_their_pixels(scenes):
    for scene in scenes:
        clouds = np.stack([world_points(scene, f) for f in range(4)])
        spans = []
        for number, thing in enumerate(scene.objects, 1):
            low = np.min([np.subtract(p.center, p.half) for p in thing.parts], 0)
            high = np.max([np.add(p.center, p.half) for p in thing.parts], 0)
            np.testing.assert_allclose([low, high], [-thing.size / 2, thing.size / 2], atol=1e-9 * thing.size.max())
            assert thing.center[2] == thing.size[2] / 2  # stands on the ground
            cos, sin = np.cos(thing.yaw), np.sin(thing.yaw)
            local = (clouds[scene.ids == number] - thing.center) @ np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])
            slack = 1e-5 * np.linalg.norm(scene.poses[0, :3, 3])
            assert (np.abs(local) <= thing.size / 2 + slack).all()
            pixel = scene.depth[scene.ids == number].max() / scene.K[0, 0]
            spans.append((np.ptp(local[:, 2]) + 1.5 * pixel) / thing.size[2])
        assert np.median(spans) > 0.97  # some are partly hidden


def test_objects_do_not_touch():
    for scale in SCALES:
        for seed in range(20):
            for a, b in combinations(draw(scale, rng_of(scale, seed, 0), 1, (112, 112)).objects, 2):
                assert np.linalg.norm(a.center[:2] - b.center[:2]) > (np.hypot(*a.size[:2]) + np.hypot(*b.size[:2])) / 2


def test_layouts_vary_in_scale_count_and_class():
    for scale in SCALES:
        layouts = [draw(scale, rng_of(scale, seed, 0), 1, (112, 112)) for seed in range(80)]
        classes = Counter(o.name for layout in layouts for o in layout.objects)
        assert set(classes) == set(WORLDS[scale].models) and len(classes) >= 6
        assert max(classes.values()) < 6 * min(classes.values())
        assert {max(Counter(o.name for o in layout.objects).values()) for layout in layouts} == {1, 2, 3, 4}
        assert {len(layout.objects) for layout in layouts} == {2, 3, 4, 5}
        distance = [np.linalg.norm(layout.poses[0, :3, 3]) for layout in layouts]
        assert np.quantile(distance, 0.9) > 1.5 * np.quantile(distance, 0.1)
        ratio = [o.size.max() / max(WORLDS[scale].models[o.name].size) for layout in layouts for o in layout.objects]
        assert min(ratio) > 0.7 and max(ratio) < 1.32 and np.std(ratio) > 0.1


def test_models_fill_their_unit_box():
    for world in WORLDS.values():
        for name, model in world.models.items():
            for axis in "xyz":
                ends = np.array([getattr(part, axis) for part in model.parts])
                assert ends.min() == 0 and ends.max() == 1 and (ends[:, 0] < ends[:, 1]).all(), (name, axis)


def test_other_sizes_and_lengths():
    for scene in generate_many([("outdoor", 4), ("tiny", 4)], kind="plain", frames=2, size=(64, 80)):
        assert scene.frames.shape == (2, 64, 80, 3) and scene.ids.max() == len(scene.objects)


def test_errors_name_the_field():
    with pytest.raises(UserError, match="did you mean 'indoor'"):
        generate("indor", 0)
    with pytest.raises(UserError, match="seed: found -1"):
        generate("tiny", -1)
    with pytest.raises(UserError, match="0 frames"):
        generate("tiny", 0, frames=0)
