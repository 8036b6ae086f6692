"""Tasks about plans on the ground: route_plan, which way to turn on a walk past objects, and obstacles, what stands in a straight way."""

from __future__ import annotations

from itertools import permutations

import numpy as np

from sv_jax.scenes.scene import Object, Solid
from sv_jax.tasks import geometry, refer, units
from sv_jax.tasks.qa import LETTERS, QA
from sv_jax.tasks.view import Seen, View

ROUTE_SCALES = ("indoor", "drone")
OBSTACLE_SCALES = ("tabletop", "tiny")
AHEAD, BEHIND = np.radians(45), np.radians(135)  # between them lies a turn to a side; below, no turn is needed; above, one turns back
DOUBT = np.radians(10)  # around these angles
MOST = 4  # objects that an obstacle is one of
AWAY = 0.10  # sizes of the moved object by which others stand in its way or clear of it, at least
TURNS = {"left": "turn left", "right": "turn right", "back": "turn back"}
ROUTE_TEMPLATES = (
    "You stand at {a}, facing {b}. 1. Go forward until {b}. 2. [?] 3. Go forward until {c}. What must you do at the [?]?",
    "Start at {a}, facing {b}. First go forward until {b}, then [?], then go forward until {c}. What belongs in place of the [?]?",
    "A robot at {a} faces {b}. It goes forward until {b}, makes a turn, and goes forward until {c}. Which turn does it make?",
    "From {a}, walk straight to {b}; then turn and walk straight to {c}. Which turn is it?",
)
OBSTACLE_TEMPLATES = (
    "If {a} slid in a straight line to {b}, which object would be in its way, by outlines seen from above?",
    "{a} is to slide straight to {b}. Judged from above, which object does it run into first?",
    "Seen from above, which object blocks the straight way of {a} to {b}?",
    "By outlines seen from above, what stands in the way of {a} on a straight line to {b}?",
)


def route_plan(view: View, rng: np.random.Generator) -> QA | None:
    """The turn at the second of three objects that are visited in straight lines, clear of all others. Indoor and drone scenes only.

    The options are the turns that the scene's routes take, each right equally often."""
    if view.scene.scale not in ROUTE_SCALES:
        return None
    routes = view.once("routes", lambda: _routes(view))
    if not {"left", "right"} <= set(routes):
        return None
    turns = [turn for turn in TURNS if turn in routes]
    turn = turns[rng.integers(len(turns))]
    stops = routes[turn][rng.integers(len(routes[turn]))]
    options = [turns[i] for i in rng.permutation(len(turns))]
    letter = LETTERS[options.index(turn)]
    called, marks = refer.names(view, stops, rng, ("point",))
    legs = [units.with_unit(float(np.linalg.norm(_ground(b) - _ground(a))), units.DISTANCE[view.scene.scale]) for a, b in _legs(stops)]
    a, b, c = (seen.phrase for seen in stops)
    angle = np.degrees(_angle(*(_ground(seen) for seen in stops)))
    side = "left" if angle > 0 else "right"
    return refer.record(
        view, "route_plan", f"{a}, {b}, {c}",
        f"{a} to {b}: {legs[0]}; {b} to {c}: {legs[1]}, {abs(angle):.0f} deg to the {side} of the way; {TURNS[turn]}: {letter}",
        question=ROUTE_TEMPLATES[rng.integers(len(ROUTE_TEMPLATES))].format(**dict(zip("abc", called, strict=True))),
        options=tuple(TURNS[o] for o in options), answer=letter, answer_type="choice", marks=marks,
    )  # fmt: skip


def _routes(view: View) -> dict[str, list[tuple[Seen, ...]]]:
    """Every route without doubt, under its turn."""
    routes: dict[str, list[tuple[Seen, ...]]] = {}
    stands = [seen for seen in view.seen if seen.object.parent is None]
    clear = {(a.index, b.index) for a, b in permutations(stands, 2) if _clear(view, a, b)}
    for stops in permutations(stands, 3):
        if all((a.index, b.index) in clear for a, b in _legs(stops)) and (turn := _turn(view, stops)) is not None:
            routes.setdefault(turn, []).append(stops)
    return routes


def _legs(stops: tuple[Seen, ...]) -> list[tuple[Seen, Seen]]:
    return list(zip(stops, stops[1:], strict=False))


def _ground(seen: Seen) -> np.ndarray:
    return seen.object.center[:2]


def _reach(seen: Seen) -> float:
    """Radius in metres of the circle around an object's outline."""
    return float(np.hypot(*seen.object.size[:2])) / 2


def _angle(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> float:
    """By how much one turns at `b` on the way from `a` to `c`, all [2]: radians, positive to the left (z is up)."""
    (x, y), (u, v) = b - a, c - b
    return float(np.arctan2(x * v - y * u, x * u + y * v))


def _side(angle: float, doubt: float) -> str | None:
    """The turn of an angle, None where it is within `doubt` of another or no turn at all."""
    size = abs(angle)
    if AHEAD + doubt <= size <= BEHIND - doubt:
        return "left" if angle > 0 else "right"
    return "back" if size >= BEHIND + doubt else None


def _turn(view: View, stops: tuple[Seen, ...]) -> str | None:
    """The turn of a route; None where it is in doubt: also if one turned already in front of the object, or went by what is visible."""
    a, b, c = (_ground(seen) for seen in stops)
    before = b - (b - a) / np.linalg.norm(b - a) * _reach(stops[1])
    shown = [np.mean(view.span(s.index), 0)[:2] for s in stops]
    turn = _side(_angle(a, b, c), DOUBT)
    return turn if turn == _side(_angle(a, before, c), 0.0) == _side(_angle(*shown), 0.0) else None


def _clear(view: View, a: Seen, b: Seen) -> bool:
    """Whether the straight way between two objects is long enough, stays inside the room and touches no other object."""
    if np.linalg.norm(_ground(b) - _ground(a)) < 1.5 * (_reach(a) + _reach(b)) or not _inside(view, a, b):
        return False
    return not any(_near(other, a, b) for i, other in enumerate(view.scene.objects) if i not in (a.index, b.index))


def _near(other: Object, a: Seen, b: Seen) -> bool:
    """Whether the straight way between two objects touches the circle around another one."""
    start, way, place = _ground(a), _ground(b) - _ground(a), other.center[:2]
    along = np.clip((place - start) @ way / (way @ way), 0, 1)
    return bool(np.linalg.norm(start + along * way - place) <= np.hypot(*other.size[:2]) / 2)


def _inside(view: View, a: Seen, b: Seen) -> bool:
    """Whether the straight way between two objects stays inside the room, if there is one: it crosses none of its walls."""
    if view.scene.room is None:
        return True
    corners = view.scene.room.corners
    p, q = _ground(a), _ground(b)

    def left(start: np.ndarray, end: np.ndarray, point: np.ndarray) -> bool:
        (x, y), (u, v) = end - start, point - start
        return bool(x * v > y * u)

    walls = zip(corners, np.roll(corners, -1, 0), strict=True)
    return not any(left(p, q, c) != left(p, q, d) and left(c, d, p) != left(c, d, q) for c, d in walls)


def obstacles(view: View, rng: np.random.Generator) -> QA | None:
    """Which of two to four objects stands in the way of one that slides straight to another: no other one of the scene does. Tabletop and
    tiny scenes only."""
    if view.scene.scale not in OBSTACLE_SCALES:
        return None
    pairs = list(permutations([seen for seen in view.seen if seen.object.parent is None], 2))
    drawn = (
        (*pairs[i], *view.once("way", pairs[i][0].index, pairs[i][1].index, lambda i=i: _blocking(view, *pairs[i])))
        for i in rng.permutation(len(pairs))
    )
    moved, goal, blocking, aside = next((case for case in drawn if case[2]), (None,) * 4)
    if blocking is None:
        return None
    named = [seen for seen in aside if seen.unique] if all(seen.unique for seen in (moved, goal, blocking)) else []
    most = int(rng.integers(1, MOST)) if named else 1  # a phrase that is not unique needs marks, and there are four colours
    aside = named or aside
    options = [blocking, *(aside[i] for i in rng.permutation(len(aside))[:most])]
    options = [options[i] for i in rng.permutation(len(options))]
    letter = LETTERS[options.index(blocking)]
    called, marks = refer.names(view, (moved, goal, *options), rng, ("box",))
    unit = units.DISTANCE[view.scene.scale]
    way = units.with_unit(_way(_outline(moved), _outline(goal), _ground(moved), _ground(goal)), unit)
    stated = [f"{s.phrase} ({key}): {'in the way' if s is blocking else 'aside'}" for s, key in zip(options, LETTERS, strict=False)]
    question = OBSTACLE_TEMPLATES[rng.integers(len(OBSTACLE_TEMPLATES))].format(a=called[0], b=called[1])
    return refer.record(
        view, "obstacles", ", ".join(seen.phrase for seen in (moved, goal, *options)),
        f"{moved.phrase} to {goal.phrase}: {way}; {'; '.join(stated)}; {letter}", question=question[0].upper() + question[1:],
        options=called[2:], answer=letter, answer_type="choice", marks=marks,
    )  # fmt: skip


def _outline(seen: Seen) -> np.ndarray:
    return geometry.outline(seen.object.solids)


def _blocking(view: View, moved: Seen, goal: Seen) -> tuple[Seen | None, list[Seen]]:
    """The only other object that the sweep of `moved` to `goal` meets, and those clearly beside it; None where there are none or more, too
    few others to choose from, or doubt: within the margin, or where outlines of what the clip shows say something else. What stands on
    another object lies within its outline and does not count; what the first frame does not show clearly must be away from the sweep."""
    things = view.scene.objects
    if any(thing.parent == moved.index for thing in things):
        return None, []
    seen = {s.index: s for s in view.seen}
    true = _sweep(_outline(moved), _outline(goal), _ground(moved), _ground(goal))
    shown, to = view.outline(moved.index), view.outline(goal.index)
    seen_way = _sweep(shown, to, shown.mean(0), to.mean(0))
    meets, aside = [], []
    for i, thing in enumerate(things):
        if i in (moved.index, goal.index) or thing.parent is not None:
            continue
        room = geometry.separation(true, _covered(thing))
        if abs(room) < AWAY * max(moved.object.size[:2]) or (i not in seen and room < 0):
            return None, []
        if i in seen:
            if (room < 0) != (geometry.separation(seen_way, view.outline(i)) < 0):
                return None, []
            (meets if room < 0 else aside).append(seen[i])
    return (meets[0], aside) if len(meets) == 1 and aside else (None, [])


def _covered(thing: Object) -> np.ndarray:
    """Outline of an object; of one that moves in place, the circle in which it turns."""
    if thing.motion is None:
        return geometry.outline(thing.solids)
    across = np.hypot(*thing.size[:2])
    return geometry.outline([Solid("cylinder", thing.center, 0.0, np.array([across, across, thing.size[2]]))])


def _way(moved: np.ndarray, goal: np.ndarray, start: np.ndarray, end: np.ndarray) -> float:
    """Metres that an outline [n, 2] slides from `start` towards `end`, both [2], until it touches the outline `goal`."""
    step = (end - start) / np.linalg.norm(end - start)
    normals, gaps = geometry.gaps(moved, goal)
    closing = normals @ step  # each gap shrinks by this much per metre; they touch when the last one is closed
    return float(max(gap / rate for gap, rate in zip(gaps, closing, strict=True) if rate > 1e-9))


def _sweep(moved: np.ndarray, goal: np.ndarray, start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """The outline of all that `moved` covers on its way to `goal`."""
    step = (end - start) / np.linalg.norm(end - start)
    return geometry.hull(np.concatenate([moved, moved + _way(moved, goal, start, end) * step]))
