"""Dense targets that ground a model before it is asked anything: a clause for each object of the first frame, a map of it, and the
clauses of marked objects."""

from __future__ import annotations

from collections.abc import Callable
from zlib import crc32

import numpy as np

from sv_jax.scenes.scene import Object, Scene
from sv_jax.tasks import refer, units
from sv_jax.tasks.qa import QA
from sv_jax.tasks.view import View

TEMPLATES = ("Describe the scene.", "Describe the objects in the video.", "What does the video show?")


def describe(scene: Scene) -> QA | None:
    """Says "3 objects, 10 cm level. red mug: left, 42 cm away, 9.5 cm tall; …." from left to right. None for an empty scene."""
    return description(View(scene))


def description(view: View) -> QA | None:
    """`describe` for a view that exists already."""
    if not view.seen:
        return None
    count = len(view.seen)
    text = f"{count} object{'s' if count > 1 else ''}, {view.level}. {refer.left_to_right(view, view.seen)}."
    question = TEMPLATES[crc32(view.scene.id.encode()) % len(TEMPLATES)]
    return QA(
        id=f"{view.scene.id}-description", scene_id=view.scene.id, task="description", scale=view.scene.scale, question=question,
        answer=text, answer_type="text", semantic=", ".join(s.phrase for s in view.seen), scale_anchor=view.level,
    )  # fmt: skip


ROWS, COLUMNS = "abcd", "1234"  # of the map
CELLS, EMPTY = 8, 3  # how many cells a map names, and how many of them at least show no object, where there are as many


def frame_map(view: View) -> QA | None:
    """What stands in some cells of a 4x4 grid over the first frame, and how far away: "a2 sky; b1 ground 92 cm; c3 red mug 41 cm."

    A cell shows the object that fills most of it, if it is a quarter at least. Which cells are named depends on the scene alone.
    """
    if not view.seen:
        return None
    rng = np.random.default_rng(crc32(view.scene.id.encode()))
    cells = {f"{row}{column}": _cell(view, i, j) for i, row in enumerate(ROWS) for j, column in enumerate(COLUMNS)}
    order = [str(name) for name in rng.permutation(list(cells))]
    shown, empty = ([name for name in order if (cells[name][0] is not None) == holds] for holds in (True, False))
    chosen = sorted((shown[: CELLS - EMPTY] + empty)[:CELLS])
    text = "; ".join(f"{name} {_shown(view, *cells[name])}" for name in chosen)
    return QA(
        id=f"{view.scene.id}-map", scene_id=view.scene.id, task="map", scale=view.scene.scale, question="Map the first frame.",
        answer=f"{text}.", answer_type="text",
    )  # fmt: skip


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
    """The clauses of one or two marked objects, in the order in which they are named; which ones depends on the scene alone."""
    if not view.seen:
        return None
    rng = np.random.default_rng(crc32(view.scene.id.encode()))
    count = int(rng.integers(1, min(len(view.seen), len(refer.MARK_COLORS)) + 1))
    chosen = tuple(view.seen[i] for i in rng.permutation(len(view.seen))[:count])
    called, marks = refer.marked(view, chosen, rng)
    return QA(
        id=f"{view.scene.id}-regions", scene_id=view.scene.id, task="regions", scale=view.scene.scale,
        question=f"Describe {' and '.join(called)}.", answer=f"{'; '.join(refer.clause(view, seen) for seen in chosen)}.",
        answer_type="text", marks=marks,
    )  # fmt: skip


# Targets that are no questions, by name; a dataset takes them as tasks.
DESCRIPTIONS: dict[str, Callable[[View], QA | None]] = {"description": description, "map": frame_map, "regions": regions}
