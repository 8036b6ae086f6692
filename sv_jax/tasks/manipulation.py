"""manipulation_plan: which steps slide an object along the table to a place beside another one without touching anything."""

from __future__ import annotations

from itertools import permutations

import numpy as np

from sv_jax.tasks import geometry, legs, refer, units
from sv_jax.tasks.qa import LETTERS, QA
from sv_jax.tasks.view import Seen, View

SCALES = ("tiny", "tabletop")
TRIES = 20  # pairs of objects that a call looks at
GAP = 0.05, 0.15  # sizes of the moved object that it ends from the other one ...
OFF = 0.04  # of them that rounded lengths may end off the place
FREE, HIT = 0.03, 0.10  # sizes of the moved object by which a way is free of everything, or runs into something
SHORT, ASIDE = 0.35, 3.0  # sizes of the moved object: the shortest leg, the widest detour
SHOWN = 0.9  # share of an outline from above that the clip must show
SIDES = {"to the right of": (0, 1), "to the left of": (0, -1), "behind": (1, 1), "in front of": (1, -1)}  # axis and sign
WORDS = (("left", "right"), ("toward", "away"))  # of the two axes, negative and positive: toward the camera, away from it
TEMPLATES = (
    "Which steps slide {a} along the table to a place {side} {b}, close to it, without touching anything?",
    "{a} is to stand {side} {b}, right next to it. By which steps does it slide there without hitting anything?",
    "How must {a} slide over the table, without bumping into anything, to end close by, {side} {b}?",
    "Choose the steps that bring {a} to a place just {side} {b}, sliding on the table and touching nothing.",
)
AXES = " Directions are those of the first frame's camera."


def manipulation_plan(view: View, rng: np.random.Generator) -> QA | None:
    """Which of four lists of steps moves an object beside another one. Tiny and tabletop scenes only.

    Two options end at the place, one of them through an object; the other two end on the opposite side, or as far beyond the place.
    It is drawn which of these, whether the ways to both lead to the asked side, to its opposite or to one each, and whether the right way's
    first leg is longer than the other's: neither the end that lies most to the asked side nor lengths tell."""
    if view.scene.scale not in SCALES:
        return None
    bearers = {thing.parent for thing in view.scene.objects}
    fit = [s for s in view.seen if s.object.parent is None and _shown(view, s)]
    pairs = [(a, b) for a, b in permutations(fit, 2) if a.index not in bearers and legs.solid(view, a.index) and a.phrase != b.phrase]
    beyond, longer = rng.integers(2, size=2).astype(bool).tolist()
    toward = int(rng.integers(-1, 2))
    for i in rng.permutation(len(pairs))[:TRIES]:
        for side in rng.permutation(list(SIDES)).tolist():
            ways = _ways(view, rng, *pairs[i], side, beyond, toward, longer)
            if ways is not None:
                return _question(view, rng, *pairs[i], side, *ways)
    return None


def view_axes(pose: np.ndarray) -> np.ndarray:
    """f64 [2, 2]: a camera's right and ahead [x, y] on the ground, of its pose [4, 4]."""
    ahead = pose[:2, 2] / np.linalg.norm(pose[:2, 2])
    return np.array([[ahead[1], -ahead[0]], ahead])


def _shown(view: View, seen: Seen) -> bool:
    """Whether the clip shows nearly the whole outline of an object."""
    return geometry.area(view.outline(seen.index)) >= SHOWN * geometry.area(legs.outline(view, seen.index))


def _ways(view: View, rng, moved: Seen, other: Seen, side: str, beyond: bool, toward: int, longer: bool) -> tuple | None:
    """The place [2] beside `other`, four plans [4, 3, 2], the right one first, and the phrase of what the second one runs into. None where
    there are none without doubt, or where the ways to the place and to the other end do not both lead to the asked side, as `toward` 1
    wants, to the opposite one (-1) or to one each (0)."""
    axis, sign = SIDES[side]
    axes, start = view_axes(view.scene.poses[0]), moved.object.center[:2]
    a, b = ((legs.outline(view, s.index) - start) @ axes.T for s in (moved, other))
    size = np.ptp(a, axis=0)
    goal, opposite = (_beside(a, b, axis, s, rng.uniform(*GAP) * size[axis]) for s in (sign, -sign))
    end = 2 * goal[axis] - opposite[axis] if beyond else opposite[axis]
    if sign * (np.sign(goal[axis]) + np.sign(end)) / 2 != toward:
        return None
    plans = legs.plans(goal, ASIDE * size.max(), SHORT * size.max())
    plans = plans[(np.abs(plans.sum(1) - goal) < OFF * size).all(1)]
    if not len(plans):
        return None
    true, seen, indices = view.once("walls", moved.index, lambda: _walls(view, moved, start, axes))
    if not indices:
        return None
    margin = size.max()
    turned = np.stack([_ending(plan, axis, end) for plan in plans])
    lasting = np.where(turned == 0, np.inf, np.abs(turned)).min((1, 2)) >= SHORT * margin
    points = legs.visits(plans, start, axes)
    depths = legs.room(points, seen)
    free, hits = legs.room(points, true).min(1) >= FREE * margin, depths.min(1) <= -HIT * margin
    chosen = legs.right_and_wrong(rng, plans, free & lasting, hits & lasting, longer)
    if chosen is None:
        return None
    hit = view.scene.objects[indices[int(depths[chosen[1]].argmin())]].phrase
    return goal, np.concatenate([plans[list(chosen)], turned[list(chosen)]]), hit


def _walls(view: View, moved: Seen, start: np.ndarray, axes: np.ndarray) -> tuple[legs.Walls, legs.Walls, list[int]]:
    """What an object may run into, by solids and by what the clip shows, and the indices of the latter."""
    standing, blocking = legs.standing(view, moved.index), legs.blocking(view, 0.0, moved.index)
    solid, visible = legs.outline(view, moved.index) - start, legs.visible_outline(view, moved.index) - start
    true = legs.walls(solid, [legs.outline(view, i) for i in standing], axes)
    return true, legs.walls(visible, [legs.visible_outline(view, i) for i in blocking], axes), blocking


def _beside(a: np.ndarray, b: np.ndarray, axis: int, sign: int, gap: float) -> np.ndarray:
    """By how much [2] outline `a` [n, 2] moves to stand `gap` metres beside the middle of `b` [m, 2], on one side along an axis."""
    goal = (b.max(0) + b.min(0) - a.max(0) - a.min(0)) / 2
    goal[axis] = b[:, axis].max() + gap - a[:, axis].min() if sign > 0 else b[:, axis].min() - gap - a[:, axis].max()
    return goal


def _ending(plan: np.ndarray, axis: int, end: float) -> np.ndarray:
    """A plan [3, 2] whose last leg along an axis is changed so that it ends at `end` there."""
    last = np.flatnonzero(plan[:, axis])[-1]
    other = plan.copy()
    other[last, axis] += end - plan[:, axis].sum()
    return legs.rounded(other)


def _question(view, rng, moved: Seen, other: Seen, side: str, goal: np.ndarray, ways: np.ndarray, hit: str) -> QA:
    unit = units.DISTANCE[view.scene.scale]
    order = rng.permutation(len(ways)).tolist()
    facts = [f"goal in {unit}: {_place(goal, unit)}"]
    for way, letter in zip(order, LETTERS, strict=False):
        ending = (" free", f" hits {hit}", "", "")[way]
        facts.append(f"{letter}: {_place(ways[way].sum(0), unit)}{ending}")
    answer = LETTERS[order.index(0)]
    called, marks = refer.names(view, (moved, other), rng)
    question = TEMPLATES[rng.integers(len(TEMPLATES))].format(a=called[0], b=called[1], side=side)
    return refer.record(
        view, "manipulation_plan", f"{moved.phrase}, {other.phrase}",
        f"{'; '.join(facts)}; {answer}",
        question=question[0].upper() + question[1:] + AXES, options=tuple(_steps(ways[way], unit) for way in order), answer=answer,
        answer_type="choice", marks=marks,
    )  # fmt: skip


def _place(move: np.ndarray, unit: str) -> str:
    """ "right 14 toward 8.0": a movement [2] in metres along the axes."""
    return " ".join(f"{two[int(length > 0)]} {units.in_unit(abs(length), unit)}" for length, two in zip(move, WORDS, strict=True))


def _steps(plan: np.ndarray, unit: str) -> str:
    """ "right 14 cm, away 8.0 cm": the legs of a plan [3, 2]."""
    steps = [(WORDS[axis][int(leg[axis] > 0)], abs(leg[axis])) for leg in plan for axis in (0, 1) if leg[axis]]
    return ", ".join(f"{word} {units.with_unit(length, unit)}" for word, length in steps)
