"""Strict configs: what is built, and what every mistake says."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Literal

import pytest

from sv_jax.config import config_hash, dump_config, load_config
from sv_jax.errors import UserError


@dataclass(frozen=True)
class Optim:
    lr: float = 1e-5
    betas: tuple[float, float] = (0.9, 0.99)
    kind: Literal["adamw", "sgd"] = "adamw"

    def __post_init__(self):
        if self.lr <= 0:
            raise UserError(f"optim.lr {self.lr}: expected a positive number")


@dataclass(frozen=True)
class Stage:
    parts: tuple[str, ...]
    steps: int = 10


@dataclass(frozen=True)
class Config:
    name: str
    steps: int = 100
    shuffle: bool = True
    limit: int | None = None
    optim: Optim = field(default_factory=lambda: Optim(lr=1.0))
    teacher: Optim | None = None
    stages: tuple[Stage, ...] = (Stage(("fusion",)), Stage(("experts",), 20))
    weights: dict[str, float] = field(default_factory=dict)


def load(tmp_path, text: str = "name: run", overrides=()) -> Config:
    (tmp_path / "config.yaml").write_text(text)
    return load_config(Config, tmp_path / "config.yaml", overrides)


def test_values_of_every_kind_come_out_with_their_types(tmp_path):
    text = """
name: run
steps: 7
shuffle: false
limit: 3
optim: {lr: 1e-4, betas: [0, 1], kind: sgd}
teacher: {lr: 2}
stages: [{parts: [a, b]}, {parts: [], steps: 1}]
weights: {format: 1, answer: 0.5}
"""
    want = Config(
        "run", 7, False, 3, Optim(1e-4, (0.0, 1.0), "sgd"), Optim(2.0), (Stage(("a", "b")), Stage((), 1)), {"format": 1.0, "answer": 0.5}
    )
    got = load(tmp_path, text)
    assert got == want
    assert type(got.optim.betas[0]) is float and type(got.teacher.lr) is float and type(got.weights["format"]) is float


def test_keys_left_out_keep_the_fields_own_default(tmp_path):
    assert load(tmp_path, "name: run\noptim: {kind: sgd}").optim == Optim(lr=1.0, kind="sgd")
    assert load(tmp_path, "name: run\nteacher: {kind: sgd}").teacher == Optim(kind="sgd")


def test_overrides_win_at_any_depth_in_both_spellings(tmp_path):
    args = ["--optim.lr", "1e-3", "--limit=null", "--shuffle", "no", "--name", "12", "--optim.betas", "0.5,0.6", "--weights.format", "2"]
    got = load(tmp_path, "name: run\nlimit: 3\noptim: {lr: 5}", args)
    assert got == Config("12", shuffle=False, limit=None, optim=Optim(1e-3, (0.5, 0.6)), weights={"format": 2.0})


def test_overrides_reach_into_lists_of_the_file_and_of_the_defaults(tmp_path):
    got = load(tmp_path, overrides=["--stages.1.steps", "5", "--stages.1.parts", "experts,router"])
    assert got.stages == (Stage(("fusion",)), Stage(("experts", "router"), 5))
    got = load(tmp_path, "name: run\nstages: [{parts: [x]}]", ["--stages.0.steps=6"])
    assert got.stages == (Stage(("x",), 6),)


def test_preset_lies_under_the_file_and_both_under_the_overrides(tmp_path):
    (tmp_path / "preset.yaml").write_text("name: preset\nsteps: 5\nlimit: 6")
    (tmp_path / "config.yaml").write_text("steps: 7\nlimit: 8")
    got = load_config(Config, tmp_path / "config.yaml", ["--limit", "9"], tmp_path / "preset.yaml")
    assert got == Config("preset", steps=7, limit=9)


def test_a_required_field_may_come_from_an_override_alone():
    assert load_config(Config, overrides=["--name", "run", "--limit", "4"]) == Config("run", limit=4)


@pytest.mark.parametrize(
    ("text", "overrides", "message"),
    [
        ("name: run\nstepz: 3", [], "config key 'stepz' is not one of .*; did you mean 'steps'"),
        ("name: run\noptim: {lrr: 3}", [], "config key 'optim.lrr' is not one of .*; did you mean 'optim.lr'"),
        ("name: run\nstages: [{parts: []}, {part: []}]", [], "config key 'stages.1.part' .* did you mean 'stages.1.parts'"),
        ("name: run", ["--optim.beta", "1"], "config key 'optim.beta' .* did you mean 'optim.betas'"),
        ("name: run", ["--stages.2.steps", "1"], "config key 'stages.2' is not one of stages.0, stages.1"),
        ("name: run\nstages: [{parts: []}]", ["--stages.1.steps", "1"], "config key 'stages.1' is not one of stages.0"),
        ("name: run\nsteps: 3", ["--steps.x", "1"], "config key 'steps.x': 'steps' is 3 and has no fields"),
        ("steps: 3", [], "config key 'name' is missing; expected text"),
        ("name: run\nsteps: 1.5", [], "config key 'steps': expected an integer, found 1.5"),
        ("name: run\nsteps: true", [], "config key 'steps': expected an integer, found True"),
        ("name: run\nsteps: ten", [], "config key 'steps': expected an integer, found 'ten'"),
        ("name: 3", [], "config key 'name': expected text, found 3"),
        ("name: run\noptim: {lr: fast}", [], "config key 'optim.lr': expected a number, found 'fast'"),
        ("name: run\noptim: {lr: -1}", [], "optim.lr -1.0: expected a positive number"),
        ("name: run\noptim: {betas: [1]}", [], "config key 'optim.betas': expected 2 values, found 1"),
        ("name: run\noptim: {kind: adam}", [], "config key 'optim.kind': 'adam' is not one of adamw, sgd; did you mean 'adamw'"),
        ("name: run\noptim: 3", [], r"config key 'optim': expected a mapping \(Optim\), found 3"),
        ("name: run\nlimit: many", [], "config key 'limit': expected an integer, found 'many'"),
        ("name: run", ["--steps"], "--steps: a value is missing"),
        ("name: run", ["--steps", "--limit", "3"], "--steps: a value is missing"),
        ("name: run", ["steps=3"], "unexpected argument 'steps'"),
        ("name: run", ["--steps", "[1"], r"config key 'steps': expected an integer, found '\[1'"),
        ("- a", [], "expected a mapping of config keys, found list"),
        ("a: [1", [], "config.yaml, line 1: not valid YAML"),
    ],
)
def test_a_mistake_is_one_line_that_names_the_key(tmp_path, text, overrides, message):
    with pytest.raises(UserError, match=message) as caught:
        load(tmp_path, text, overrides)
    assert "\n" not in str(caught.value)


def test_a_missing_file_names_the_nearest_one(tmp_path):
    (tmp_path / "stage1.yaml").write_text("")
    with pytest.raises(UserError, match="config file '.*stage2.yaml' is not one of .*; did you mean '.*stage1.yaml'"):
        load_config(Config, tmp_path / "stage2.yaml")


def test_dump_reads_back_to_an_equal_config_with_an_equal_hash(tmp_path):
    cfg = Config("ü: #", 3, limit=None, optim=Optim(1e-7), teacher=Optim(), stages=(Stage(("a",)),), weights={"x": 1e-9})
    again = load(tmp_path, dump_config(cfg))
    assert again == cfg and config_hash(again) == config_hash(cfg)


def test_the_hash_differs_when_any_field_does():
    cfg = Config("run")
    changed = [dataclasses.replace(cfg, steps=101), dataclasses.replace(cfg, optim=Optim(2.0)), dataclasses.replace(cfg, stages=())]
    assert len({config_hash(c) for c in [cfg, *changed]}) == 4
