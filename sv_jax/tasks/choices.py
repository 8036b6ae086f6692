"""Tasks that are answered with A or B: position_comparison, size_comparison."""

from __future__ import annotations

from itertools import combinations

import numpy as np

from sv_jax.tasks import refer
from sv_jax.tasks.qa import LETTERS, QA
from sv_jax.tasks.view import Seen, View

MARGIN = 0.15  # relative gap from which heights are compared
SIDE_TEMPLATES = (
    "Which is further {side} in the first frame?",
    "Which object is further {side} in the first frame?",
    "Which of the two is further {side} in the first frame?",
    "In the first frame, which object is further {side}?",
)
TALLER_TEMPLATES = (
    "Which is taller?",
    "Which object is taller?",
    "Which of the two is taller?",
    "Which object has the greater height?",
)


def _choice(view, rng, winner: Seen, other: Seen, task: str, question: str, ends: tuple[str, str], end: str = "") -> QA:
    """A coin decides whether the right answer is A or B. The reasoning states A, then B, which of them stands at which of two ends, and
    which at the `end` asked for, if one may ask for both: small steps, each of which needs only what has been said."""
    right = int(rng.integers(2))
    options = (winner, other) if right == 0 else (other, winner)
    called, marks = refer.names(view, options, rng)
    clauses = "; ".join(refer.clause(view, seen, letter) for seen, letter in zip(options, LETTERS, strict=False))
    facts = f"{clauses}; {refer.order(options, ends)}{end and f'; {end}: {LETTERS[right]}'}"
    semantic = ", ".join(seen.phrase for seen in options)
    return refer.record(
        view, task, semantic, facts, question=question, options=called, answer=LETTERS[right], answer_type="choice", marks=marks,
    )  # fmt: skip


def position_comparison(view: View, rng: np.random.Generator) -> QA | None:
    """Which of two objects is further left (or right) in the first frame; their boxes stand apart sideways."""
    pairs = [
        (a, b) for a, b in combinations(view.seen, 2)
        if a.phrase != b.phrase and a.box[2] + 0.125 * min(a.box[2] - a.box[0], b.box[2] - b.box[0]) < b.box[0]
    ]  # fmt: skip
    if not pairs:
        return None
    left, right = pairs[rng.integers(len(pairs))]
    side, winner, other = (("left", left, right), ("right", right, left))[rng.integers(2)]
    question = SIDE_TEMPLATES[rng.integers(len(SIDE_TEMPLATES))].format(side=side)
    return _choice(view, rng, winner, other, "position_comparison", question, ("left", "right"), side)


def size_comparison(view: View, rng: np.random.Generator) -> QA | None:
    """Which of two objects is taller. Half of the time, if it can, it takes a pair whose image heights say the opposite."""
    ordered = [sorted(pair, key=lambda s: -s.height) for pair in combinations(view.seen, 2)]
    pairs = [(a, b) for a, b in ordered if a.phrase != b.phrase and _clearly_taller(view, a, b)]
    deceiving = [(a, b) for a, b in pairs if a.box[3] - a.box[1] < b.box[3] - b.box[1]]
    if deceiving and rng.random() < 0.5:
        pairs = deceiving
    if not pairs:
        return None
    tall, short = pairs[rng.integers(len(pairs))]
    question = TALLER_TEMPLATES[rng.integers(len(TALLER_TEMPLATES))]
    return _choice(view, rng, tall, short, "size_comparison", question, ("short", "tall"))


def _clearly_taller(view: View, a: Seen, b: Seen) -> bool:
    """Whether `a` is taller by the margin, and what the clip shows of both says so too."""
    return (a.height - b.height) / a.height >= MARGIN and view.visible_height(a) >= 1.05 * view.visible_height(b)
