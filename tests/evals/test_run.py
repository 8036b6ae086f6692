"""`sv-jax eval` from a model and a dataset folder to its report, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sv_jax.data.batches import DataConfig, ShapeConfig
from sv_jax.data.read import open_split
from sv_jax.errors import UserError
from sv_jax.evals import run
from sv_jax.evals.answer import best_constants, by_task_and_scale, mean
from sv_jax.evals.run import EvalConfig, evaluate, plot, table
from sv_jax.evals.scoring import ours
from sv_jax.inputs.media import Compat
from sv_jax.tasks.qa import QA

ACCURACY = {"counting": {"tiny": 0.5, "drone": 0.25, "all": 0.375}, "depth": {"tiny": 1.0, "all": 1.0}}
CONSTANT = {"counting": {"tiny": 0.25, "drone": 0.0, "all": 0.125}, "depth": {"tiny": 0.5, "all": 0.5}}


def settings(model, data: str, out, source: dict | None = None, **changes) -> EvalConfig:
    shape = ShapeConfig(rows=4, length=160, patches=64, slice_patches=16)
    return EvalConfig(str(model), DataConfig(**{"path": data, "split": "eval"} | (source or {})), str(out), shape, 4, **changes)


def test_the_report_holds_every_answer_and_their_means(tmp_path, tiny_folder, tiny_data, capsys):
    shown = evaluate(settings(tiny_folder, tiny_data, tmp_path / "out"))
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"report.json", "samples.jsonl", "accuracy.png"}
    split = open_split(tiny_data, "eval")
    qas = [split.qa(i) for i in range(len(split))]
    rows = [json.loads(line) for line in (tmp_path / "out" / "samples.jsonl").read_text().splitlines()]
    assert [QA.from_dict(row["qa"]) for row in rows] == qas
    assert [row["score"] for row in rows] == [ours(row["text"], qa) for row, qa in zip(rows, qas, strict=True)]
    assert all(sum(row["router"].values()) == pytest.approx(1) for row in rows)
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["accuracy"]["model"] == by_task_and_scale((qa, row["score"]) for qa, row in zip(qas, rows, strict=True))
    assert report["constant"] == best_constants(qas) and report["questions"] == len(qas)
    assert report["mean"] == {"model": mean(report["accuracy"]["model"])}
    assert shown == table(report["accuracy"], report["constant"])
    assert f"eval {len(qas)}/{len(qas)}" in capsys.readouterr().err
    with Image.open(tmp_path / "out" / "accuracy.png") as png:
        png.load()
        assert png.format == "PNG" and np.ptp(np.asarray(png.convert("L"))) > 100


def test_a_limit_takes_questions_from_all_over_the_split(tmp_path, tiny_folder, tiny_data):
    evaluate(settings(tiny_folder, tiny_data, tmp_path, limit=2))
    rows = [json.loads(line) for line in (tmp_path / "samples.jsonl").read_text().splitlines()]
    split = open_split(tiny_data, "eval")
    assert [row["qa"]["id"] for row in rows] == [split.qa(i).id for i in (0, len(split) // 2)]


def test_router_and_compat_of_the_config_reach_model_and_processor(tmp_path, tiny_folder, tiny_data, monkeypatch):
    seen = []
    monkeypatch.setattr(run, "answer_split", lambda cfg, model, processor: seen.append((model, processor)) or [])
    monkeypatch.setattr(run, "write_report", lambda *args: None)
    monkeypatch.setattr(run, "table", lambda *args: "")
    evaluate(settings(tiny_folder, tiny_data, tmp_path / "out", router="sum", compat=Compat(assume_fps=1.0)))
    ((model, processor),) = seen
    assert model.cfg.experts.router == "sum" and processor.compat.assume_fps == 1.0


def test_the_table_shows_constants_scores_and_means_in_percent():
    lines = table({"base": ACCURACY, "model": ACCURACY}, CONSTANT).splitlines()
    assert lines[0].split() == ["task", "scale", "constant", "base", "model"]
    assert [line.split() for line in lines[1:4]] == [
        ["counting", "tiny", "25.0", "50.0", "50.0"],
        ["drone", "0.0", "25.0", "25.0"],
        ["all", "12.5", "37.5", "37.5"],
    ]
    assert lines[-1].split() == ["mean", "over", "tasks", "31.2", "68.8", "68.8"]
    assert len({len(line) for line in lines}) == 1


def test_the_plot_draws_a_bar_for_each_column_and_a_line_for_each_constant(tmp_path, monkeypatch):
    from matplotlib import pyplot as plt

    drawn = []
    monkeypatch.setattr(plt, "close", drawn.append)
    plot(tmp_path / "a.png", {"base": ACCURACY, "model": ACCURACY}, CONSTANT)
    by_task, by_scale = drawn[0].axes
    assert [bar.get_height() for bar in by_task.patches] == [37.5, 100] * 2
    assert [bar.get_height() for bar in by_scale.patches] == [75, 25] * 2  # tiny: mean of two tasks
    assert [line.get_segments()[0][0, 1] for line in by_task.collections] == [12.5, 50]
    assert [label.get_text() for label in by_scale.get_xticklabels()] == ["tiny", "drone"]
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"profile": "ors"}, "profile 'ors' is not one of ours; did you mean 'ours'"),
        ({"limit": 0}, "limit 0: expected at least 1"),
        ({"router": "summ"}, "router 'summ' is not one of .*did you mean 'sum'"),
        ({"dtype": "flaot32"}, "dtype 'flaot32' is not one of .*did you mean 'float32'"),
    ],
)
def test_a_wrong_setting_is_refused_when_it_is_read(changes, message):
    with pytest.raises(UserError, match=message):
        settings("model", "data", "out", **changes)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"path": "/nowhere"}, "data '/nowhere': no scenes/"),
        ({"split": "test"}, "split 'test' is not one of eval, train"),
        ({"scales": ("drone",)}, r"no sample with scales \('drone',\)"),
        ({"tasks": ("dept",)}, "task 'dept' is not one of .*did you mean 'depth'"),
    ],
)
def test_data_without_the_questions_is_refused_and_nothing_is_written(tmp_path, tiny_folder, tiny_data, source, message):
    with pytest.raises(UserError, match=message):
        evaluate(settings(tiny_folder, tiny_data, tmp_path / "out", source))
    assert not list(Path(tmp_path).iterdir())


def test_a_file_in_the_place_of_the_report_is_left_alone(tmp_path, tiny_folder, tiny_data):
    (tmp_path / "out").write_text("mine")
    with pytest.raises(UserError, match="out .* is a file; expected a folder"):
        evaluate(settings(tiny_folder, tiny_data, tmp_path / "out"))
    assert (tmp_path / "out").read_text() == "mine"
