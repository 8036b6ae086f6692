"""`sv-jax data annotate` on videos of our own scenes, with what specialists would have measured on disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sv_jax import cli
from sv_jax.annotate.dataset import AnnotateConfig, annotate_videos
from sv_jax.annotate.oracle import Noise, Oracle
from sv_jax.annotate.specialists import Clip
from sv_jax.data import codec, open_split, sets
from sv_jax.errors import UserError
from sv_jax.scenes import generate
from sv_jax.tasks.view import View
from tests.annotate.answers import exact_answer


@pytest.fixture(scope="module")
def scenes():
    return {name: generate(name, 11, kind="plain", frames=4, size=(168, 168)) for name in ("tabletop", "outdoor")}


@pytest.fixture(scope="module")
def folder(scenes, tmp_path_factory) -> Path:
    """<scale>.mp4, maps/<scale>.npz and cameras/<scale>.npz; broken.mp4 stops half-way."""
    root = tmp_path_factory.mktemp("own")
    for name in ("maps", "cameras"):
        (root / name).mkdir()
    for name, scene in scenes.items():
        oracle, clip = Oracle(scene, Noise(jitter=0.02, blur=0.5)), Clip(name, scene.frames, scene.fps, scene.frames.shape[1:3])
        boxes = oracle.detect(clip, ())
        maps = {"depth": oracle.depth(clip).values, "disparity": oracle.disparity(clip).values, "ids": oracle.track(clip, boxes)}
        np.savez_compressed(root / "maps" / name, **maps, boxes=boxes.xyxy, phrases=np.array(boxes.phrases))
        np.savez(root / "cameras" / name, K=scene.K, poses=scene.poses)
        (root / f"{name}.mp4").write_bytes(codec.encode_clip(scene.frames, scene.fps))
    (root / "alone.mp4").write_bytes((root / f"{name}.mp4").read_bytes())  # without cameras
    _cut(root / "broken.mp4")
    np.savez(root / "cameras" / "broken", poses=np.tile(np.eye(4), (24, 1, 1)))
    return root


def _cut(path: Path) -> None:
    """24 noisy frames of which the last third is gone; the index stands at the front, so that the file still opens."""
    import av

    noise = np.random.default_rng(0).integers(0, 255, (24, 64, 64, 3), np.uint8)
    with av.open(str(path), "w", options={"movflags": "faststart"}) as out:
        stream = out.add_stream("libx264", rate=8, options={"crf": "10"})
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        for frame in noise:
            out.mux(stream.encode(av.VideoFrame.from_ndarray(frame, "rgb24")))
        out.mux(stream.encode())
    data = path.read_bytes()
    path.write_bytes(data[: 2 * len(data) // 3])


def config(folder: Path, out: Path, *names: str, **changes) -> AnnotateConfig:
    maps = f"disk:{folder / 'maps'}"
    given = {"depth": maps, "detect": maps, "track": maps, "video_depth": maps, "cameras": str(folder / "cameras")}
    return AnnotateConfig(tuple(str(folder / f"{name}.mp4") for name in names), str(out), **(given | changes))


def test_the_verb_writes_a_dataset_that_the_reader_opens_and_whose_answers_are_near_the_exact_ones(scenes, folder, tmp_path, capsys):
    maps, out = f"disk:{folder / 'maps'}", tmp_path / "set"
    videos = [str(folder / f"{name}.mp4") for name in (*scenes, "broken")]
    argv = ["--depth", maps, "--detect", maps, "--track", maps, "--video-depth", maps, "--cameras", str(folder / "cameras")]
    assert cli.main(["data", "annotate", "--video", *videos, *argv, "--out", str(out)]) == 0
    said = capsys.readouterr()
    assert f"left out {videos[2]}: video {videos[2]!r}: truncated, frame" in said.err
    samples = open_split(out, "train")
    assert said.out == f"{out} train: 2 scenes, {len(samples)} questions, 1 videos left out\n"
    assert len(samples) >= 14
    views, compared = {name: View(scene) for name, scene in scenes.items()}, 0
    for i in range(len(samples)):
        qa = samples[i]["qa"]
        assert samples[i]["frames"].shape == (4, 168, 168, 3) and qa.task != "counting"
        truth = exact_answer(qa, views[qa.scene_id])
        if truth is not None:
            compared += 1
            assert qa.answer == truth if qa.answer_si is None else abs(qa.answer_si / truth - 1) < 0.25, (qa, truth)
    assert compared >= 12
    geometry = sets.source(out, "geom", "train")
    assert len(geometry) == 2 and tuple(geometry[0]["shape"]) == (4, 168, 168)


def test_the_same_config_gives_the_same_content(folder, tmp_path):
    first, again = (annotate_videos(config(folder, tmp_path / name, "tabletop")) for name in "ab")
    assert first == again and first["splits"]["train"]["scenes"] == 1


def test_a_video_without_cameras_is_its_first_frame_and_may_be_shrunk(scenes, folder, tmp_path):
    single = tmp_path / "maps"
    single.mkdir()
    with np.load(folder / "maps" / "tabletop.npz") as stored:
        maps = {key: stored[key][:1] if stored[key].ndim == 3 else stored[key] for key in stored}
    np.savez(single / "tabletop", **maps)
    where = {kind: f"disk:{single}" for kind in ("depth", "detect", "track")}
    options = {"video_depth": None, "cameras": None, "fov": 55.0, "side": 120, **where}
    manifest = annotate_videos(config(folder, tmp_path / "set", "tabletop", **options))
    assert manifest["splits"]["train"]["questions"] >= 4
    assert open_split(tmp_path / "set", "train")[0]["frames"].shape == (1, 120, 120, 3)


@pytest.mark.parametrize(
    ("names", "changes", "message"),
    [
        (
            ("tabletop",),
            {"depth": "depth_por"},
            "depth 'depth_por' is not one of depth_anything, depth_pro, disk; did you mean 'depth_pro'?",
        ),
        (("tabletop",), {"track": "sam"}, "track 'sam' is not one of disk, sam2; did you mean 'sam2'?"),
        (("tabletop",), {"depth": "disk:nowhere"}, "disk:nowhere: no such folder"),
        (("tabletop",), {"scale": "tabeltop"}, "did you mean 'tabletop'?"),
        (("tabletop", "tabletop"), {}, "videos: two are called 'tabletop'"),
        ((), {}, "videos: none given"),
        (("tabletop",), {"fov": 0.0}, "fov 0: expected degrees"),
        (("alone",), {}, "videos: none of 1 could be annotated; .*alone.npz.: no such file"),
        (("missing",), {}, "videos: none of 1 exists; the first is .*missing.mp4"),
        (("broken",), {"strict": True}, "broken.mp4': truncated, frame .* of 24 cannot be decoded"),
        (("tabletop",), {"phrases": ("violet sofa",)}, "detector: tabletop: none of violet sofa in the first frame"),
        (("tabletop",), {"cameras": None, "fov": 55.0}, r"maps/tabletop.npz: depth \[4, 168, 168\], expected \[1, 168, 168\]"),
        (("tabletop",), {"side": 64, "cameras": None}, r"expected \[1, 64, 64\] or \[1, 168, 168\]"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(folder, tmp_path, names, changes, message):
    out = tmp_path / "set"
    with pytest.raises(UserError, match=message) as error:
        annotate_videos(config(folder, out, *names, **changes))
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


def test_an_unreadable_or_incomplete_map_is_named(folder, tmp_path):
    maps = tmp_path / "maps"
    maps.mkdir()
    where = {kind: f"disk:{maps}" for kind in ("depth", "detect", "track", "video_depth")}
    (maps / "tabletop.npz").write_bytes(b"no npz")
    with pytest.raises(UserError, match="maps/tabletop.npz: not an npz file"):
        annotate_videos(config(folder, tmp_path / "set", "tabletop", **where))
    np.savez(maps / "tabletop", ids=np.zeros((4, 168, 168), np.uint8))
    with pytest.raises(UserError, match="maps/tabletop.npz: no depth in it, found ids"):
        annotate_videos(config(folder, tmp_path / "set", "tabletop", **where))
    with pytest.raises(UserError, match="exists; expected a new folder"):
        annotate_videos(config(folder, maps, "tabletop", **where))
