"""How questions name objects and how reasoning speaks of them: by phrase or by a drawn mark, always in the same few word forms."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from sv_jax.tasks import geometry, units
from sv_jax.tasks.qa import QA
from sv_jax.tasks.view import Seen, View

MARK_SHARE = 0.25  # of the questions that could use plain phrases; an ambiguous phrase always needs a mark
MARK_COLORS = ("red", "blue", "green", "yellow")
MARK_KINDS = ("point", "box")
ALL_KINDS = (*MARK_KINDS, "mask")
POINT_INSIDE = 9  # pixels of the object on all sides of a point that marks it: the disc drawn there must not reach its neighbours


def clause(view: View, seen: Seen, letter: str | None = None) -> str:
    """One object as descriptions and reasoning state it: "red mug: x 31, 42 cm away, 9.5 cm tall"; as an option "red mug (A): …".

    x is in percent of the first frame's width, as in grounding.
    """
    scale = view.scene.scale
    away = units.with_unit(seen.depth, units.DISTANCE[scale])
    tall = units.with_unit(seen.height, units.HEIGHT[scale])
    return f"{seen.phrase}{f' ({letter})' if letter else ''}: x {seen.x:02d}, {away} away, {tall} tall"


ENDS: dict[tuple[str, str], Callable[[Seen], float]] = {  # the two ends between which objects differ, and the number that clauses state
    ("left", "right"): lambda seen: seen.x,
    ("near", "far"): lambda seen: float(units.number(seen.depth)),
    ("short", "tall"): lambda seen: float(units.number(seen.height)),
}


def order(options: tuple[Seen, ...], ends: tuple[str, str]) -> str | None:
    """Which of two options, A and B, stands at which end: "left: B, right: A". None where their clauses state the same number."""
    a, b = map(ENDS[ends], options)
    low, high = ("A", "B") if a < b else ("B", "A")
    return f"{ends[0]}: {low}, {ends[1]}: {high}" if a != b else None


def clauses(view: View, chosen: Iterable[Seen]) -> str:
    """The clauses of the chosen objects, in their order."""
    return "; ".join(clause(view, seen) for seen in chosen)


def reasoning(semantic: str | None, level: str | None, body: str) -> str:
    """The anchors that the task has, then the facts that lead to the answer."""
    anchors = [f"<{tag}>{text}</{tag}>" for tag, text in (("semantic", semantic), ("scale", level)) if text is not None]
    return " ".join([*anchors, f"{body}."])


def names(
    view: View, chosen: tuple[Seen, ...], rng: np.random.Generator, kinds: tuple[str, ...] = MARK_KINDS, share: float = MARK_SHARE
) -> tuple[tuple[str, ...], tuple[dict, ...]]:
    """How a question calls the chosen objects ("the red mug", "the object in the red box"), and the marks to draw in the first frame, of
    one of `kinds`; a `share` of those that could do without has marks. Where there are more objects than colours it takes phrases: see
    `nameable`."""
    if len(chosen) > len(MARK_COLORS) or (all(seen.unique for seen in chosen) and rng.random() >= share):
        return phrases(chosen), ()
    return marked(view, chosen, rng, kinds)


def nameable(chosen: tuple[Seen, ...]) -> bool:
    """Whether `names` can call the chosen objects without doubt: by a mark each or by phrases."""
    return len(chosen) <= len(MARK_COLORS) or all(seen.unique for seen in chosen)


def phrases(chosen: tuple[Seen, ...]) -> tuple[str, ...]:
    """`names` without marks; it is clear where every phrase is unique."""
    return tuple(f"the {seen.phrase}" for seen in chosen)


def beside(a: Seen, b: Seen) -> bool:
    """Whether `a` lies clearly left of `b` in the first frame, hidden parts and all."""
    return a.sides[1] + 0.125 * min(a.sides[1] - a.sides[0], b.sides[1] - b.sides[0]) < b.sides[0]


def marked(
    view: View, chosen: tuple[Seen, ...], rng: np.random.Generator, kinds: tuple[str, ...] = MARK_KINDS
) -> tuple[tuple[str, ...], tuple[dict, ...]]:
    """`names` with a mark for each object: a box where a point would not stay inside, a mask where a box could mean another object."""
    kind = kinds[int(len(kinds) * rng.random())]
    inner = [geometry.inner_pixel(view.mask(seen.index)) for seen in chosen]
    if kind == "point" and min(deep for *_, deep in inner) < POINT_INSIDE:
        kind = "box"
    if kind == "box" and not all(view.tells_box(seen.index) for seen in chosen):
        kind = "mask"
    marks = []
    for seen, (x, y, _), color in zip(chosen, inner, MARK_COLORS, strict=False):
        if kind == "point":
            where = {"xy": [x + 0.5, y + 0.5]}
        elif kind == "box":
            where = {"xyxy": around(view, seen.box)}
        else:
            where = {"mask": geometry.run_lengths(view.mask(seen.index))}
        marks.append({"kind": kind, "frame": 0, **where, "color": color})
    preposition = {"point": "at", "box": "in", "mask": "under"}[kind]
    return tuple(f"the object {preposition} the {mark['color']} {kind}" for mark in marks), tuple(marks)


def around(view: View, box: tuple[int, int, int, int]) -> list[int]:
    """The box two pixels wider on each side, inside the frame, so that its outline does not cover the object."""
    height, width = view.scene.ids.shape[1:]
    x0, y0, x1, y1 = box
    return [max(0, x0 - 2), max(0, y0 - 2), min(width, x1 + 2), min(height, y1 + 2)]


def about(view: View, chosen: tuple[Seen, ...], task: str, *, body: str = "", **fields) -> QA:
    """A QA on the chosen objects with its anchors and reasoning; `body` is what follows the objects' clauses."""
    semantic = ", ".join(seen.phrase for seen in chosen)
    facts = "; ".join([clauses(view, chosen), *([body] if body else [])])
    return record(view, task, semantic, facts, **fields)


def record(view: View, task: str, semantic: str | None, facts: str, *, scaled: bool = True, **fields) -> QA:
    """A QA of this scene whose reasoning states `facts`. Its id is set by `ask`. Not `scaled`: without the scale anchor."""
    level = view.level if scaled else None
    return QA(
        id="", scene_id=view.scene.id, task=task, scale=view.scene.scale, semantic=semantic, scale_anchor=level,
        reasoning=reasoning(semantic, level, facts), **fields,
    )  # fmt: skip
