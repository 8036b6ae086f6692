"""The data suite: its rates are those of calls, its large set is one that reads, its large clips are the small ones enlarged."""

from __future__ import annotations

import time

import numpy as np
import pytest

from sv_jax.bench.data import enlarge, per_second, repeat_questions
from sv_jax.cli import main
from sv_jax.data import open_split


@pytest.mark.parametrize("threads, expected", [(1, 50), (4, 200)])
def test_a_rate_is_calls_of_all_threads_per_second(threads, expected, monkeypatch):
    monkeypatch.setattr("sv_jax.bench.data.SECONDS", 0.5)
    assert per_second(lambda: time.sleep(0.02), threads) == pytest.approx(expected, rel=0.3)


def test_the_large_set_has_the_questions_of_the_small_one_over_and_over(tiny_data, tmp_path, monkeypatch):
    monkeypatch.setattr("sv_jax.bench.data.sets.SHARD", {"qa": 7})  # records per file
    repeat_questions(tiny_data, str(tmp_path / "many"), 40)
    few, many = open_split(tiny_data, "train"), open_split(tmp_path / "many", "train")
    assert [many.qa(i) for i in range(40)] == [few.qa(i % len(few)) for i in range(40)]
    chosen = open_split(tmp_path / "many", "train", scales=("indoor",))
    assert len(chosen) == sum(many.qa(i).scale == "indoor" for i in range(40)) > 0


def test_the_large_clips_show_the_small_ones(tiny_data, tmp_path):
    enlarge(tiny_data, str(tmp_path / "large"))
    small, large = open_split(tiny_data, "train"), open_split(tmp_path / "large", "train")
    assert [large.qa(i) for i in range(len(large))] == [small.qa(i) for i in range(len(small))]
    first = large[len(large) - 1]["frames"]
    assert len(first) == 32 and np.abs(first[0, ::4, ::4].astype(int) - small[len(small) - 1]["frames"][0]).mean() < 8


def test_bad_options_are_one_line(capsys):
    assert main(["bench", "--suite", "dta"]) == 2 and "did you mean 'data'" in capsys.readouterr().err
    assert main(["bench", "--suite", "data", "--records", "0"]) == 2 and "--records 0: expected at least 1" in capsys.readouterr().err
