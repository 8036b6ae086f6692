"""navigation: which instructions lead from one landmark to another without running into anything."""

from __future__ import annotations

from itertools import permutations

import numpy as np

from sv_jax.tasks import legs, refer, units
from sv_jax.tasks.qa import LETTERS, QA
from sv_jax.tasks.view import Seen, View

WALKER = {"outdoor": 0.3, "drone": 1.5}  # metres of radius that must be free, by scale
TALL = {"outdoor": 0.4, "drone": 2.0}  # metres of height from which one runs into something, and does not walk over it
TRIES = 20  # sets of three landmarks that a call looks at
FAR = 1.5  # circles around both that fit between the middles of two landmarks, at least
FACED = 0.3  # of the distance to the goal: how far away the landmark is that one faces, at least
BESIDE = 0.25  # of it: how far the goal lies off the first direction, at least, so that mirrored ways end elsewhere, and off its normal
OFF = 0.08  # of it: how far off a right way may end, by lengths rounded and by what the clip shows
HIT = 0.03  # of it: how deep the middle of a wrong way cuts into something, at least
SHORT, ASIDE = 0.12, 0.6  # of it: the shortest leg, the widest detour
TEMPLATES = (
    "You stand at {a}, facing {c}. Which instructions lead to {b} without running into anything?",
    "Start at {a} and look towards {c}. By which of these ways does one reach {b} without running into anything?",
    "A robot at {a} faces {c}. Which commands take it to {b} without a collision?",
    "From {a}, facing {c}, how does one get to {b} without bumping into anything?",
)


def navigation(view: View, rng: np.random.Generator) -> QA | None:
    """Which of four lists of turns and distances leads from one landmark to another. Outdoor and drone scenes only.

    Two options end there, one of them through something; the other two are their mirror images and end elsewhere."""
    if view.scene.scale not in WALKER:
        return None
    sets = view.once("landmarks", lambda: _sets(view))
    for i in rng.permutation(len(sets))[:TRIES]:
        ways = _ways(view, rng, sets[i])
        if ways is not None:
            return _question(view, rng, sets[i], *ways)
    return None


def _sets(view: View) -> list[tuple[Seen, Seen, Seen]]:
    """Start, goal and what is faced at first: far enough apart, the goal clearly to a side. None bears anything to run into."""
    bearers, found = {thing.parent for thing in view.scene.objects}, []
    for stops in permutations([s for s in view.seen if s.object.parent is None and s.index not in bearers], 3):
        start, goal, faced = stops
        way, far = _goal(*(s.object.center[:2] for s in stops))[0], _apart(start, goal)
        apart = far and _apart(start, faced) >= FACED * far and _apart(goal, faced)
        if apart and np.abs(way).min() >= BESIDE * far and len({s.phrase for s in stops}) == 3:
            found.append(stops)
    return found


def _apart(a: Seen, b: Seen) -> float:
    """Metres between the middles of two landmarks; 0 where they are too close."""
    far = float(np.linalg.norm(a.object.center[:2] - b.object.center[:2]))
    return far if far >= FAR * sum(np.hypot(*s.object.size[:2]) / 2 for s in (a, b)) else 0.0


def _goal(start: np.ndarray, goal: np.ndarray, faced: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The way [2] from `start` to `goal` along the first direction, towards `faced`, and to the left of it; these two axes [2, 2]."""
    x, y = (faced - start) / np.linalg.norm(faced - start)
    axes = np.array([[x, y], [-y, x]])
    return axes @ (goal - start), axes


def _ways(view: View, rng: np.random.Generator, stops: tuple[Seen, ...]) -> tuple[np.ndarray, np.ndarray, str] | None:
    """The goal [2] along the axes, four plans [4, 3, 2], the right one first, and the phrase of what the second one runs into. None where
    solids and what the clip shows do not both say what is right and wrong."""
    ends = stops[0].index, stops[1].index
    walker = legs.circle(WALKER[view.scene.scale])
    goal, axes = _goal(*(s.object.center[:2] for s in stops))
    far = float(np.linalg.norm(goal))
    plans = legs.plans(goal, ASIDE * far, SHORT * far)
    standing, shown = legs.standing(view, *ends), legs.blocking(view, TALL[view.scene.scale], *ends)
    if not shown:
        return None
    rooms, off = [], []
    for outline, indices, places in (
        (legs.outline, standing, [s.object.center[:2] for s in stops]),
        (legs.visible_outline, shown, [np.mean(view.span(s.index), 0)[:2] for s in stops]),
    ):
        way, axes = _goal(*places)
        off.append(np.linalg.norm(plans.sum(1) - way, axis=-1))
        rooms.append(legs.room(legs.visits(plans, places[0], axes), legs.walls(walker, [outline(view, i) for i in indices], axes)))
    there = (np.stack(off) <= OFF * far).all(0)
    lowest = np.stack([room.min(1) for room in rooms])
    deep = WALKER[view.scene.scale] + HIT * far  # so that one who has no width runs into it, too
    chosen = legs.right_and_wrong(rng, plans, there & (lowest >= 0).all(0), there & (lowest <= -deep).all(0))
    if chosen is None:
        return None
    hit = view.scene.objects[shown[int(rooms[1][chosen[1]].argmin())]].phrase
    right, wrong = plans[list(chosen)]
    return goal, np.stack([right, wrong, right * [1, -1], wrong * [1, -1]]), hit


def _question(view, rng, stops: tuple[Seen, ...], goal: np.ndarray, ways: np.ndarray, hit: str) -> QA:
    order = rng.permutation(len(ways)).tolist()
    start, end, faced = (seen.phrase for seen in stops)
    facts = [f"goal in m: {_place(goal)}"]
    for way, letter in zip(order, LETTERS, strict=False):
        ending = (" free", f" hits {hit}", "", "")[way]
        facts.append(f"{letter}: {_place(ways[way].sum(0))}{ending}")
    answer = LETTERS[order.index(0)]
    called, marks = refer.names(view, stops, rng, ("point",))
    question = TEMPLATES[rng.integers(len(TEMPLATES))].format(**dict(zip("abc", called, strict=True)))
    return refer.record(
        view, "navigation", f"{start}, {end}, {faced}", f"{'; '.join(facts)}; {answer}", question=question,
        options=tuple(_commands(ways[way]) for way in order), answer=answer, answer_type="choice", marks=marks,
    )  # fmt: skip


def _place(move: np.ndarray) -> str:
    """ "ahead 60 left 24": a movement [2] along the axes."""
    words = (("back", "ahead"), ("right", "left"))
    return " ".join(f"{two[int(length > 0)]} {units.in_unit(abs(length), 'm')}" for length, two in zip(move, words, strict=True))


def _commands(plan: np.ndarray) -> str:
    """ "go forward 60 m, turn left, go forward 24 m": the legs of a plan [3, 2] as one goes them, facing the first axis at first."""
    steps, heading = [], np.array([1.0, 0.0])
    for leg in plan[np.abs(plan).sum(1) > 0]:
        step = leg / np.abs(leg).sum()
        to_left = heading[0] * step[1] - heading[1] * step[0]
        if heading @ step <= 0:
            steps.append("turn left" if to_left > 0 else "turn right" if to_left < 0 else "turn around")
        steps.append(f"go forward {units.with_unit(np.abs(leg).sum(), 'm')}")
        heading = step
    return ", ".join(steps)
