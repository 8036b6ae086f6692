"""The demo's parts: its settings, what it refuses, and its check of the exported model. `make demo` itself is the test of the whole."""

from __future__ import annotations

import shutil

import pytest

from sv_jax import demo
from sv_jax.config import build, read_yaml
from sv_jax.data.build import BuildConfig
from sv_jax.errors import UserError
from sv_jax.evals.run import EvalConfig
from sv_jax.models.dinov3.config import DINOv3Config
from sv_jax.models.spacevista.config import ExpertsConfig, FusionConfig
from sv_jax.train.grpo import GRPOConfig
from sv_jax.train.sft import SFTConfig
from sv_jax.weights import load_model, save_model

PATHS = {"model": "m", "run": "r", "data": {"path": "d"}}
SECTIONS = {
    "data": (BuildConfig, {"out": "d"}),
    "dino": (DINOv3Config, {}),
    "fusion": (FusionConfig, {}),
    "experts": (ExpertsConfig, {}),
    "sft": (SFTConfig, PATHS),
    "experts_sft": (SFTConfig, PATHS),
    "router_sft": (SFTConfig, PATHS),
    "grpo": (GRPOConfig, PATHS),
    "eval": (EvalConfig, {"model": "m", "out": "o", "data": {"path": "d"}}),
}


@pytest.mark.parametrize("quick", [False, True])
def test_every_section_of_the_settings_is_a_config(quick):
    cfg = demo.settings(quick)
    assert set(cfg) == set(SECTIONS)
    for name, (kind, paths) in SECTIONS.items():
        build(kind, cfg[name] | paths)


def test_quick_is_the_same_path_with_fewer_scenes_and_steps():
    whole, quick = demo.settings(False), demo.settings(True)
    changed = read_yaml(demo.CONFIGS / "demo-quick.yaml")
    for section in whole:
        same = {k: v for k, v in whole[section].items() if k not in changed.get(section, {})}
        assert same.items() <= quick[section].items() and set(quick[section]) == set(whole[section])
    steps = lambda cfg: [cfg[s]["steps"] for s in ("sft", "experts_sft", "router_sft", "grpo")]  # noqa: E731
    assert all(a < b for a, b in zip(steps(quick), steps(whole), strict=True))


def test_held_out_scenes_share_no_seed_with_the_trained_ones():
    for quick in (False, True):
        splits = build(BuildConfig, demo.settings(quick)["data"] | {"out": "d"}).splits
        seeds = [set(range(s.first_seed, s.first_seed + s.scenes)) for s in splits]
        assert [s.name for s in splits] == ["train", "rl", "eval"] and sum(map(len, seeds)) == len(set.union(*seeds))


def test_a_folder_that_the_demo_did_not_make_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(UserError, match="exists and was not made by the demo"):
        demo.demo(str(tmp_path))
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_the_check_of_the_export_compares_it_with_transformers(tmp_path, tiny_folder, tiny_data, monkeypatch):
    shutil.copytree(tiny_folder, tmp_path / "export")
    shutil.copytree(tiny_data, tmp_path / "data")
    assert demo.check_export(tmp_path) <= 1e-4
    model = load_model(tiny_folder)
    model.text.layers.mlp.up.lora_b[...] *= 2
    save_model(model, tmp_path / "other", source=tiny_folder)
    from sv_jax import api

    load = api.load
    monkeypatch.setattr(api, "load", lambda folder: load(tmp_path / "other"))
    assert demo.check_export(tmp_path) > 1e-2


def test_what_is_shown_at_the_end(tmp_path, capsys):
    table = {"depth": {"tiny": 0.5, "all": 0.5}}
    report = {"grpo_reward": {"first": 0.25, "last": 0.5}, "export_max_abs_diff": 3e-6, "seconds": 61.4, "peak_rss_bytes": 3 << 30}
    demo.show(report, {"base": table, "grpo": table}, table, "7 compilations", tmp_path)
    shown = capsys.readouterr().out
    for part in (
        "constant        base        grpo",
        "0.250 -> 0.500",
        "7 compilations",
        "3.0e-06",
        "61 s, peak memory 3.0 GiB",
        f"{tmp_path}/export",
    ):
        assert part in shown
