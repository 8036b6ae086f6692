"""manipulation_plan: which steps slide an object along the table to a place beside another one without touching anything."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations

import numpy as np

from sv_jax.tasks import geometry, legs, refer, units
from sv_jax.tasks.qa import LETTERS, QA
from sv_jax.tasks.view import Seen, View

SCALES = ("tiny", "tabletop")
TRIES = 20  # objects and sides that a call looks at
GAP = 0.05, 0.15  # sizes of the moved object that it ends from the other one ...
OFF = 0.04  # of them that rounded lengths may end off the place
FAR, INTO, CLEAR = 1.0, 0.5, 0.3  # sizes of the moved object from which it is not close, not at that side, not beside the other one's edge
FREE, HIT = 0.03, 0.10  # sizes of the moved object by which a way is free of everything, or runs into something
SHORT, ASIDE = 0.35, 3.0  # sizes of the moved object: the shortest leg, the widest detour
PAIRS, LIKE = 100, 1.4  # pairs of ways that are looked at to each place, how much longer a leg may be than one like it
SHOWN = 0.9  # share of an outline from above that the clip must show
HIDDEN = 0.1  # sizes of the moved object that the clip may hide of the edge that it ends at
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

    Two options end at the asked place, the other two at the like place beside a third object, which might as well have been asked. One of
    each two runs into something. Where the free one has the longer first leg, or the longer shortest leg, that of the other two has not,
    and such legs are about as long: words alone tell neither the end nor the way."""
    if view.scene.scale not in SCALES:
        return None
    bearers = {thing.parent for thing in view.scene.objects}
    fit = [s for s in view.seen if s.object.parent is None and _shown(view, s)]
    moves = [(s, side) for s in fit if s.index not in bearers and legs.solid(view, s.index) for side in SIDES]
    for i in rng.permutation(len(moves))[:TRIES]:
        moved, side = moves[i]
        places = [place for other in fit if other.phrase != moved.phrase and (place := _place(view, rng, moved, other, side)) is not None]
        for asked, other in rng.permutation(list(permutations(places, 2))).tolist():
            apart = _apart(view, moved, side, asked, other) and _apart(view, moved, side, other, asked)
            if apart and (like := _like(rng, asked, other)) is not None:
                i, j = like
                return _question(view, rng, moved, side, asked, np.concatenate([asked.ways[i], other.ways[j]]), asked.hits[i])
    return None


def view_axes(pose: np.ndarray) -> np.ndarray:
    """f64 [2, 2]: a camera's right and ahead [x, y] on the ground, of its pose [4, 4]."""
    ahead = pose[:2, 2] / np.linalg.norm(pose[:2, 2])
    return np.array([[ahead[1], -ahead[0]], ahead])


def _shown(view: View, seen: Seen) -> bool:
    """Whether the clip shows nearly the whole outline of an object."""
    return geometry.area(view.outline(seen.index)) >= SHOWN * geometry.area(legs.outline(view, seen.index))


@dataclass(frozen=True, eq=False)
class Place:
    """Where the moved object may end: beside `other`; by `goal` [2] along the axes; `ways` [k, 2, 3, 2] there, of each pair one free and
    one not, which turn alike; the phrases of what the latter run into."""

    other: Seen
    goal: np.ndarray
    ways: np.ndarray
    hits: list[str]

    @property
    def ends(self) -> np.ndarray:
        """Metres f64 [k, 2, 2] of the first leg and of the shortest, the first or the last, of both ways of each pair."""
        size = np.abs(self.ways).sum(-1)
        return np.stack([size[..., 0], size[..., [0, 2]].min(-1)], -1)


def _place(view: View, rng: np.random.Generator, moved: Seen, other: Seen, side: str) -> Place | None:
    """None where there are no such ways without doubt."""
    axis, sign = SIDES[side]
    outlines = legs.outline(view, moved.index), legs.outline(view, other.index), view.outline(other.index)
    a, b, shown = (_from_middle(view, moved, outline) for outline in outlines)
    size = np.ptp(a, axis=0)
    goal = _beside(a, b, axis, sign, rng.uniform(*GAP) * size[axis])
    true, seen, indices = view.once("walls", moved.index, lambda: _walls(view, moved))
    start, axes = moved.object.center[:2], view_axes(view.scene.poses[0])
    hidden = (sign * b[:, axis]).max() - (sign * shown[:, axis]).max()
    if not indices or hidden > HIDDEN * size[axis] or legs.room((start + [goal, goal] @ axes)[None], true).min() < 0:
        return None
    plans = legs.plans(goal, ASIDE * size.max(), SHORT * size.max())
    plans = plans[(np.abs(plans.sum(1) - goal) < OFF * size).all(1)]
    if not len(plans):
        return None
    points, turns = legs.visits(plans, start, axes), legs.turning(plans)
    depths = legs.room(points, seen)
    free, hits = legs.room(points, true).min(1) >= FREE * size.max(), depths.min(1) <= -HIT * size.max()
    pairs = rng.permutation(np.argwhere(free[:, None] & hits & (turns[:, None] == turns)))[:PAIRS]
    return Place(other, goal, plans[pairs], [view.scene.objects[indices[i]].phrase for i in depths[pairs[:, 1]].argmin(1)])


def _like(rng: np.random.Generator, a: Place, b: Place) -> np.ndarray | None:
    """Indices [2] of a pair of ways to each place, such that the free ones' legs compare with the others' the other way round, and the
    shortest are about as long as those of the other place's others. It is drawn to which place the free way's is longer, as that tends to
    be the far one. None where there is no such choice."""
    ends, others = a.ends[:, None], b.ends[None, :, ::-1]
    ordered = np.sign(ends[..., 0, :] - ends[..., 1, :])
    opposite = (ordered == np.sign(others[..., 0, :] - others[..., 1, :])) & (ordered != 0)
    near = np.maximum(ends, others) <= LIKE * np.minimum(ends, others)
    fit = opposite.all(-1) & near[..., 1].all(-1)
    kinds = [np.argwhere(fit & (ordered[..., 1] == sign)) for sign in (-1, 1)]
    return rng.choice(kinds[rng.integers(2)]) if all(map(len, kinds)) else None


def _apart(view: View, moved: Seen, side: str, place: Place, asked: Place) -> bool:
    """Whether the moved object at `place` is clearly not at that side of the asked one, or not close to it."""
    axis, sign = SIDES[side]
    a, b = (_from_middle(view, moved, legs.outline(view, s.index)) for s in (moved, asked.other))
    size, a = np.ptp(a, axis=0), a + place.goal
    gap = ((sign * a[:, axis]).min() - (sign * b[:, axis]).max()) / size[axis]
    aside = (np.maximum(a.min(0) - b.max(0), b.min(0) - a.max(0)) / size)[1 - axis]
    return bool(gap < -INTO or gap > FAR or aside > CLEAR)


def _from_middle(view: View, moved: Seen, outline: np.ndarray) -> np.ndarray:
    """An outline [n, 2] along the axes, from the middle of the moved object."""
    return (outline - moved.object.center[:2]) @ view_axes(view.scene.poses[0]).T


def _walls(view: View, moved: Seen) -> tuple[legs.Walls, legs.Walls, list[int]]:
    """What an object may run into, by solids and by what the clip shows, and the indices of the latter."""
    axes, start = view_axes(view.scene.poses[0]), moved.object.center[:2]
    standing, blocking = legs.standing(view, moved.index), legs.blocking(view, 0.0, moved.index)
    solid, visible = legs.outline(view, moved.index) - start, legs.visible_outline(view, moved.index) - start
    true = legs.walls(solid, [legs.outline(view, i) for i in standing], axes)
    return true, legs.walls(visible, [legs.visible_outline(view, i) for i in blocking], axes), blocking


def _beside(a: np.ndarray, b: np.ndarray, axis: int, sign: int, gap: float) -> np.ndarray:
    """By how much [2] outline `a` [n, 2] moves to stand `gap` metres beside the middle of `b` [m, 2], on one side along an axis."""
    goal = (b.max(0) + b.min(0) - a.max(0) - a.min(0)) / 2
    goal[axis] = sign * ((sign * b[:, axis]).max() + gap - (sign * a[:, axis]).min())
    return goal


def _question(view, rng, moved: Seen, side: str, asked: Place, ways: np.ndarray, hit: str) -> QA:
    unit = units.DISTANCE[view.scene.scale]
    order = rng.permutation(len(ways)).tolist()
    facts = [f"goal in {unit}: {_moved(asked.goal, unit)}"]
    for way, letter in zip(order, LETTERS, strict=False):
        ending = (" free", f" hits {hit}", "", "")[way]
        facts.append(f"{letter}: {_moved(ways[way].sum(0), unit)}{ending}")
    answer = LETTERS[order.index(0)]
    called, marks = refer.names(view, (moved, asked.other), rng)
    question = TEMPLATES[rng.integers(len(TEMPLATES))].format(a=called[0], b=called[1], side=side)
    return refer.record(
        view, "manipulation_plan", f"{moved.phrase}, {asked.other.phrase}",
        f"{'; '.join(facts)}; {answer}",
        question=question[0].upper() + question[1:] + AXES, options=tuple(_steps(ways[way], unit) for way in order), answer=answer,
        answer_type="choice", marks=marks,
    )  # fmt: skip


def _moved(move: np.ndarray, unit: str) -> str:
    """ "right 14 toward 8.0": a movement [2] in metres along the axes."""
    return " ".join(f"{two[int(length > 0)]} {units.in_unit(abs(length), unit)}" for length, two in zip(move, WORDS, strict=True))


def _steps(plan: np.ndarray, unit: str) -> str:
    """ "right 14 cm, away 8.0 cm": the legs of a plan [3, 2]."""
    steps = [(WORDS[axis][int(leg[axis] > 0)], abs(leg[axis])) for leg in plan for axis in (0, 1) if leg[axis]]
    return ", ".join(f"{word} {units.with_unit(length, unit)}" for word, length in steps)
