from __future__ import annotations

import dataclasses
import json
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

import numpy as np
import pytest

from sv_jax.data import BuildConfig, SplitConfig, build, codec, open_split, sets
from sv_jax.data.batches import BatchStream, ShapeConfig
from sv_jax.data.index import last_frame
from sv_jax.data.order import DataConfig, open_samples
from sv_jax.errors import UserError
from sv_jax.inputs.chat import Processor
from sv_jax.scenes.scene import SCALES
from sv_jax.tasks import QA

SIX = ("object_size", "absolute_distance", "counting", "position_comparison", "size_comparison", "depth")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = str(tmp_path_factory.mktemp("data") / "set")
    build(BuildConfig(out, (SplitConfig("train", 3, 0, "plain"),), tasks=SIX, questions=4, frames=4, size=(112, 112)))
    return out


def test_sample_has_question_clip_and_rate(folder):
    sample = open_split(folder, "train")[0]
    assert sample["frames"].shape == (4, 112, 112, 3) and sample["frames"].dtype == np.uint8
    assert sample["qa"].scale == SCALES[0] and sample["qa"].id.startswith(sample["qa"].scene_id) and sample["fps"] > 0


def test_filters_by_scale_and_task(folder):
    chosen = open_split(folder, "train", scales=("tiny", "drone"), tasks=("depth", "counting"))
    found = {(chosen.qa(i).scale, chosen.qa(i).task) for i in range(len(chosen))}
    assert found == {(s, t) for s in ("tiny", "drone") for t in ("depth", "counting")}


def test_questions_about_frames_that_are_cut_off_are_left_out(tmp_path):
    out = str(tmp_path / "set")
    build(
        BuildConfig(
            out,
            (SplitConfig("train", 2, 0, "plain"),),
            scales=("indoor",),
            tasks=("view_change", "depth"),
            questions=6,
            frames=4,
            size=(112, 112),
        )
    )
    asked, short = open_split(out, "train"), open_split(out, "train", frames=2)
    named = {asked.qa(i).id: asked.qa(i).frames for i in range(len(asked))}
    left = {short[i]["qa"].id for i in range(len(short))}
    assert left == {key for key, frames in named.items() if frames is None or max(frames) < 2} and 0 < len(left) < len(named)


def test_a_mark_needs_its_frame_as_a_question_does():
    qa = QA("q", "s", "counting", "tiny", "How many?", "3", "number", marks=({"kind": "point", "frame": 2, "xy": (1, 1)},))
    assert last_frame(json.loads(json.dumps(qa.to_dict()))) == 2
    assert last_frame(json.loads(json.dumps(dataclasses.replace(qa, frames=(0, 3)).to_dict()))) == 3


def test_small_cache_gives_the_same_frames(folder):
    large, small = open_split(folder, "train"), open_split(folder, "train", cache_bytes=1)
    for i in range(0, len(large), 7):
        np.testing.assert_array_equal(large[i]["frames"], small[i]["frames"])


def test_bad_requests_are_one_line(folder, tmp_path):
    with pytest.raises(UserError, match="split 'trian'.*did you mean 'train'"):
        open_split(folder, "trian")
    with pytest.raises(UserError, match="scale 'indor'.*did you mean 'indoor'"):
        open_split(folder, "train", scales=("indor",))
    with pytest.raises(UserError, match="expected a folder made by `sv-jax data build`"):
        open_split(tmp_path, "train")
    with pytest.raises(UserError, match="no sample"):
        open_samples(DataConfig(folder, tasks=("description",)))


def test_threads_decode_a_clip_once_and_get_the_same_frames(folder, monkeypatch):
    samples, count, decode = open_split(folder, "train"), Counter(), codec.decode_clip

    def counting(mp4):
        count[mp4] += 1
        return decode(mp4)

    monkeypatch.setattr(codec, "decode_clip", counting)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda i: samples[i]["frames"].sum(), list(range(len(samples))) * 2))
    assert set(count.values()) == {1} and len(count) == 3 * len(SCALES)
    assert found[: len(samples)] == found[len(samples) :] == [open_split(folder, "train")[i]["frames"].sum() for i in range(len(samples))]


@pytest.fixture
def broken(tmp_path):
    """`broken(qa changes, text changes, mp4 changes, row)`: a dataset of two clips with a question each, the second of which is changed."""

    def write(qa=lambda qa: qa, text=lambda text: text, mp4=lambda mp4: mp4, row=1) -> str:
        same = lambda x: x  # noqa: E731
        record = QA("a", "s", "counting", "tiny", "How many?", "3", "number").to_dict()
        film = codec.encode_clip(np.zeros((4, 32, 32, 3), np.uint8), 2.0)
        with sets.Writers(tmp_path / "set", ["train"], geometry=False) as writers:
            for changes, place in (((same, same, same), 0), ((qa, text, mp4), row)):
                writers.clip("train", "s", "tiny", changes[2](film), 2.0)
                stored = changes[1](json.dumps(changes[0](record)))
                columns = {"id": "a", "task": "counting", "scale": "tiny", "scene_row": place, "json": stored}
                writers._sets["qa"].add_examples({"train": [columns]})
        return str(tmp_path / "set")

    return write


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"text": lambda t: "{" + t}, "qa row 1: Expecting property name"),
        ({"qa": lambda qa: qa | {"colour": 1}}, "qa row 1: QA field 'colour' is not one of"),
        ({"qa": lambda qa: qa | {"answer_type": "numbr"}}, "qa row 1: answer_type 'numbr'.*did you mean 'number'"),
        ({"qa": lambda qa: qa | {"question": "<|video_pad|>"}}, "qa row 1: messages: 2 vision placeholders"),
        ({"qa": lambda qa: qa | {"marks": [{"kind": "point", "frame": 7, "xy": [1, 1]}]}}, "scenes row 1: .*frame"),
        ({"row": 9}, "scenes row 9: "),
        ({"mp4": lambda mp4: mp4[:100]}, "scenes row 1: clip: 100 bytes are not an MP4"),
        ({"mp4": lambda mp4: mp4[:48] + bytes(len(mp4) - 1100) + mp4[-1052:]}, "scenes row 1: clip: .*cannot|can be decoded"),
    ],
)
def test_a_broken_record_in_a_stream_is_one_line_with_its_place(changes, message, broken, tiny_folder):
    path = broken(**changes)
    stream = BatchStream(DataConfig(path, workers=2), ShapeConfig(1, 128, 64, 16), Processor.from_folder(tiny_folder), 0)
    with pytest.raises(UserError, match=f"data '{path}', split 'train', {message}") as caught:
        list(islice(stream, 4))
    assert "\n" not in str(caught.value)
