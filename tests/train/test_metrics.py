"""What a run writes: every line at once, nothing twice after a resume, TensorBoard and JSONL alike."""

from __future__ import annotations

import json
import math
import re
import time
from dataclasses import dataclass
from pathlib import Path

import jax.numpy as jnp
import pytest

from sv_jax.config import load_config
from sv_jax.progress import mean, progress
from sv_jax.train.metrics import RunLogger, read_metrics


@dataclass(frozen=True)
class Config:
    steps: int = 3


def test_a_line_is_readable_as_soon_as_it_is_written(tmp_path):
    with RunLogger(tmp_path, Config(5)) as log:
        log.write(1, {"loss": jnp.float32(0.5), "rewards/format/mean": 1})
        assert read_metrics(tmp_path) == [{"step": 1, "loss": 0.5, "rewards/format/mean": 1.0}]
        log.write(2, {"loss": math.nan})
        assert json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[1]) == {"step": 2, "loss": None}
    assert load_config(Config, tmp_path / "config.yaml") == Config(5)


def test_resuming_drops_the_lines_after_the_checkpoint_and_the_one_cut_short(tmp_path):
    with RunLogger(tmp_path, Config()) as log:
        for step in (1, 2, 3):
            log.write(step, {"loss": step, "num_tokens": 100 * step})
    with (tmp_path / "metrics.jsonl").open("a") as f:
        f.write('{"step": 4, "lo')
    assert [row["step"] for row in read_metrics(tmp_path)] == [1, 2, 3]
    with RunLogger(tmp_path, Config(), start=2) as log, log.progress("sft", 4, 2) as bar:
        bar.advance(3, {"loss": 9.0, "num_tokens": 7})
        log.write(3, bar.window())
    assert [(row["step"], row["loss"], row["num_tokens"]) for row in read_metrics(tmp_path)] == [(1, 1, 100), (2, 2, 200), (3, 9, 207)]
    RunLogger(tmp_path, Config()).__exit__()
    assert read_metrics(tmp_path) == []


def test_tensorboard_shows_the_values_and_forgets_the_steps_that_a_resumed_run_makes_again(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with RunLogger(tmp_path, Config()) as log:
        for step in (1, 2, 3):
            log.write(step, {"loss": step / 2})
    time.sleep(1.1)  # the files are read in the order of their names, which hold the second in which they were begun
    with RunLogger(tmp_path, Config(), start=1) as log:
        log.write(2, {"loss": 7.0})
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [(e.step, e.value) for e in events.Scalars("loss")] == [(1, 0.5), (2, 7.0)]


def test_pairs_are_added_up_before_they_are_divided():
    rows = [{"loss": 1.0, "clip": (1.0, 4.0)}, {"loss": 3.0, "clip": (0.0, 12.0), "kl": (0.0, 0.0)}]
    got = mean(rows)
    assert got["loss"] == 2.0 and got["clip"] == 1 / 16 and math.isnan(got["kl"])


def test_a_window_holds_the_steps_since_the_last_one(capsys):
    with progress("sft", 4) as bar:
        bar.advance(1, {"loss": jnp.float32(4.0), "num_tokens": jnp.int32(10)}, samples=2)
        first = bar.window()
        bar.advance(2, {"loss": jnp.float32(2.0), "num_tokens": jnp.int32(10)}, samples=2)
        bar.advance(3, {"loss": jnp.float32(1.0), "num_tokens": jnp.int32(20)}, samples=4)
        second = bar.window()
    assert first == {"loss": 4.0, "num_tokens": 10}  # the first step compiles: it has no time
    assert (second["loss"], second["num_tokens"]) == (1.5, 40)
    assert second["tokens_per_second"] == pytest.approx(30 / (2 * second["step_time"]))
    assert second["samples_per_second"] == pytest.approx(6 / (2 * second["step_time"]))
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "sft 1/4  loss 4.0000"
    assert re.fullmatch(r"sft 3/4  loss 1\.5000  [\d,]+ tok/s  ETA 0:00", lines[1])


def test_a_loop_without_metrics_says_every_tenth_away_from_a_terminal(capsys):
    with progress("scenes", 50) as bar:
        for step in range(1, 51):
            bar.advance(step)
    lines = capsys.readouterr().err.splitlines()
    assert [line.split()[1] for line in lines] == [f"{n}/50" for n in range(5, 51, 5)]


def test_on_a_terminal_there_is_a_bar(monkeypatch, capsys):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    with progress("sft", 2) as bar:
        bar.advance(1, {"loss": 1.0})
        bar.window()
        bar.advance(2, {"loss": 1.0})
    assert "sft" in (shown := capsys.readouterr().err) and "2/2" in shown and "loss 1.0000" in shown


def test_logs_are_written_whole(tmp_path):
    with RunLogger(tmp_path, Config()):
        pass
    assert sorted(p.name for p in Path(tmp_path).iterdir()) == ["config.yaml", "metrics.jsonl", "tensorboard"]
