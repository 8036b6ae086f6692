"""Answer the held-out questions of a dataset and score them by task and by scale, beside the best constant answer."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from sv_jax.data.batches import ShapeConfig, encode_sample
from sv_jax.evals.scoring import PROFILES
from sv_jax.inputs.chat import Processor
from sv_jax.inputs.packing import pack_prompts
from sv_jax.models.spacevista.config import SCALES
from sv_jax.models.spacevista.model import SpaceVista
from sv_jax.rewards.constant import best_constant
from sv_jax.sampling.choose import sampling
from sv_jax.sampling.sampler import SamplerConfig, sample
from sv_jax.tasks.qa import LETTERS, QA

Table = dict[str, dict[str, float]]  # task -> scale -> value


@dataclass(frozen=True)
class Answer:
    """One answered question: the completion's text, its score, and the router's mean weight per expert (None without experts)."""

    qa: QA
    text: str
    score: float
    router: dict[str, float] | None


def answer(
    model: SpaceVista,
    processor: Processor,
    samples: Iterable[dict],
    shape: ShapeConfig,
    max_new_tokens: int,
    *,
    profile: str = "ours",
    dtype: str = "float32",
    tick: Callable[[int], None] = lambda done: None,
) -> list[Answer]:
    """Greedy answers to dataset samples, `shape.rows` prompts at a time, one a row of `shape.length` tokens. `tick(done)` is called after
    each batch. UserError when a prompt does not fit."""
    cfg, out = SamplerConfig(max_new_tokens, dtype), []
    params = sampling(shape.rows, stop=processor.stop_ids, temperature=0.0)
    samples = iter(samples)
    while part := list(itertools.islice(samples, shape.rows)):  # a batch at a time: the clips of a whole split may not fit in memory
        prompts = [encode_sample(processor, s, target=False) for s in part]
        batch, _ = pack_prompts(prompts, shape.length, processor.cfg.vision, shape.buckets(processor.cfg.vision), rows=shape.rows)
        drawn = sample(model, batch, 1, params, cfg)
        tokens, lengths = np.asarray(drawn.tokens), np.asarray(drawn.lengths)
        router = None if drawn.router is None else np.asarray(drawn.router)[:, 0].mean(1)  # [B, E] over layers
        for row, s in enumerate(part):
            text = processor.decode(tokens[row, 0, : lengths[row, 0]].tolist())
            weights = None if router is None else dict(zip(model.cfg.experts.names, router[row].tolist(), strict=True))
            out.append(Answer(s["qa"], text, PROFILES[profile](text, s["qa"]), weights))
        tick(len(out))
    return out


def by_task_and_scale(pairs: Iterable[tuple[QA, float]]) -> Table:
    """Mean score of each task at each scale, and over its questions of all scales under "all"."""
    cells: dict[tuple[str, str], list[float]] = {}
    for qa, score in pairs:
        for column in (qa.scale, "all"):
            cells.setdefault((qa.task, column), []).append(score)
    tasks = sorted({task for task, _ in cells})
    return {t: {s: float(np.mean(cells[t, s])) for s in (*SCALES, "all") if (t, s) in cells} for t in tasks}


def best_constants(qas: Sequence[QA], profile: str = "ours") -> Table:
    """The score of the one answer that does best on all questions of a cell: what a model gets without looking."""
    score = PROFILES[profile]
    table: Table = {}
    for task in sorted({qa.task for qa in qas}):
        for column in (*SCALES, "all"):
            cell = [qa for qa in qas if qa.task == task and column in (qa.scale, "all")]
            if cell:
                best = max(np.mean([score(f"<answer>{guess}</answer>", qa) for qa in cell]) for guess in _guesses(cell))
                table.setdefault(task, {})[column] = float(best)
    return table


def _guesses(cell: Sequence[QA]) -> list[str]:
    """What the best answer may be: any letter or distinct text, and the best number."""
    said = {qa.answer for qa in cell if qa.answer_type != "number"}
    values = [float(qa.answer) for qa in cell if qa.answer_type == "number"]
    numbers = [np.format_float_positional(best_constant(values)[0])] if values else []
    return [*sorted({*LETTERS, *said} if said else said), *numbers]


def mean(table: Table) -> float:
    """Mean over tasks of the mean over scales."""
    return float(np.mean([np.mean([v for s, v in row.items() if s != "all"]) for row in table.values()]))
