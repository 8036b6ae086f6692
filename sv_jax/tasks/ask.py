"""The table of tasks, and `ask`: questions about one scene. A new task is one new function and one entry here."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable

import numpy as np

from sv_jax.errors import unknown
from sv_jax.scenes.scene import Scene
from sv_jax.tasks import choices, existence, manipulation, motion, navigation, numbers, order, plans, relations, rooms
from sv_jax.tasks.qa import QA
from sv_jax.tasks.view import View

Task = Callable[[View, np.random.Generator], QA | None]

TASKS: dict[str, Task] = {
    "object_size": numbers.object_size,
    "absolute_distance": numbers.absolute_distance,
    "counting": numbers.counting,
    "position_comparison": choices.position_comparison,
    "size_comparison": choices.size_comparison,
    "depth": numbers.depth,
    "relative_distance": choices.relative_distance,
    "existence": existence.existence,
    "view_change": motion.view_change,
    "rotation": motion.rotation,
    "object_matching": motion.object_matching,
    "route_plan": plans.route_plan,
    "obstacles": plans.obstacles,
    "area_estimation": numbers.area_estimation,
    "room_size": rooms.room_size,
    "appearance_order": order.appearance_order,
    "spatial_relation": relations.spatial_relation,
    "manipulation_plan": manipulation.manipulation_plan,
    "navigation": navigation.navigation,
}


def ask(scene: Scene | View, rng: np.random.Generator, n: int, tasks: Iterable[str] | None = None) -> list[QA]:
    """Up to `n` different questions about a scene, in rounds over `tasks` (all of TASKS by default), so that none prevails.

    The same scene, generator state and arguments give the same questions. A task that the scene cannot answer without doubt is
    skipped, so the list may be shorter than `n`. UserError for an unknown task.
    """
    names = list(TASKS if tasks is None else tasks)
    for name in names:
        if name not in TASKS:
            raise unknown("task", name, TASKS)
    view = scene if isinstance(scene, View) else View(scene)
    if not view.seen:
        return []
    names = [names[i] for i in rng.permutation(len(names))]
    found: list[QA] = []
    taken: set[tuple] = set()
    for _ in range(-(-n // max(len(names), 1)) + 1):  # one round more than an even share needs, for tasks that drop out
        for name in tuple(names):
            qa = _new(TASKS[name], view, rng, taken)
            if qa is None:
                names.remove(name)
            else:
                found.append(dataclasses.replace(qa, id=f"{view.scene.id}-q{len(found):02d}"))
    return found[:n]


def _new(task: Task, view: View, rng: np.random.Generator, taken: set[tuple], tries: int = 4) -> QA | None:
    """A question that is not in `taken` yet (whatever its wording), or None."""
    for _ in range(tries):
        qa = task(view, rng)
        if qa is None:
            return None
        key = (qa.task, *sorted((qa.semantic or "").split(", ")), qa.frames, qa.answer_si)
        if key not in taken:
            taken.add(key)
            return qa
    return None
