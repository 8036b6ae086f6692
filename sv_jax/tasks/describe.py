"""Dense targets that ground a model before it is asked anything: a clause for each object of the first frame, a map of it, the
clauses of objects that are named or marked, and pairs of them compared."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from zlib import crc32

import numpy as np

from sv_jax.scenes.scene import Object, Scene
from sv_jax.tasks import refer, units
from sv_jax.tasks.qa import LETTERS, QA
from sv_jax.tasks.view import View

TEMPLATES = ("Describe the scene.", "Describe the objects in the video.", "What does the video show?")


def describe(scene: Scene) -> QA | None:
    """Says "3 objects, 10 cm level. red mug: x 31, 42 cm away, 9.5 cm tall; …." from left to right. None for an empty scene."""
    return description(View(scene))


def description(view: View) -> QA | None:
    """`describe` for a view that exists already."""
    if not view.seen:
        return None
    count = len(view.seen)
    text = f"{count} object{'s' if count > 1 else ''}, {view.level}. {refer.clauses(view, view.seen)}."
    question = TEMPLATES[crc32(view.scene.id.encode()) % len(TEMPLATES)]
    semantic = ", ".join(s.phrase for s in view.seen)
    return _target(view, "description", question, text, semantic=semantic, scale_anchor=view.level)


ROWS, COLUMNS = "abcd", "1234"  # of the map
CELLS, EMPTY = 8, 3  # how many cells a map names, and how many of them at least show no object, where there are as many


def frame_map(view: View) -> QA | None:
    """What stands in some cells of a 4x4 grid over the first frame, and how far away: "a2 sky; b1 ground 92 cm; c3 red mug 41 cm."

    A cell shows the object that fills most of it, if it is a quarter at least. Which cells are named depends on the scene alone.
    """
    if not view.seen:
        return None
    rng = _rng(view)
    cells = {f"{row}{column}": _cell(view, i, j) for i, row in enumerate(ROWS) for j, column in enumerate(COLUMNS)}
    order = [str(name) for name in rng.permutation(list(cells))]
    shown, empty = ([name for name in order if (cells[name][0] is not None) == holds] for holds in (True, False))
    chosen = sorted((shown[: CELLS - EMPTY] + empty)[:CELLS])
    text = "; ".join(f"{name} {_shown(view, *cells[name])}" for name in chosen)
    return _target(view, "map", "Map the first frame.", f"{text}.")


def _cell(view: View, row: int, column: int) -> tuple[Object | None, float]:
    """The object that a cell shows, None for the ground or the sky, and the median depth of its pixels there in metres."""
    height, width = view.scene.ids.shape[1:]
    here = (
        slice(row * height // len(ROWS), (row + 1) * height // len(ROWS)),
        slice(column * width // len(COLUMNS), (column + 1) * width // len(COLUMNS)),
    )
    ids, depth = view.scene.ids[0][here], view.scene.depth[0][here]
    pixels = np.bincount(ids.ravel(), minlength=len(view.scene.objects) + 1)
    most = int(pixels[1:].argmax()) + 1
    shown = most if 4 * pixels[most] >= ids.size else 0
    return view.scene.objects[shown - 1] if shown else None, float(np.median(depth[ids == shown]))


def _shown(view: View, thing: Object | None, distance: float) -> str:
    if not np.isfinite(distance):
        return "sky"
    return f"{thing.phrase if thing else 'ground'} {units.with_unit(distance, units.DISTANCE[view.scene.scale])}"


def regions(view: View) -> QA | None:
    """The clauses of some objects, called by phrase or mark, in the order in which they are named, and which is nearest and tallest:
    "red mug: x 31, 42 cm away, 9.5 cm tall; …. Nearest: red mug, 42 cm. Tallest: …." The scene alone decides which objects."""
    if not view.seen:
        return None
    rng = _rng(view)
    named = [seen for seen in view.seen if seen.unique] if rng.random() < NAMED else []
    most = min(len(named or view.seen), PHRASES if named else MARKED)
    chosen = tuple((named or view.seen)[i] for i in rng.permutation(len(named or view.seen))[: rng.integers(1, most + 1)])
    called, marks = (refer.phrases(chosen), ()) if named else refer.marked(view, chosen, rng)
    nearest, tallest = min(chosen, key=lambda seen: seen.depth), max(chosen, key=lambda seen: seen.height)
    text = (
        f"{refer.clauses(view, chosen)}. "
        f"Nearest: {nearest.phrase}, {units.with_unit(nearest.depth, units.DISTANCE[view.scene.scale])}. "
        f"Tallest: {tallest.phrase}, {units.with_unit(tallest.height, units.HEIGHT[view.scene.scale])}."
    )
    return _target(view, "regions", f"Describe {' and '.join(called)}.", text, marks=marks)


def pair(view: View) -> QA | None:
    """Two objects and how they stand to each other: "purple bowl (A): x 61, …; white box (B): …; left: B, right: A; near: …; short: …."

    None where no two objects of the scene have different phrases.
    """
    pairs = [two for two in combinations(view.seen, 2) if two[0].phrase != two[1].phrase]
    if not pairs:
        return None
    rng = _rng(view)
    drawn = pairs[rng.integers(len(pairs))]
    options = tuple(drawn[i] for i in rng.permutation(2))
    called, marks = refer.names(view, options, rng)
    clauses = [refer.clause(view, seen, letter) for seen, letter in zip(options, LETTERS, strict=False)]
    orders = [stated for ends in refer.ENDS if (stated := refer.order(options, ends))]
    return _target(view, "pair", "Compare these.", f"{'; '.join(clauses + orders)}.", options=called, marks=marks)


def _rng(view: View) -> np.random.Generator:
    return np.random.default_rng(crc32(view.scene.id.encode()))


def _target(view: View, task: str, question: str, answer: str, **fields) -> QA:
    return QA(
        id=f"{view.scene.id}-{task}", scene_id=view.scene.id, task=task, scale=view.scene.scale, question=question, answer=answer,
        answer_type="text", **fields,
    )  # fmt: skip


NAMED = 0.75  # share of `regions` that call objects by their phrases where they can ...
PHRASES = 3  # ... and the most that they call so
MARKED = 2  # the most that they mark

# Targets that are no questions, by name; a dataset takes them as tasks.
DESCRIPTIONS: dict[str, Callable[[View], QA | None]] = {
    "description": description, "map": frame_map, "regions": regions, "pair": pair,
}  # fmt: skip
