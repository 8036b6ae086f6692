"""`sv-jax demo`: what a user does with Qwen2.5-VL, small: scenes, init, SFT in three stages, GRPO, evaluation, a checked export.

Everything goes through the same functions as the verbs, with configs/demo.yaml; the base model in sv_jax/assets/base was trained by
`sv-jax sft` on descriptions of other scenes (its config, log and recipe: configs/base/).
"""

from __future__ import annotations

import json
import resource
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np

from sv_jax.compiles import counting
from sv_jax.config import build, read_yaml
from sv_jax.data.build import BuildConfig
from sv_jax.data.build import build as build_data
from sv_jax.data.read import open_split
from sv_jax.errors import UserError
from sv_jax.evals.answer import best_constants, by_task_and_scale, mean
from sv_jax.evals.run import EvalConfig, answer_split, table, write_report
from sv_jax.files import write_text
from sv_jax.inputs.chat import Processor
from sv_jax.models.dinov3.config import DINOv3Config
from sv_jax.models.spacevista.config import ExpertsConfig, FusionConfig
from sv_jax.progress import progress
from sv_jax.train import grpo, sft
from sv_jax.train.metrics import read_metrics
from sv_jax.weights import export, init_model, load_model, random_dino

ROOT = Path(__file__).parent
BASE = ROOT / "assets" / "base"
CONFIGS = ROOT.parent / "configs"


def demo(out: str, *, quick: bool = False) -> dict[str, Any]:
    """Run it in the folder `out` (made anew) and return the report, which is also in `out`/report.json."""
    began = time.perf_counter()
    cfg = settings(quick)
    folder = Path(out)
    if folder.exists() and not (folder / "demo.json").exists():
        raise UserError(f"--out {out!r}: exists and was not made by the demo; expected a new folder")
    shutil.rmtree(folder, ignore_errors=True)
    write_text(folder / "demo.json", json.dumps(cfg, indent=1))
    with counting() as compiles:
        make_data(build(BuildConfig, cfg["data"] | {"out": str(folder / "data")}))
        make_model(cfg, folder)
        questions = Evaluation(cfg["eval"], folder)
        stages = {"base": questions.score(BASE)}
        stages["sft"] = questions.score(train_stage(sft, cfg, "sft", folder, "init"))
        train_stage(sft, cfg, "experts_sft", folder, "sft/model")
        stages["experts"] = questions.score(train_stage(sft, cfg, "router_sft", folder, "experts_sft/model"))
        trained = train_stage(grpo, cfg, "grpo", folder, "router_sft/model")
        stages["grpo"] = questions.score(trained)
        export(trained, folder / "export", as_="spacevista")
        difference = check_export(folder)
    rewards = [row["reward"] for row in read_metrics(folder / "grpo")]
    quarter = max(len(rewards) // 4, 1)
    report = {
        "accuracy": stages,
        "mean": {"constant": mean(questions.constant)} | {name: mean(values) for name, values in stages.items()},
        "constant": questions.constant,
        "questions": questions.count,
        "grpo_reward": {"first": float(np.mean(rewards[:quarter])), "last": float(np.mean(rewards[-quarter:]))},
        "compiles": compiles.total,
        "compiled_twice": len(compiles.repeated),
        "export_max_abs_diff": difference,
        "seconds": time.perf_counter() - began,
        "peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }
    write_report(folder, stages, questions.constant, questions.answers)
    write_text(folder / "report.json", json.dumps(report, indent=1))
    show(report, stages, questions.constant, compiles.report(), folder)
    return report


def settings(quick: bool) -> dict[str, Any]:
    """configs/demo.yaml, with demo-quick.yaml over it."""
    cfg = read_yaml(CONFIGS / "demo.yaml")
    for section, changes in (read_yaml(CONFIGS / "demo-quick.yaml") if quick else {}).items():
        cfg[section] |= changes
    return cfg


def make_data(cfg: BuildConfig) -> None:
    with progress("scenes", sum(split.scenes for split in cfg.splits) * len(cfg.scales)) as bar:
        build_data(cfg, lambda done, total: bar.advance(done))


def make_model(cfg: dict, folder: Path) -> None:
    """A SpaceVista folder of the base and a DINOv3 tower; the tower's weights are random, nothing small and pretrained exists."""
    random_dino(build(DINOv3Config, cfg["dino"]), folder / "dino", seed=0)
    fusion, experts = build(FusionConfig, cfg["fusion"]), build(ExpertsConfig, cfg["experts"])
    init_model(BASE, folder / "dino", fusion, experts, folder / "init")


def train_stage(module, cfg: dict, stage: str, folder: Path, model: str) -> Path:
    """Run `sft` or `grpo` with a section of the settings; returns the folder of the trained model."""
    kind = sft.SFTConfig if module is sft else grpo.GRPOConfig
    paths = {"model": str(folder / model), "run": str(folder / stage), "data": {"path": str(folder / "data")} | cfg[stage].get("data", {})}
    return module.train(build(kind, cfg[stage] | paths))


class Evaluation:
    """The held-out questions, asked of the model after each stage."""

    def __init__(self, cfg: dict, folder: Path):
        self._cfg, self._folder = cfg, folder
        split = open_split(folder / "data", "eval")
        qas = [split.qa(i) for i in range(len(split))]
        self.count, self.constant, self.answers = len(qas), best_constants(qas), []

    def score(self, model: Path) -> dict:
        """accuracy[task][scale] of a model folder."""
        paths = {"model": str(model), "out": str(self._folder), "data": {"path": str(self._folder / "data"), "split": "eval"}}
        cfg = build(EvalConfig, self._cfg | paths)
        self.answers = answer_split(cfg, load_model(model, dtype="float32"), Processor.from_folder(model), f"eval {model.parent.name}")
        return by_task_and_scale((a.qa, a.score) for a in self.answers)


def check_export(folder: Path) -> float:
    """Largest |Δ logits| between sv-jax and the exported remote code in transformers, on a video and a question, in f32."""
    import torch
    from transformers import AutoModelForImageTextToText

    from sv_jax.api import load
    from sv_jax.data.batches import messages_of
    from sv_jax.inputs.chat import encode

    ours = load(folder / "export")
    messages = messages_of(open_split(folder / "data", "eval")[0])
    prompt = encode(ours.processor, messages)
    theirs, info = AutoModelForImageTextToText.from_pretrained(
        folder / "export", trust_remote_code=True, dtype=torch.float32, output_loading_info=True
    )
    if problems := {k: v for k, v in info.items() if v}:
        raise RuntimeError(f"{folder / 'export'}: transformers did not load every tensor as it stands: {problems}")
    with torch.no_grad():
        logits = theirs.eval()(
            input_ids=torch.tensor(prompt.tokens[None].astype(np.int64)),
            position_ids=torch.tensor(prompt.positions[:, None].astype(np.int64)),
            pixel_values_videos=torch.tensor(prompt.patches[0]),
            video_grid_thw=torch.tensor([prompt.grids[0]]),
        ).logits[0]
    return float(np.abs(ours.logits(messages) - logits.numpy()).max())


def show(report: dict, stages: dict, constant: dict, compiles: str, folder: Path) -> None:
    print(table(stages, constant))
    reward = report["grpo_reward"]
    print(f"GRPO reward, first and last quarter: {reward['first']:.3f} -> {reward['last']:.3f}")
    print(compiles)
    print(f"exported model in transformers: max |difference of logits| {report['export_max_abs_diff']:.1e}")
    print(f"{report['seconds']:.0f} s, peak memory {report['peak_rss_bytes'] / 2**30:.1f} GiB")
    print(f"figures: {folder}/report.json, {folder}/accuracy.png; the exported model: {folder}/export")
