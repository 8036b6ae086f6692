"""`sv-jax data load`: the dataset folder, and what is wrong with a source, counted and named."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sv_jax import cli
from sv_jax.data import codec, open_split, sets
from sv_jax.errors import UserError
from sv_jax.recorded.faults import BadInput, Faults
from sv_jax.recorded.load import SCALE_FREE, LoadConfig, load, load_recordings, questions
from sv_jax.tasks.units import METRES
from tests.recorded import layouts

SIZE, F = (192, 256), 6


@pytest.fixture(scope="module")
def sources(scenes, tmp_path_factory):
    """A scene called b in each layout, for tests to spoil a copy."""
    root = tmp_path_factory.mktemp("sources")
    for name in ("smot", "wildrgbd", "scannet", "scannetpp", "arkit", "dl3dv"):
        getattr(layouts, name)(root / name, scenes["tabletop"], "b")
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
    ("wildrgbd", lambda b: rewrite(b / "metadata", transposed), "mismatched intrinsics", "b/rgb/00000.png", True),
    ("wildrgbd", lambda b: rewrite(b / "metadata", lambda m: m | {"w": 640, "h": 480}), "mismatched intrinsics", "b/metadata", True),
    ("wildrgbd", lambda b: twice(b / "cam_poses.txt"), "duplicate id", "cam_poses.txt", False),
    ("dl3dv", lambda b: rewrite(b / "transforms.json", lambda t: t | {"w": 999}), "mismatched intrinsics", "transforms.json", True),
    ("scannetpp", lambda b: cut(b / "iphone/rgb.mkv"), "broken video", "rgb.mkv", True),
    ("scannetpp", lambda b: rewrite(b / "iphone/pose_intrinsic_imu.json", metres), "non-metric poses", "frame_000000", True),
    ("arkit", lambda b: (b / "lowres_wide.traj").write_text("1 2 x"), "bad pose", "lowres_wide.traj", True),
    ("arkit", lambda b: rewrite(b / "b_3dod_annotation.json", lambda a: {"data": [{}]}), "broken file", "/b", True),
]  # fmt: skip


@pytest.mark.parametrize("case", SPOILT, ids=lambda case: f"{case[0]}-{case[2]}-{Path(case[3]).name}")
def test_what_is_wrong_is_named_with_its_file(sources, tmp_path, case):
    layout, spoil, kind, file, lost = case
    shutil.copytree(sources / layout, tmp_path / layout)
    folder = next(path for path in (tmp_path / layout).rglob("b") if path.is_dir())
    spoil(folder)
    faults, lines = Faults(), []
    try:
        assert len(load(folder, layout, faults, frames=F, side=48).frames) >= F - 2 and not lost  # an even number of those with a pose
    except BadInput as fault:
        assert lost
        lines.append(str(fault))
    lines += faults.lines
    assert any(file in line.partition(f": {kind}: ")[0] and f": {kind}: " in line for line in lines), lines
    with pytest.raises(BadInput):
        load(folder, layout, Faults(strict=True), frames=F, side=48)


def test_good_scenes_are_kept_faults_counted_and_strict_stops(scenes, tmp_path, capsys):
    media, out, scene = tmp_path / "smot", tmp_path / "out", scenes["tabletop"]
    a, again, b, c = (layouts.smot(media, scene, name) for name in ("a", "again/a", "b", "c"))
    (b / "depth/000009.png").unlink()
    shutil.rmtree(c / "depth")
    arguments = ["--from", "smot", "--media", str(media), "--frames", str(F), "--questions", "3", "--side", "128"]
    assert cli.main(["data", "load", *arguments, "--out", str(out)]) == 0
    said = capsys.readouterr()
    assert f"{'a':32}{'tabletop':10}{F:7}{len(scene.objects):8}" in said.out and f"{'b':32}{'tabletop':10}{F - 1:7}" in said.out
    assert "SMOT" in said.out and "unknown" in said.out  # its licence
    manifest = json.loads((out / "manifest.json").read_text())
    assert list(manifest["scenes"]) == ["a", "b"]
    assert manifest["faults"]["counts"] == {"duplicate id": 1, "missing depth": 1 + F, "too few frames": 1}
    assert f"{F + 3} faults: " in said.err and f"{b}/depth/000009.png: missing depth: no such file" in said.err
    assert len(open_split(str(out), "train")) == manifest["splits"]["train"]["questions"] == 6
    row = sets.source(out, "geom", "train")[0]
    exact = scene.depth[:, ::2, ::2]
    near = (scene.ids[:, ::2, ::2] == 0) & (exact < 60)
    assert (
        np.median(np.abs(codec.unpack_depth(row["depth"], exact.shape)[near] / exact[near] - 1)) < 1e-3
    )  # millimetres, then 1.3e-4 of the packed depth
    assert cli.main(["data", "load", *arguments, "--out", str(tmp_path / "strict"), "--strict"]) == 2
    assert "duplicate id" in capsys.readouterr().err and not (tmp_path / "strict").exists()


def test_a_source_without_depth_has_clips_and_cameras_alone(sources, tmp_path):
    manifest = load_recordings(LoadConfig("dl3dv", str(sources / "dl3dv"), str(tmp_path / "out"), frames=4))
    assert manifest["splits"]["train"] | {"sha256": ""} == {"scenes": 1, "questions": 0, "table": {}, "sha256": ""}
    assert not (tmp_path / "out" / "geom").exists()
    row = sets.source(tmp_path / "out", "scenes", "train")[0]
    assert row["poses"].shape == (4, 4, 4) and np.isfinite(row["poses"]).all()


def test_scenes_without_a_unit_are_asked_nothing_that_needs_one(scenes):
    for scene in scenes.values():
        found = questions(scene, 12, metric=False)
        assert len(found) > 3
        for qa in found:
            assert qa.task in SCALE_FREE and qa.unit not in METRES and qa.scale_anchor is None
            assert "<scale>" not in qa.target_text() and not re.search(r"\d (mm|cm|m)\b", f"{qa.user_text()} {qa.target_text()}")
        assert any(qa.unit in METRES for qa in questions(scene, 4, metric=True))


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
