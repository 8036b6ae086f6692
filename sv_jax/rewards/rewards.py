"""Rewards of completions: pure functions `(completion, qa) -> float`, and the paper's progressive combination (Eq. 3).

A reward is NaN where it does not apply: a task without that anchor. To add one, write a function and name it in REWARDS.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from sv_jax.errors import UserError, unknown
from sv_jax.rewards import parsing
from sv_jax.rewards.answers import mra, relative, rouge
from sv_jax.rewards.embedding import minilm
from sv_jax.tasks.qa import QA

NUMBER_SCORES = {"mra": mra, "relative": relative}
Embed = Callable[[Sequence[str]], np.ndarray]


@dataclass(frozen=True)
class RewardConfig:
    """What Eq. 3 leaves open. `log_base` of the scale reward (e: natural), `clip_cosine` cuts negative similarity to 0,
    `format_weight` multiplies the format reward in the total, `number` scores numeric answers ("mra" or "relative")."""

    log_base: float = math.e
    clip_cosine: bool = True
    format_weight: float = 1.0
    number: str = "mra"

    def __post_init__(self):
        if not self.log_base > 1:
            raise UserError(f"reward log_base {self.log_base}: expected a base above 1, such as 10")
        if self.number not in NUMBER_SCORES:
            raise unknown("reward number", self.number, NUMBER_SCORES)


DEFAULT = RewardConfig()
_FORMAT = re.compile(
    r"\s*<think>(?:(?!<[/\\]?(?:think|answer)>).)*<[/\\]think>"
    r"\s*(?:<(semantics?|scale)>[^<]*<[/\\]\1>\s*)*"
    r"<answer>\s*[^<\s][^<]*<[/\\]answer>\s*",
    re.DOTALL,
)


def format(completion: str, qa: QA, cfg: RewardConfig = DEFAULT) -> float:
    """1 when the whole completion is `<think>…</think>`, then optional anchors, then one `<answer>…</answer>` that is not empty; else 0."""
    return float(_FORMAT.fullmatch(completion) is not None)


def answer(completion: str, qa: QA, cfg: RewardConfig = DEFAULT) -> float:
    """R_a in [0, 1] of the text in `<answer>`: choices 0 or 1, numbers by `cfg.number` in the question's unit, text by ROUGE."""
    text = parsing.answer_span(completion)
    if not text:
        return 0.0
    if qa.answer_type == "choice":
        return float(parsing.letter(text, qa.options) == qa.answer)
    if qa.answer_type == "number":
        value = parsing.number(text, qa.unit)
        return 0.0 if value is None else NUMBER_SCORES[cfg.number](value, float(qa.answer))
    return rouge(text, qa.answer)


def scale(completion: str, qa: QA, cfg: RewardConfig = DEFAULT) -> float:
    """R_scale = max(0, 1 - |log C_ans - log C_gt| / 2) of the anchors' lengths; 0 when the completion's cannot be read."""
    if qa.scale_anchor is None:
        return math.nan
    truth = parsing.metres(qa.scale_anchor)
    if truth is None:
        raise UserError(f"record {qa.id}: scale_anchor {qa.scale_anchor!r} is not a length; expected for example '10 cm level'")
    found = parsing.metres(parsing.tag(completion, "scale") or "")
    if found is None:
        return 0.0
    return max(0.0, 1.0 - abs(math.log(found) - math.log(truth)) / math.log(cfg.log_base) / 2)


def semantic(completion: str, qa: QA, cfg: RewardConfig = DEFAULT, embed: Embed = minilm) -> float:
    """R_sem, the cosine between embeddings of the completion's `<semantic>` and the record's; 0 when the completion has none."""
    if qa.semantic is None:
        return math.nan
    found = parsing.tag(completion, "semantic")
    if not found:
        return 0.0
    a, b = np.asarray(embed([found, qa.semantic]), np.float64)
    cosine = float(a @ b / max(np.linalg.norm(a) * np.linalg.norm(b), 1e-12))
    return max(0.0, cosine) if cfg.clip_cosine else cosine


REWARDS: dict[str, Callable[..., float]] = {"format": format, "answer": answer, "scale": scale, "semantic": semantic}


def progressive(answer: np.ndarray, *anchors: np.ndarray) -> np.ndarray:
    """Eq. 3, R_a + R_a R_s + R_a R_s R_sem: each anchor multiplies all before it; an anchor that is NaN drops out of sum and product.
    All f64 [N]."""
    total, product = answer.copy(), answer.copy()
    for anchor in anchors:
        product = np.where(np.isnan(anchor), product, product * anchor)
        total = np.where(np.isnan(anchor), total, total + product)
    return total


def score(completions: Sequence[str], qas: Sequence[QA], cfg: RewardConfig = DEFAULT, embed: Embed = minilm) -> dict[str, np.ndarray]:
    """Every reward of REWARDS, NaN where it does not apply, and "total" = Eq. 3 + format_weight * format; each f64 [N].
    `embed` maps texts to vectors [n, d]; the texts of the whole batch are embedded at once."""
    pairs = [(found, qa.semantic) for c, qa in zip(completions, qas, strict=True) if qa.semantic and (found := parsing.tag(c, "semantic"))]
    texts = list(dict.fromkeys(text for pair in pairs for text in pair))
    vectors = dict(zip(texts, embed(texts), strict=True)) if texts else {}
    extra = {"semantic": {"embed": lambda batch: np.stack([vectors[text] for text in batch])}}
    out = {
        name: np.array([reward(c, qa, cfg, **extra.get(name, {})) for c, qa in zip(completions, qas, strict=True)], np.float64)
        for name, reward in REWARDS.items()
    }
    return out | {"total": progressive(out["answer"], out["scale"], out["semantic"]) + cfg.format_weight * out["format"]}
