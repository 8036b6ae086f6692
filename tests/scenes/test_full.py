"""Full worlds: what stands where, what bears what, what turns, where the camera goes, and how surfaces and lamps look."""

from __future__ import annotations

from collections import Counter
from itertools import combinations

import jax
import numpy as np
import pytest

from sv_jax.errors import UserError
from sv_jax.scenes import SCALES, Object, Primitive, camera, generate, generate_many
from sv_jax.scenes.catalogue import CLASSES
from sv_jax.scenes.draw import draw
from sv_jax.scenes.generate import rng_of
from sv_jax.scenes.layout import Lamp
from sv_jax.scenes.scene import Texture
from sv_jax.tasks import geometry
from tests.scenes.test_generate import same, world_points
from tests.scenes.test_raycast import SIZE, render, stage, trace

SMALL = {"frames": 5, "size": (112, 112)}


@pytest.fixture(scope="module")
def scenes():
    return list(generate_many([(scale, seed) for scale in SCALES for seed in range(2)], **SMALL))


@pytest.fixture(scope="module")
def layouts():
    return {(kind, scale): [draw(kind, scale, rng_of(scale, seed, 0), 6, (112, 112), (2, 5)) for seed in range(12)]
            for kind in ("full", "odd", "unseen") for scale in SCALES}  # fmt: skip


def test_a_scene_depends_on_its_scale_and_seed_alone(scenes):
    same(generate("outdoor", 1, **SMALL), scenes[7])
    for scene in scenes:
        visible = np.bincount(scene.ids[0].ravel(), minlength=len(scene.objects) + 1)[1:]
        assert (visible >= 0.003 * scene.ids[0].size).sum() >= 5
        assert (visible <= scene.whole[0]).all()
        assert (scene.room is not None) == (scene.scale == "indoor")


def test_pixels_lie_on_their_objects(scenes):
    for scene in scenes:
        for frame in range(len(scene.frames)):
            points, ids = world_points(scene, frame), scene.ids[frame]
            for number in np.unique(ids[ids > 0]):
                thing = scene.objects[number - 1]
                center, yaw = (a[frame] for a in thing.places(len(scene.frames)))
                turn = np.array([[np.cos(yaw), -np.sin(yaw), 0], [np.sin(yaw), np.cos(yaw), 0], [0, 0, 1]])
                local = (points[ids == number] - center) @ turn
                assert (np.abs(local) <= thing.size / 2 + 2e-5 * np.linalg.norm(scene.poses[frame, :3, 3])).all()


def test_what_is_not_borne_by_the_other_stands_apart(layouts):
    pairs = 0
    for layout in layouts["full", "tabletop"][:8] + layouts["full", "indoor"][:8] + layouts["full", "outdoor"][:8]:
        for a, b in combinations(layout.objects, 2):
            if a.parent is None and b.parent is None or a.parent == b.parent:
                pairs += 1
                assert geometry.separation(geometry.outline(a.solids), geometry.outline(b.solids)) > 0, (a.phrase, b.phrase)
    assert pairs > 400


@pytest.mark.parametrize("scale", SCALES)
def test_borne_objects_rest_on_a_part_of_their_bearer_and_inside_its_box(layouts, scale):
    found = Counter()
    for layout in layouts["full", scale]:
        for thing in layout.objects:
            if thing.parent is None:
                continue
            bearer, foot = layout.objects[thing.parent], thing.center[2] - thing.size[2] / 2
            tops = [s.center[2] + s.size[2] / 2 for s in bearer.solids]
            assert min(abs(top - foot) for top in tops) < 0.04 * bearer.size[2]
            local = (geometry.outline(thing.solids) - bearer.center[:2]) @ bearer.rotation[:2, :2]
            assert (np.abs(local) <= bearer.size[:2] / 2 * (1 + 1e-9)).all()
            found[thing.relation] += 1
    assert found["on"] + found["in"] > 2


def test_kinds_differ_in_classes_and_sizes(layouts):
    tiers = {name: model.tier for models in CLASSES.values() for name, model in models.items()}

    def odd(layout):
        ratios = [o.size.max() / max(CLASSES[s][o.name].size) for s in SCALES for o in layout.objects if o.name in CLASSES[s]]
        return any(ratio > 1.55 or ratio < 0.62 for ratio in ratios)

    for scale in SCALES:
        named = {kind: [{o.name for o in layout.objects} for layout in layouts[kind, scale]] for kind in ("full", "odd", "unseen")}
        assert not any(tiers[name] == "unseen" for names in named["full"] + named["odd"] for name in names)
        assert np.mean([any(tiers[name] == "unseen" for name in names) for names in named["unseen"]]) > 0.8
        assert len(set().union(*named["full"])) >= 12
        assert np.mean([odd(layout) for layout in layouts["odd", scale]]) > 0.8


def test_the_camera_stays_in_its_room_and_out_of_objects(layouts):
    for layout in layouts["full", "indoor"]:
        hull = layout.room.corners
        for eye in layout.poses[:, :3, 3]:
            (x, y), (u, v) = (hull - eye[:2]).T, (np.roll(hull, -1, 0) - eye[:2]).T
            assert np.isclose(np.arctan2(x * v - y * u, x * u + y * v).sum(), 2 * np.pi)  # the corners go once around it
            assert 0 < eye[2] < layout.room.height
            for thing in layout.objects:
                assert (np.abs((eye - thing.center) @ thing.rotation) > thing.size / 2).any()


def test_some_objects_turn_and_the_caster_turns_them(layouts):
    turning = [(layout, i) for layout in layouts["full", "tabletop"] for i, o in enumerate(layout.objects) if o.motion is not None]
    assert 1 <= len(turning) <= 9
    layout, index = turning[0]
    images = render([layout], SIZE, 3, planes=True)
    for frame in (0, 3, 5):
        K = camera.intrinsics(SIZE, layout.fov)
        _, ids, _, _ = trace(layout.objects, K, layout.poses[frame], SIZE, layout.far, layout.props, frame)
        assert (images.ids[0, frame] == ids).mean() > 0.998
        yaws = layout.objects[index].motion[:, 3]
        assert np.ptp(yaws) >= np.radians(24) and np.ptp(np.diff(yaws)) < 1e-9


def above(height):
    """Two poses straight above the origin."""
    poses = np.tile(np.eye(4), (2, 1, 1))
    poses[:, :3, :3] = camera.look_along(np.array([[1e-3, 0.0, -1.0]]) / np.sqrt(1 + 1e-6), np.zeros(1))
    poses[:, :3, 3] = [0.0, 0.0, height]
    return poses


@pytest.mark.parametrize(
    "pitch, line, bond, checker", [((0.9, 1.3, 0.0), 0.2, 1.0, 0.0), ((0.7, 0.7, 0.0), 0.0, 0.0, 1.0), ((2.0, 0.0, 0.0), 0.3, 0.0, 0.0)]
)
def test_patterns_are_averaged_over_pixels(pitch, line, bond, checker):
    """Against the pattern at 16 x 16 points in each pixel; cells are a few pixels wide."""
    black, white = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    layout = stage((), above(12.0), Lamp(np.array([0, 0, 1e5]), np.zeros(3)), Texture(white, pitch, line, bond, checker))
    layout = layout.__class__(**vars(layout) | {"ground": (np.array(black), layout.ground[1])})
    image = jax.tree.map(lambda a: a[0, 0], render([layout], SIZE, 3, planes=True))
    K, fine = camera.intrinsics(SIZE), (np.arange(16) + 0.5) / 16
    v, u = np.meshgrid((np.arange(SIZE[0])[:, None] + fine).ravel(), (np.arange(SIZE[1])[:, None] + fine).ravel(), indexing="ij")
    rays = np.stack([(u - K[0, 2]) / K[0, 0], (v - K[1, 2]) / K[1, 1], np.ones_like(u)], -1) @ layout.poses[0, :3, :3].T
    x, y = np.moveaxis(layout.poses[0, :2, 3] - layout.poses[0, 2, 3] * rays[..., :2] / rays[..., 2:], -1, 0)
    row = np.floor(y / pitch[1]) % 2 if pitch[1] else 0
    across = x / pitch[0] + 0.5 * bond * row
    cells = [across, *([y / pitch[1]] if pitch[1] else [])]
    lined = np.any([cell - np.floor(cell) < line for cell in cells], 0)
    odd = sum(np.floor(cell) for cell in cells) % 2 == 1
    true = np.maximum(lined, checker * odd).reshape(SIZE[0], 16, SIZE[1], 16).mean((1, 3))
    assert 0.2 < true.mean() < 0.7 and true.std() > 0.2
    error = np.abs(image.albedo.mean(-1) - true)
    assert error.mean() < (0.04 if bond else 0.02)  # the rows of a bond shift inside some pixels


def test_a_lamp_lights_by_cosine_and_distance():
    place, reach, power = np.array([1.0, -2.0, 3.0]), 4.0, 0.8
    layout = stage((), above(8.0), Lamp(place, np.full(3, power), reach))
    image = jax.tree.map(lambda a: a[0, 0], render([layout], SIZE, 3, planes=True))
    spots = np.array([[0.0, 0.0, 0.0], [1.0, -2.0, 0.0], [-2.0, 1.5, 0.0], [2.5, 0.5, 0.0]])
    way = place - spots
    distance = np.linalg.norm(way, axis=1)
    light = 0.5 + power * way[:, 2] / distance / (1 + (distance / reach) ** 2)
    column, row, _ = np.floor(camera.project(spots, camera.intrinsics(SIZE), layout.poses[:1])[0]).T.astype(int)
    np.testing.assert_allclose(image.rgb[row, column, 0] / 255, 0.5 * light, atol=0.01)


def test_props_are_background_and_what_casts_no_shadow_does_not():
    def slab(shadow):
        part = Primitive("box", (0.0,) * 3, (0.5, 0.5, 0.05), (0.9, 0.9, 0.9), None, shadow)
        return Object("", "", np.array([0.0, 0.0, 1.0]), 0.0, np.array([1.0, 1.0, 0.1]), (part,))

    sun = Lamp(1e6 * np.array([1.0, 0.0, 1.0]), np.full(3, 0.6))
    spot = camera.project(np.array([[-0.9, 0.0, 0.0]]), camera.intrinsics(SIZE), above(10.0)[:1])[0, 0].astype(int)
    for shadow in (True, False):
        image = jax.tree.map(lambda a: a[0, 0], render([stage((), above(10.0), sun, props=(slab(shadow),))], SIZE, 3))
        assert not image.ids.any() and not image.whole.any() and np.ptp(image.depth) > 0.9
        assert (image.rgb[spot[1], spot[0], 0] < 90) == shadow


def test_an_unknown_kind_names_the_nearest():
    with pytest.raises(UserError, match="did you mean 'full'"):
        generate("tiny", 0, kind="ful")
