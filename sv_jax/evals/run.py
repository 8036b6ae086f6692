"""`sv-jax eval`: a model's answers to a dataset's held-out questions, scored, tabled and plotted."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sv_jax.data.batches import DataConfig, ShapeConfig, open_samples
from sv_jax.errors import UserError, unknown
from sv_jax.evals.answer import Answer, Table, answer, best_constants, by_task_and_scale, mean
from sv_jax.evals.scoring import PROFILES
from sv_jax.files import replacing, write_text
from sv_jax.inputs.chat import Processor
from sv_jax.inputs.media import NO_COMPAT, Compat
from sv_jax.models.spacevista.config import ROUTERS, SCALES
from sv_jax.models.spacevista.model import with_router
from sv_jax.progress import progress
from sv_jax.weights import find_folder, load_model
from sv_jax.weights.load import as_dtype


@dataclass(frozen=True)
class EvalConfig:
    """`sv-jax eval`: answer the questions of `data` greedily; `out` receives report.json, samples.jsonl and accuracy.png."""

    model: str  # a SpaceVista or Qwen2.5-VL folder, or a hub id
    data: DataConfig
    out: str
    shape: ShapeConfig = field(default_factory=lambda: ShapeConfig(rows=32, length=256))
    max_new_tokens: int = 256
    limit: int | None = None  # at most this many questions, spread over the split
    profile: str = "ours"
    router: str | None = None  # gate by another router than the model's own: label, uniform, or sum
    compat: Compat = NO_COMPAT  # with the released code's treatment of videos
    dtype: str = "float32"

    def __post_init__(self):
        if self.profile not in PROFILES:
            raise unknown("profile", self.profile, PROFILES)
        if self.router is not None and self.router not in ROUTERS:
            raise unknown("router", self.router, ROUTERS)
        if self.limit is not None and self.limit < 1:
            raise UserError(f"limit {self.limit}: expected at least 1, or none for all questions")
        as_dtype(self.dtype)


def evaluate(cfg: EvalConfig) -> str:
    """Run it; returns the table as text."""
    if Path(cfg.out).is_file():
        raise UserError(f"out {cfg.out!r}: is a file; expected a folder")
    folder = find_folder(cfg.model)
    model, processor = with_router(load_model(folder), cfg.router), Processor.from_folder(folder, cfg.compat)
    answers = answer_split(cfg, model, processor)
    accuracy = by_task_and_scale((a.qa, a.score) for a in answers)
    constant = best_constants([a.qa for a in answers], cfg.profile)
    write_report(Path(cfg.out), {"model": accuracy}, constant, answers)
    return table({"model": accuracy}, constant)


def answer_split(cfg: EvalConfig, model, processor: Processor, title: str = "eval") -> list[Answer]:
    """Answers to `cfg.data`, with a progress bar. UserError when it holds no question."""
    split = open_samples(cfg.data)
    n = len(split) if cfg.limit is None else min(cfg.limit, len(split))
    samples = (split[i * len(split) // n] for i in range(n))
    with progress(title, n) as bar:
        return answer(model, processor, samples, cfg.shape, cfg.max_new_tokens, profile=cfg.profile, dtype=cfg.dtype, tick=bar.advance)


def table(accuracy: Mapping[str, Table], constant: Table) -> str:
    """Plain text: for each task and scale the best constant answer, then each column of `accuracy`, in percent; the means last."""
    columns = {"constant": constant, **accuracy}
    lines = ["".join([f"{'task':22}{'scale':10}", *(f"{name:>12}" for name in columns)])]
    for task, row in constant.items():
        for scale in row:
            cells = (f"{100 * c[task][scale]:12.1f}" for c in columns.values())
            lines.append(f"{task if scale == next(iter(row)) else '':22}{scale:10}" + "".join(cells))
    lines.append(f"{'mean over tasks':32}" + "".join(f"{100 * mean(c):12.1f}" for c in columns.values()))
    return "\n".join(lines)


def write_report(out: Path, accuracy: Mapping[str, Table], constant: Table, answers: Sequence[Answer]) -> None:
    out.mkdir(parents=True, exist_ok=True)
    report = {"accuracy": accuracy, "constant": constant, "mean": {k: mean(v) for k, v in accuracy.items()}, "questions": len(answers)}
    write_text(out / "report.json", json.dumps(report, indent=1))
    rows = (dataclasses.asdict(a) | {"qa": a.qa.to_dict()} for a in answers)
    write_text(out / "samples.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    plot(out / "accuracy.png", accuracy, constant)


def plot(path: Path, accuracy: Mapping[str, Table], constant: Table) -> None:
    """Bars by task, one for each column, the best constant answer as a line across; below, the same by scale."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    groups = {
        "by task": [(t, t, "all") for t in constant],
        "by scale": [(s, None, s) for s in SCALES if any(s in r for r in constant.values())],
    }
    figure, axes = plt.subplots(2, 1, figsize=(11, 8), layout="constrained")
    for ax, (title, cells) in zip(axes, groups.items(), strict=True):
        width = 0.8 / len(accuracy)
        for k, (name, values) in enumerate(accuracy.items()):
            ax.bar([i + k * width for i in range(len(cells))], [_cell(values, *c[1:]) for c in cells], width, label=name)
        for i, c in enumerate(cells):
            ax.hlines(
                _cell(constant, *c[1:]),
                i - width / 2,
                i + 0.8 - width / 2,
                "black",
                linestyles="dashed",
                label=None if i else "best constant",
            )
        ax.set_xticks([i + 0.4 - width / 2 for i in range(len(cells))], [c[0] for c in cells])
        ax.set(title=f"Accuracy on held-out scenes, {title}", ylabel="score (%)", ylim=(0, 100))
    axes[0].legend(ncols=3)
    with replacing(path) as f:
        figure.savefig(f, format="png", dpi=110)
    plt.close(figure)


def _cell(values: Table, task: str | None, column: str) -> float:
    rows = [values[task]] if task else values.values()
    cells = [row[column] for row in rows if column in row]
    return 100 * sum(cells) / max(len(cells), 1)
