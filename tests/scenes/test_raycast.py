"""The f32 ray caster against a plain f64 one, and at the distances where the textbook quadratic fails in f32."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sv_jax.errors import UserError
from sv_jax.scenes import SCALES, Object, Primitive, Solid, camera, primitives, raycast
from sv_jax.scenes.draw import draw
from sv_jax.scenes.generate import SLOTS, render, rng_of
from sv_jax.scenes.layout import SUN, Lamp, Layout
from sv_jax.scenes.scene import Texture
from tests.scenes.oracle import hit, trace

SIZE = (64, 80)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("kind", ["plain", "full"])
def test_depth_ids_and_normals_equal_the_f64_oracle(kind, scale):
    layouts = [draw(kind, scale, rng_of(scale, seed, 0), 2, SIZE, (2, 5)) for seed in range(3)]
    images = render(layouts, SIZE, 3, planes=True)
    for row, layout in enumerate(layouts):
        K = camera.intrinsics(SIZE, layout.fov)
        for frame, pose in enumerate(layout.poses):
            depth, ids, normals, alone = trace(layout.objects, K, pose, SIZE, layout.far, layout.props, frame)
            same = images.ids[row, frame] == ids
            assert same.mean() > 0.999  # silhouettes may fall on either side of a pixel's centre
            both = same & np.isfinite(depth) & np.isfinite(images.depth[row, frame])
            assert (np.isfinite(depth) == np.isfinite(images.depth[row, frame])).mean() > 0.999
            error = np.abs(images.depth[row, frame][both] / depth[both] - 1)
            assert np.quantile(error, 0.999) < 2e-6 and np.median(error) < 2e-7
            turned = 1 - (images.normal[row, frame][both] * normals[both]).sum(-1)
            assert np.quantile(turned, 0.995) < 1e-4
            whole, true = images.whole[row, frame], alone.sum((1, 2))
            np.testing.assert_allclose(whole[: len(true)], true, rtol=0.01, atol=6)
            assert not whole[len(true) :].any()


def shape(kind, distance, half):
    """Depth in f32 of a shape straight ahead of a camera at the origin of world axes, seen through its middle."""
    thing = Object(
        "x",
        "red",
        np.array([0.0, distance, 0.0]),
        0.3,
        2 * np.full(3, half),
        (Primitive(kind, (0.0, 0.0, 0.0), (half,) * 3, (1.0, 1.0, 1.0)),),
    )
    pose = np.eye(4)
    pose[:3, :3] = camera.look_along(np.array([[0.0, 1.0, 0.0]]), np.zeros(1))[0]
    view = primitives.prims((thing,), (), pose[None], camera.intrinsics(SIZE), SLOTS[0])
    view = view._replace(origin=view.origin[0], matrix=view.matrix[0])
    x = jnp.array([0.0, 0.3 * half / distance], jnp.float32)
    listed = jnp.tile(jnp.arange(SLOTS[0]), (3, 1)), jnp.asarray(view.count)
    depth = jax.jit(raycast._nearest)(jax.tree.map(jnp.asarray, view), listed, x, 0 * x)[0]
    directions = np.stack([np.asarray(x, np.float64), np.ones(2), np.zeros(2)], -1)
    return np.asarray(depth), hit(thing.solids[0], np.zeros(3), directions)[0]


@pytest.mark.parametrize("kind", ["ellipsoid", "cylinder", "box"])
@pytest.mark.parametrize("half, distance, tolerance", [(0.3, 1e3, 2e-4), (3.0, 1e3, 2e-4), (5.0, 2e4, 4e-3)])
def test_small_shapes_far_away_are_hit_at_the_right_depth(kind, half, distance, tolerance):
    depth, true = shape(kind, distance, half)
    assert np.isfinite(true).all()
    np.testing.assert_allclose(depth, true, rtol=0, atol=tolerance)


def test_textbook_discriminant_fails_where_ours_holds():
    """The trap itself, so that the test above is known to test something: in f32 b^2 - a c of a 0.3 m sphere at 1 km is not positive."""
    o, d, r = np.float32([0, 0, -1000]), np.float32([1e-4, 0, 1]), np.float32(0.3)
    a, b, c = d @ d, o @ d, o @ o - r * r
    exact = (1000.0**2) - (1 + 1e-8) * (1000.0**2 - 0.09)
    assert exact > 0 and not abs((b * b - a * c) / exact - 1) < 0.1


def test_oracle_knows_closed_forms():
    """Distances that need no tracer at all."""
    straight = np.array([[0.0, 0.0, 1.0]])
    for kind in ("box", "cylinder", "ellipsoid"):
        t, n = hit(Solid(kind, np.array([0, 0, 5.0]), 0.7, np.array([2.0, 4.0, 3.0])), np.zeros(3), straight)
        np.testing.assert_allclose([*t, *n[0]], [3.5, 0, 0, -1], atol=1e-12)
    slanted = np.array([[1.0, 0.0, 1.0]])
    t, _ = hit(Solid("ellipsoid", np.array([5.0, 0, 5.0]), 0.0, np.full(3, 2.0)), np.zeros(3), slanted)
    np.testing.assert_allclose(t, 5 - 1 / np.sqrt(2))


def test_moving_camera_and_world_far_from_the_origin_changes_nothing():
    """Positions are subtracted in f64: 100 km away from the origin the depth is the same."""
    layout = draw("plain", "tabletop", rng_of("tabletop", 5, 0), 1, SIZE, (2, 5))
    shift = np.array([1e5, -1e5, 0.0])
    things = tuple(Object(t.name, t.colour, t.center + shift, t.yaw, t.size, t.parts) for t in layout.objects)
    poses = layout.poses.copy()
    poses[:, :3, 3] += shift
    K = camera.intrinsics(SIZE)
    near, far = (primitives.prims(o, (), p, K, SLOTS[0]) for o, p in ((layout.objects, layout.poses), (things, poses)))
    np.testing.assert_allclose(far.origin, near.origin, atol=1e-6)


def stage(objects, poses, light, ground=None, props=()):
    """A scene on grey ground."""
    return Layout(
        objects, poses, (light,), np.full(3, 0.5), (np.full(3, 0.5), ground or Texture()), np.zeros(2), ((0.8,) * 3,) * 2, 1e3, props=props
    )


def test_a_shadow_lies_where_a_box_blocks_the_sun():
    half = (0.5, 0.5, 1.0)
    part = Primitive("box", (0.0, 0.0, 0.0), half, (0.9, 0.9, 0.9))
    thing = Object("x", "white", np.array([0.0, 0.0, 1.0]), 0.0, 2 * np.array(half), (part,))
    poses = np.tile(np.eye(4), (2, 1, 1))
    poses[:, :3, :3] = camera.look_along(np.array([[1e-3, 0.0, -1.0]]) / np.sqrt(1 + 1e-6), np.zeros(1))
    poses[:, :3, 3] = [0.0, 0.0, 10.0]
    sun = np.array([1.0, 0.0, 1.0]) / np.sqrt(2)  # the shadow reaches from the box's far side at x = -0.5 to -2.5
    layout = stage((thing,), poses, Lamp(10 * SUN * sun, np.full(3, 0.6)))
    image = jax.tree.map(lambda a: a[0, 0], render([layout], SIZE, 3, planes=True))
    light = image.rgb.astype(float).mean(-1) / (255 * image.albedo.mean(-1))
    spots = np.array([[-0.9, 0, 0], [-2.1, 0.2, 0], [-2.9, 0, 0], [0.9, 0, 0], [-1.5, 0.9, 0], [0.0, 0.0, 2.0]])
    column, row, _ = camera.project(spots, camera.intrinsics(SIZE), poses[:1])[0].T.astype(int)
    np.testing.assert_array_equal(light[row, column] < 0.6, [True, True, False, False, False, False])


def test_devices_share_the_frames_and_find_the_pixels_of_one(monkeypatch):
    made, cast = [], raycast.render
    monkeypatch.setattr(raycast, "render", lambda *args, **fields: made.append(cast(*args, **fields)) or made[-1])
    layout = draw("plain", "indoor", rng_of("indoor", 3, 0), 4, SIZE, (2, 5))
    together = render([layout], SIZE, 1, planes=True)
    for frame in range(4):
        alone = render([replace(layout, poses=layout.poses[[frame]])], SIZE, 1, planes=True)
        for name, a, b in zip(raycast.Image._fields, together, alone, strict=True):
            np.testing.assert_array_equal(a[0, frame], b[0, 0], err_msg=name)
    assert [len(image.ids.sharding.device_set) for image in made] == [4, 1, 1, 1, 1]


def test_too_many_primitives_are_an_error_that_says_so():
    part = Primitive("box", (0.0,) * 3, (1.0,) * 3, (1.0,) * 3)
    thing = Object("x", "red", np.zeros(3), 0.0, np.ones(3), (part,) * 9)
    with pytest.raises(UserError, match="more than 8 box primitives"):
        primitives.prims((thing,), (), np.eye(4)[None], camera.intrinsics(SIZE), 8)
