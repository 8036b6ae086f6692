"""Tasks that are answered with a letter: position_comparison, size_comparison, relative_distance."""

from __future__ import annotations

from itertools import combinations, permutations

import numpy as np

from sv_jax.tasks import refer, units
from sv_jax.tasks.qa import LETTERS, QA
from sv_jax.tasks.view import Seen, View

MARGIN = 0.15  # relative gap from which heights are compared
MOST = 0.8  # of the height of the shorter object that the clip must show
AMONG = 6  # objects from which sets are chosen: all sets of a dozen would take long
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
CLOSEST_TEMPLATES = (
    "Measured between closest points, which is closest to {a}?",
    "Which object is closest to {a}, measured between their closest points?",
    "Which of these is closest to {a} by the distance between closest points?",
    "Going by the closest points, which object is nearest to {a}?",
)


def _choice(
    view, rng, winner: Seen, other: Seen, task: str, question: str, ends: tuple[str, str], end: str = "", marked: float = refer.MARK_SHARE
) -> QA:
    """A coin decides whether the right answer is A or B. The reasoning states A, then B, which of them stands at which of two ends, and
    which at the `end` asked for, if one may ask for both: small steps, each of which needs only what has been said."""
    right = int(rng.integers(2))
    options = (winner, other) if right == 0 else (other, winner)
    called, marks = refer.names(view, options, rng, share=marked)
    clauses = "; ".join(refer.clause(view, seen, letter) for seen, letter in zip(options, LETTERS, strict=False))
    facts = f"{clauses}; {refer.order(options, ends)}{end and f'; {end}: {LETTERS[right]}'}"
    semantic = ", ".join(seen.phrase for seen in options)
    return refer.record(
        view, task, semantic, facts, question=question, options=called, answer=LETTERS[right], answer_type="choice", marks=marks,
    )  # fmt: skip


def position_comparison(view: View, rng: np.random.Generator) -> QA | None:
    """Which of two objects is further left (or right) in the first frame; they stand apart sideways, hidden parts and all."""
    pairs = [
        (a, b) for a, b in permutations(view.seen, 2)
        if a.phrase != b.phrase and refer.beside(a, b)
    ]  # fmt: skip
    if not pairs:
        return None
    left, right = pairs[rng.integers(len(pairs))]
    side, winner, other = (("left", left, right), ("right", right, left))[rng.integers(2)]
    question = SIDE_TEMPLATES[rng.integers(len(SIDE_TEMPLATES))].format(side=side)
    return _choice(view, rng, winner, other, "position_comparison", question, ("left", "right"), side)


def size_comparison(view: View, rng: np.random.Generator) -> QA | None:
    """Which of two objects is taller. Half of the time, if it can, it takes a pair of one class, else half of the time one whose image
    heights say the opposite. Two classes mostly tell which is taller without a look: then marks take the place of their names."""
    ordered = [sorted(pair, key=lambda s: -s.height) for pair in combinations(view.seen, 2)]
    pairs = [(a, b) for a, b in ordered if a.phrase != b.phrase and _clearly_taller(view, a, b)]
    deceiving = [(a, b) for a, b in pairs if a.box[3] - a.box[1] < b.box[3] - b.box[1]]
    alike = [(a, b) for a, b in pairs if a.object.name == b.object.name]
    for preferred in (alike, deceiving):
        if preferred and rng.random() < 0.5:
            pairs = preferred
            break
    if not pairs:
        return None
    tall, short = pairs[rng.integers(len(pairs))]
    marked = refer.MARK_SHARE if tall.object.name == short.object.name else view.told
    question = TALLER_TEMPLATES[rng.integers(len(TALLER_TEMPLATES))]
    return _choice(view, rng, tall, short, "size_comparison", question, ("short", "tall"), marked=marked)


def _clearly_taller(view: View, a: Seen, b: Seen) -> bool:
    """Whether `a` is taller by the margin and also ends higher up, should `a` or `b` stand on something; and the clip shows that: more of
    `a` than the whole of `b`, most of which it shows, too."""
    return (
        (a.height - b.height) / a.height >= MARGIN
        and a.top > b.top
        and view.visible_height(a) >= 1.05 * max(b.height, view.visible_height(b))
        and view.visible_height(b) >= MOST * b.height
    )


def relative_distance(view: View, rng: np.random.Generator) -> QA | None:
    """Which of two to four objects is closest to another one, by closest points; a subset of the objects, so that the options leave out
    near ones and far ones alike. Half of the time, if it can, it takes a set in which another one looks closer in the image."""
    among = [view.seen[i] for i in sorted(rng.permutation(len(view.seen))[:AMONG])]
    sets = [
        (anchor, options)
        for anchor in among
        for count in range(2, 5)
        for options in combinations([seen for seen in among if seen is not anchor], count)
        if len({seen.phrase for seen in (anchor, *options)}) == count + 1
        and refer.nameable((anchor, *options))
        and _clearly_closest(view, anchor, options)
    ]
    deceiving = [(anchor, options) for anchor, options in sets if _looks_closest(anchor, options) is not _closest(view, anchor, options)]
    if deceiving and rng.random() < 0.5:
        sets = deceiving
    if not sets:
        return None
    count = rng.choice(sorted({len(options) for _, options in sets}))  # drawn first: most sets have two options
    sets = [both for both in sets if len(both[1]) == count]
    anchor, options = sets[rng.integers(len(sets))]
    options = tuple(options[i] for i in rng.permutation(len(options)))
    letter = LETTERS[options.index(_closest(view, anchor, options))]
    called, marks = refer.names(view, (anchor, *options), rng, refer.ALL_KINDS)
    unit = units.DISTANCE[view.scene.scale]
    stated = [
        f"{seen.phrase} ({key}): {units.with_unit(view.gap(anchor, seen), unit)}" for seen, key in zip(options, LETTERS, strict=False)
    ]
    return refer.record(
        view, "relative_distance", ", ".join(seen.phrase for seen in (anchor, *options)),
        f"from {anchor.phrase}: {'; '.join(stated)}; closest: {letter}",
        question=CLOSEST_TEMPLATES[rng.integers(len(CLOSEST_TEMPLATES))].format(a=called[0]),
        options=called[1:], answer=letter, answer_type="choice", marks=marks,
    )  # fmt: skip


def _closest(view: View, anchor: Seen, options: tuple[Seen, ...]) -> Seen:
    return min(options, key=lambda seen: view.gap(anchor, seen))


def _looks_closest(anchor: Seen, options: tuple[Seen, ...]) -> Seen:
    """The option whose box is nearest to the anchor's in the first frame, middle to middle."""
    return min(options, key=lambda seen: sum((seen.box[i] + seen.box[i + 2] - anchor.box[i] - anchor.box[i + 2]) ** 2 for i in (0, 1)))


def _clearly_closest(view: View, anchor: Seen, options: tuple[Seen, ...]) -> bool:
    """Whether one option is closest by the margin, does not touch, and is also the one whose centre is closest: the paper compares
    centroids, others closest points."""
    gaps = [view.gap(anchor, seen) for seen in options]
    if None in gaps:
        return False
    first, second = sorted(gaps)[:2]
    centres = [np.linalg.norm(seen.object.center - anchor.object.center) for seen in options]
    apart = (second - first) / second >= MARGIN and first >= MARGIN * max(anchor.object.size)
    return bool(apart and np.argmin(centres) == np.argmin(gaps))
