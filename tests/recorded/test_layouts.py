"""Each layout, written from generated scenes, gives back their pictures, depth, ids, cameras and objects."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from sv_jax.annotate.lift import lift
from sv_jax.recorded import arkit, dl3dv, lens, scannet, scannetpp, smot, uco3d, wildrgbd
from sv_jax.recorded.faults import BadInput, Faults
from sv_jax.recorded.load import load
from tests.recorded import layouts

SIZE, F = (192, 256), 6  # ScanNet++'s depth has this size
MODULES = {
    "scannet": scannet, "scannetpp": scannetpp, "arkit": arkit, "wildrgbd": wildrgbd, "uco3d": uco3d, "dl3dv": dl3dv, "smot": smot,
}  # fmt: skip
HALF = 0.51e-3  # metres: depth in whole millimetres
DEPTH = {"scannet": HALF, "scannetpp": 0.0, "arkit": HALF, "wildrgbd": HALF, "smot": HALF, "uco3d": 1e-5}  # of f32 at another unit
UNIT = {"uco3d": 2.0, "dl3dv": 3.7}  # of the recording's world, in 1 / metre
POSE = {"uco3d": 1e-5}  # stored as f32; elsewhere 1e-9


@pytest.fixture
def scene(scenes, request):
    """What a test's layout holds: rooms in ARKitScenes."""
    params = request.node.callspec.params if hasattr(request.node, "callspec") else {}
    return scenes["indoor" if params.get("name") == "arkit" else "tabletop"]


@pytest.fixture(scope="module")
def written(scenes, tmp_path_factory):
    """The folder of the scene in a layout, and the source's root."""
    made = {}

    def write(name: str):
        if name not in made:
            root = tmp_path_factory.mktemp(name)
            made[name] = root, getattr(layouts, name)(root, scenes["indoor" if name == "arkit" else "tabletop"])
        return made[name]

    return write


def recorded(written, name: str):
    faults = Faults()
    found = MODULES[name].read(written(name)[1], faults)
    assert not faults.lines
    return found


def seen(name: str, planes: np.ndarray) -> np.ndarray:
    """What a layout's pictures show of [F, H, W, …]."""
    return planes[:, :, layouts.CROP : -layouts.CROP] if name == "scannet" else planes


@pytest.mark.parametrize("name", MODULES)
def test_scenes_are_found_in_the_source_and_by_themselves(written, name):
    root, folder = written(name)
    assert MODULES[name].scenes(root) == [folder]
    if name not in ("uco3d", "scannetpp"):
        assert MODULES[name].scenes(folder) == [folder]


@pytest.mark.parametrize("name", MODULES)
def test_cameras_and_pictures_come_back(scene, written, name):
    found, unit = recorded(written, name), UNIT.get(name, 1.0)
    K = scene.K - [[0, 0, layouts.CROP], [0, 0, 0], [0, 0, 0]] if name == "scannet" else scene.K
    np.testing.assert_allclose(found.K, np.tile(K, (F, 1, 1)), atol=1e-3 if name == "uco3d" else 1e-9)
    expected = scene.poses.copy()
    if not found.up:
        expected = layouts.turned(scene.poses, unit)
    np.testing.assert_allclose(found.poses, expected, atol=POSE.get(name, 1e-9))
    pictures = np.stack(found.rgb(range(F)))
    apart = np.abs(pictures[:, None].astype(int) - seen(name, scene.frames)[None]).mean((2, 3, 4))  # [F, F]
    assert (apart.argmin(1) == np.arange(F)).all()
    assert np.diag(apart).max() <= (2.5 if name in ("scannetpp", "uco3d") else 0.0)  # those two are films


@pytest.mark.parametrize("name", DEPTH)
def test_depth_comes_back(scene, written, name):
    found, unit = recorded(written, name), UNIT.get(name, 1.0)
    for i in range(F):
        depth = found.depth(i) / unit
        known = depth > 0
        far = 5.0 if name == "wildrgbd" else 65.0
        assert (known == (scene.depth[i] <= far)).mean() > 0.999
        np.testing.assert_allclose(depth[known], scene.depth[i][known], atol=DEPTH[name], rtol=1e-6)


@pytest.mark.parametrize("name", ["scannet", "wildrgbd", "smot", "uco3d", "arkit"])
def test_ids_and_phrases_come_back(scene, written, name):
    found = recorded(written, name)
    phrases = {"wildrgbd": {1: "mug"}, "uco3d": {1: "coffee mug"}, "smot": {k: o.phrase for k, o in enumerate(scene.objects, 1)}}
    named = phrases.get(name, {k: thing.name for k, thing in enumerate(scene.objects, 1)})
    assert found.phrases == ({k + 1: v for k, v in named.items()} if name == "scannet" else named)
    for i in range(F):
        ids, expected = found.ids(i), seen(name, scene.ids)[i].astype(int)
        if name == "arkit":  # boxes around the objects hold a little of the ground
            assert (ids == expected).mean() > 0.97 and all((ids == k)[expected == k].mean() > 0.9 for k in found.phrases)
            continue
        if name in ("wildrgbd", "uco3d"):
            expected = (expected == 1).astype(int)
        if name == "scannet":
            ids = np.where(ids > 1, ids - 1, 0)
        np.testing.assert_array_equal(ids, expected)


@pytest.mark.parametrize("name", ["scannet", "scannetpp", "arkit", "wildrgbd", "smot", "uco3d"])
def test_the_scene_stands_on_the_ground_and_its_objects_are_measured(scene, written, name):
    unit, faults = UNIT.get(name, 1.0), Faults()
    found = load(written(name)[1], name, faults, frames=F, side=seen(name, scene.ids).shape[2] // 2)
    assert not faults.lines and found.frames.shape == (F, *seen(name, scene.ids)[:, ::2, ::2].shape[1:], 3)
    relative = np.linalg.inv(scene.poses[0]) @ scene.poses
    relative[:, :3, 3] *= unit
    np.testing.assert_allclose(np.linalg.inv(found.poses[0]) @ found.poses, relative, atol=1e-5 * unit)
    # heights above the ground, which is a consensus of depths, in ScanNet++ without masks: 0.5 % here
    np.testing.assert_allclose(found.poses[:, 2, 3] / unit, scene.poses[:, 2, 3], rtol=0.01)
    np.testing.assert_allclose(found.poses[:, 2, :3], scene.poses[:, 2, :3], atol=0.005)  # and up in the axes of each camera
    if name == "scannetpp":
        assert found.objects == ()
    half = [array[:, ::2, ::2] for array in (scene.frames, scene.depth, scene.ids)]
    phrases = [thing.phrase for thing in scene.objects]
    exact = lift("", half[0], 2.0, *half[1:], phrases, np.diag([0.5, 0.5, 1]) @ scene.K, scene.poses)
    # an object of ARKitScenes lacks what shows of it so near to the floor: not more than a row of pixels above that is lost
    floor = arkit.MARGIN + np.median(scene.depth[scene.ids > 0]) / (scene.K[1, 1] / 2) if name == "arkit" else 0.0
    atol = floor + 0.002  # depth in whole millimetres, at both ends of an object
    for thing, other in zip(found.objects, exact.objects, strict=False):  # the same measurement of exact depth, ids and cameras
        np.testing.assert_allclose(np.sort(thing.size) / unit, np.sort(other.size), rtol=0.02, atol=atol)
        assert (
            abs(np.linalg.norm(thing.center - found.poses[0, :3, 3]) / unit / np.linalg.norm(other.center - exact.poses[0, :3, 3]) - 1)
            < 0.02
        )
    assert found.scale == {"scannetpp": "indoor"}.get(name, scene.scale)  # nothing is measured there


def test_a_source_without_depth_gives_a_clip_with_upright_cameras(scene, written):
    found = load(written("dl3dv")[1], "dl3dv", Faults(), frames=4)
    assert found.frames.shape == (4, *SIZE, 3) and not np.isfinite(found.depth).any() and found.objects == ()
    np.testing.assert_allclose(found.K, scene.K, rtol=1e-12)
    assert (-found.poses[:, 2, 1] > 0.9).all()  # the mean up of the cameras is z


def test_half_the_side_keeps_rays_and_depth(scene, written):
    """Every pixel of the small depth is that of a pixel at most one away from its own ray."""
    found = load(written("scannetpp")[1], "scannetpp", Faults(), frames=2, side=128)
    assert found.frames.shape == (2, 96, 128, 3)
    np.testing.assert_allclose(found.K[:2], scene.K[:2] / 2)
    np.testing.assert_array_equal(found.depth[0], scene.depth[0, ::2, ::2])


def test_depth_that_is_packed_frame_by_frame(scene, tmp_path):
    folder = layouts.scannetpp(tmp_path, scene, blocks=True)
    found = scannetpp.read(folder, Faults())
    np.testing.assert_array_equal(found.depth(3), np.where(np.isfinite(scene.depth[3]), scene.depth[3], 0))


def test_without_h5py_the_depth_of_uco3d_is_one_clear_line(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)  # as if it were not installed
    with pytest.raises(BadInput, match="pip install h5py"):
        uco3d.stored_depth(tmp_path / "depth_maps.h5", 1)


def test_a_lens_is_undone():
    """Points of a known pattern, drawn where the distorted camera sees them, lie where the pinhole camera sees them."""
    K, size, coefficients = np.array([[150.0, 0, 128], [0, 155.0, 96], [0, 0, 1]]), SIZE, np.array([-0.12, 0.03, 0.002, -0.001])
    out = lens.pinhole(K, coefficients, size)
    v, u = np.mgrid[:192, :256] + 0.5
    x, y = (u - K[0, 2]) / K[0, 0], (v - K[1, 2]) / K[1, 1]
    a, b = x, y
    for _ in range(50):  # Newton would do as well: the plane's point behind each pixel of the distorted picture
        r = a * a + b * b
        radial = 1 - 0.12 * r + 0.03 * r * r
        dx, dy = 2 * 0.002 * a * b - 0.001 * (r + 2 * a * a), 0.002 * (r + 2 * b * b) - 2 * 0.001 * a * b
        a, b = (x - dx) / radial, (y - dy) / radial
    straight = lens.undistort(np.stack([a, b], -1), K, coefficients, out)
    expected = np.stack([(u - out[0, 2]) / out[0, 0], (v - out[1, 2]) / out[1, 1]], -1)
    assert np.abs(straight - expected).max() < 1e-3 and out[0, 0] != K[0, 0]
