"""`sv-jax data load`: the dataset folder, and what is wrong with a source, counted and named."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sv_jax import cli
from sv_jax.data import open_split, sets
from sv_jax.data.read import codec
from sv_jax.errors import UserError
from sv_jax.recorded.faults import BadInput
from sv_jax.recorded.load import SCALE_FREE, LoadConfig, load_recordings
from sv_jax.scenes import generate
from sv_jax.tasks.units import METRES
from tests.recorded import layouts

SIZE, F = (192, 256), 6


@pytest.fixture(scope="module")
def scene():
    return generate("tabletop", 11, frames=F, size=SIZE)


@pytest.fixture(scope="module")
def sources(scene, tmp_path_factory):
    """A good scene, called a, and a second, called b, that tests spoil, in each layout."""
    root = tmp_path_factory.mktemp("sources")
    for name in ("smot", "wildrgbd", "scannet", "scannetpp", "arkit", "dl3dv"):
        getattr(layouts, name)(root / name, scene, "a")
        getattr(layouts, name)(root / name, scene, "b")
    layouts.uco3d(root / "uco3d", scene, "a", depth=False)
    return root


def rewrite(path: Path, change) -> None:
    stored = json.loads(path.read_text())
    path.write_text(json.dumps(change(stored)))


def without_pose(path: Path, frame: int, value: float) -> None:
    rows = np.loadtxt(path)
    rows[frame, 1:] = value
    layouts.text(path, rows)


def smaller(path: Path) -> None:
    picture = Image.open(path)
    picture.resize((picture.width // 2, picture.height // 2)).save(path)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def twice(path: Path) -> None:
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines, lines[2]]) + "\n")


def transposed(stored: dict) -> dict:
    return stored | {"K": np.reshape(stored["K"], (3, 3)).T.ravel().tolist()}


def metres(stored: dict) -> dict:
    return {name: frame | {"aligned_pose": scaled(frame["aligned_pose"])} for name, frame in stored.items()}


def scaled(pose: list) -> list:
    pose = np.array(pose)
    pose[:3, 3] *= 1000
    return pose.tolist()


def same_label(stored: dict) -> dict:
    return {"segGroups": [*stored["segGroups"], stored["segGroups"][1]]}


# layout, what is done to scene b, the kind of the fault, its file, whether the scene is lost
SPOILT = [
    ("smot", lambda b: (b / "depth/000009.png").unlink(), "missing depth", "depth/000009.png", False),
    ("smot", lambda b: shutil.rmtree(b / "depth"), "missing depth", "b/depth/", True),
    ("smot", lambda b: layouts.image(b / "depth/000009.png", np.zeros(SIZE, np.uint16)), "missing depth", "rgb/000009.png", False),
    ("smot", lambda b: smaller(b / "masks/000010.png"), "mask size", "rgb/000010.png", False),
    ("smot", lambda b: smaller(b / "rgb/000010.png"), "mismatched frames", "rgb/000010.png", False),
    ("smot", lambda b: cut(b / "rgb/000010.png"), "broken picture", "rgb/000010.png", False),
    ("smot", lambda b: without_pose(b / "poses.txt", 1, np.nan), "bad pose", "rgb/000009.png", False),
    ("smot", lambda b: twice(b / "poses.txt"), "duplicate id", "poses.txt", False),
    ("smot", lambda b: (b / "objects.json").write_text("[1]"), "broken file", "objects.json", True),
    ("scannet", lambda b: layouts.text(b / "pose/9.txt", np.full((4, 4), -np.inf)), "bad pose", "color/9.png", False),
    ("scannet", lambda b: rewrite(b / "b.aggregation.json", same_label), "duplicate id", "b.aggregation.json", False),
    ("scannet", lambda b: shutil.copytree(b, b.parent / "again/b"), "duplicate id", "again/b", False),
    ("wildrgbd", lambda b: rewrite(b / "metadata", transposed), "mismatched intrinsics", "b/rgb/00000.png", True),
    ("wildrgbd", lambda b: rewrite(b / "metadata", lambda m: m | {"w": 640, "h": 480}), "mismatched intrinsics", "b/metadata", True),
    ("wildrgbd", lambda b: twice(b / "cam_poses.txt"), "duplicate id", "cam_poses.txt", False),
    ("dl3dv", lambda b: rewrite(b / "transforms.json", lambda t: t | {"w": 999}), "mismatched intrinsics", "transforms.json", True),
    ("scannetpp", lambda b: cut(b / "iphone/rgb.mkv"), "broken video", "rgb.mkv", True),
    ("scannetpp", lambda b: rewrite(b / "iphone/pose_intrinsic_imu.json", metres), "non-metric poses", "frame_000000", True),
    ("arkit", lambda b: cut(b / "lowres_wide.traj"), "broken file", "/b", True),
]  # fmt: skip


@pytest.mark.parametrize("case", SPOILT, ids=lambda case: f"{case[0]}-{case[2]}-{Path(case[3]).name}")
def test_what_is_wrong_is_counted_and_named_and_the_good_scene_kept(sources, tmp_path, case):
    layout, spoil, kind, file, lost = case
    media = tmp_path / layout
    shutil.copytree(sources / layout, media)
    spoil(next(path for path in media.rglob("b") if path.is_dir()))
    arguments = {"source": layout, "media": str(media), "frames": F, "side": 96, "questions": 2}
    manifest = load_recordings(LoadConfig(out=str(tmp_path / "out"), **arguments))
    ids = {Path(id).name for id in manifest["scenes"]}
    assert ids == ({"a"} if lost else {"a", "b"})
    faults = manifest["faults"]
    assert kind in faults["counts"]
    line = next(line for line in faults["lines"] if f": {kind}: " in line)
    assert file in line.partition(f": {kind}: ")[0]
    with pytest.raises(BadInput) as error:
        load_recordings(LoadConfig(out=str(tmp_path / "strict"), strict=True, **arguments))
    assert str(error.value) == faults["lines"][0]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([layout, "out"])


def test_the_dataset_reads_back_with_its_geometry_and_questions(scene, sources, tmp_path, capsys):
    out = tmp_path / "smot"
    arguments = ["--from", "smot", "--media", str(sources / "smot"), "--out", str(out), "--frames", str(F)]
    assert cli.main(["data", "load", *arguments]) == 0
    said = capsys.readouterr()
    assert "unknown" in said.out and "faults" not in said.err  # SMOT's licence
    manifest = json.loads((out / "manifest.json").read_text())
    samples = open_split(str(out), "train")
    assert len(samples) == manifest["splits"]["train"]["questions"] > 4
    assert f"{'a':32}{'tabletop':10}{F:7}{len(scene.objects):8}" in said.out
    row = sets.source(out, "geom", "train")[0]
    depth = codec.unpack_depth(row["depth"], tuple(row["shape"]))
    inner = scene.ids == 0
    near = inner & (scene.depth < 60)
    assert np.median(np.abs(depth[near] / scene.depth[near] - 1)) < 1e-3  # millimetres, then 2e-4 of the packed depth


def test_a_source_without_depth_has_clips_and_cameras_alone(scene, sources, tmp_path):
    manifest = load_recordings(LoadConfig("dl3dv", str(sources / "dl3dv"), str(tmp_path / "out"), frames=4))
    assert manifest["splits"]["train"] | {"sha256": ""} == {"scenes": 2, "questions": 0, "table": {}, "sha256": ""}
    assert not (tmp_path / "out" / "geom").exists()
    row = sets.source(tmp_path / "out", "scenes", "train")[0]
    assert row["poses"].shape == (4, 4, 4) and np.isfinite(row["poses"]).all()


def test_scenes_without_a_unit_are_asked_nothing_that_needs_one(scene, tmp_path, monkeypatch):
    """Every layout's questions, asked as of a scene in another unit."""
    from sv_jax.recorded import load

    for seed in range(5):
        other = generate("tabletop", seed, frames=F, size=SIZE)
        found = load._questions(other, 20, metric=False)
        assert len(found) > 3
        for qa in found:
            assert qa.task in SCALE_FREE and qa.unit not in METRES and qa.scale_anchor is None
            assert "<scale>" not in qa.target_text() and " cm" not in f"{qa.user_text()} {qa.target_text()}"
    assert any(qa.unit in METRES for qa in load._questions(other, 20, metric=True))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"source": "scanet"}, "did you mean 'scannet'"),
        ({"scale": "indor"}, "did you mean 'indoor'"),
        ({"frames": 1}, "--frames 1"),
        ({"media": "nowhere"}, "--media 'nowhere': no such folder"),
        ({"source": "dl3dv"}, "no scene of dl3dv in it"),
    ],
)
def test_a_wrong_option_is_one_line(sources, tmp_path, changes, said):
    good = {"source": "smot", "media": str(sources / "smot"), "out": str(tmp_path / "out")}
    with pytest.raises(UserError, match=said) as error:
        load_recordings(LoadConfig(**good | changes))
    assert "\n" not in str(error.value) and not list(tmp_path.iterdir())
