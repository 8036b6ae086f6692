from __future__ import annotations

import json
from collections import Counter
from itertools import islice

import numpy as np
import pytest

from sv_jax.data import BuildConfig, SplitConfig, build, open_split, train_iterator
from sv_jax.data.read import _within
from sv_jax.errors import UserError
from sv_jax.scenes.scene import SCALES
from sv_jax.tasks import QA

SIX = ("object_size", "absolute_distance", "counting", "position_comparison", "size_comparison", "depth")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = str(tmp_path_factory.mktemp("data") / "set")
    build(BuildConfig(out, (SplitConfig("train", 3, 0),), tasks=SIX, questions=4))
    return out


def ids(batches) -> list[str]:
    return [sample["qa"].id for batch in batches for sample in batch]


def test_sample_has_question_clip_and_rate(folder):
    sample = open_split(folder, "train")[0]
    assert sample["frames"].shape == (4, 112, 112, 3) and sample["frames"].dtype == np.uint8
    assert sample["qa"].scale == SCALES[0] and sample["qa"].id.startswith(sample["qa"].scene_id) and sample["fps"] > 0


def test_epoch_is_a_permutation_and_the_next_one_another(folder):
    n = len(open_split(folder, "train"))
    stream = ids(islice(train_iterator(folder, "train", seed=0, batch=1), 2 * n))
    assert len(set(stream[:n])) == n and Counter(stream[:n]) == Counter(stream[n:]) and stream[:n] != stream[n:]
    assert stream == ids(islice(train_iterator(folder, "train", seed=0, batch=1), 2 * n))
    assert stream != ids(islice(train_iterator(folder, "train", seed=1, batch=1), 2 * n))


def test_stream_resumes_exactly_in_the_middle_of_an_epoch(folder):
    whole = train_iterator(folder, "train", seed=0, batch=3)
    list(islice(whole, 5))
    state = whole.get_state()
    rest = list(islice(whole, 25))
    resumed = train_iterator(folder, "train", seed=0, batch=3)
    resumed.set_state(state)
    again = list(islice(resumed, 25))
    assert ids(again) == ids(rest)
    for one, other in zip(again[-1], rest[-1], strict=True):
        np.testing.assert_array_equal(one["frames"], other["frames"])


def test_processes_take_disjoint_shares_of_the_global_order(folder):
    whole = ids(islice(train_iterator(folder, "train", seed=0, batch=2), 12))
    shares = [ids(islice(train_iterator(folder, "train", seed=0, batch=2, process_index=p, process_count=2), 6)) for p in range(2)]
    assert [shares[i % 2][i // 2] for i in range(24)] == whole
    assert not set(shares[0]) & set(shares[1])


def test_filters_by_scale_and_task(folder):
    chosen = open_split(folder, "train", scales=("tiny", "drone"), tasks=("depth", "counting"))
    found = {(chosen.qa(i).scale, chosen.qa(i).task) for i in range(len(chosen))}
    assert found == {(s, t) for s in ("tiny", "drone") for t in ("depth", "counting")}
    batch = next(train_iterator(folder, "train", seed=0, batch=8, tasks=("depth",)))
    assert {sample["qa"].task for sample in batch} == {"depth"}


def test_questions_about_frames_that_are_cut_off_are_left_out(tmp_path):
    out = str(tmp_path / "set")
    build(BuildConfig(out, (SplitConfig("train", 2, 0),), scales=("indoor",), tasks=("view_change", "depth"), questions=6))
    asked, short = open_split(out, "train"), open_split(out, "train", frames=2)
    named = {asked.qa(i).id: asked.qa(i).frames for i in range(len(asked))}
    left = {short[i]["qa"].id for i in range(len(short))}
    assert left == {key for key, frames in named.items() if frames is None or max(frames) < 2} and 0 < len(left) < len(named)


def test_a_mark_needs_its_frame_as_a_question_does():
    qa = QA("q", "s", "counting", "tiny", "How many?", "3", "number", marks=({"kind": "point", "frame": 2, "xy": (1, 1)},))
    record = {"json": json.dumps(qa.to_dict())}
    assert [_within(record, frames) for frames in (2, 3)] == [False, True]


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
        train_iterator(folder, "train", seed=0, batch=2, tasks=("description",))
