"""Every answer again from pixels: this code sees depth, ids, K, poses and the names that the ids carry, never sizes or places.

A new task is one function `(pixels, qa) -> answer` and one entry in RECOMPUTE.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from sv_jax.tasks import QA
from tests.tasks.recompute import motion, objects, plans, relations, rooms
from tests.tasks.recompute.pixels import METRES, Pixels, Unclear, things

__all__ = ["RECOMPUTE", "Pixels", "Verdict", "check", "things"]

RELATIVE = 0.05  # error of lengths, areas and volumes
DEGREES = 2.0  # error of a camera's angle, and of an object's heading: its turn is the difference of two

RECOMPUTE: dict[str, Callable[[Pixels, QA], float | str]] = {
    "object_size": objects.object_size,
    "absolute_distance": objects.absolute_distance,
    "counting": objects.counting,
    "position_comparison": objects.position_comparison,
    "size_comparison": objects.size_comparison,
    "depth": objects.depth,
    "relative_distance": objects.relative_distance,
    "existence": objects.existence,
    "view_change": motion.camera_motion,
    "rotation": motion.rotation,
    "object_matching": objects.object_matching,
    "route_plan": plans.route_plan,
    "obstacles": plans.obstacles,
    "area_estimation": objects.area_estimation,
    "room_size": rooms.room_size,
    "appearance_order": objects.appearance_order,
    "spatial_relation": relations.spatial_relation,
    "manipulation_plan": plans.manipulation_plan,
    "navigation": plans.navigation,
}


@dataclass(frozen=True)
class Verdict:
    """How an answer compares with the one from pixels."""

    agrees: bool
    error: float  # relative; of angles in degrees; 0 or 1 for letters and counts, and 1 where the question is unclear
    found: str  # what the pixels say


def check(pixels: Pixels, qa: QA) -> Verdict:
    """Whether the answer of a question of one of the tasks in RECOMPUTE follows from the pixels."""
    try:
        found = RECOMPUTE[qa.task](pixels, qa)
    except Unclear as doubt:
        return Verdict(False, 1.0, f"unclear: {doubt}")
    if qa.answer_type == "choice":
        return Verdict(found == qa.answer, float(found != qa.answer), found)
    if qa.unit is None:
        wrong = not found == float(qa.answer) == qa.answer_si
        return Verdict(not wrong, float(wrong), f"{found:g}")
    if qa.unit == "°":
        error = max(abs(float(qa.answer) - np.degrees(found)), np.degrees(abs(qa.answer_si - found)))
        return Verdict(error <= DEGREES * (1 if "camera" in qa.question else 2), float(error), f"{np.degrees(found):.1f}")
    written = float(qa.answer) * METRES[qa.unit] / qa.answer_si - 1  # two digits are within 5 % of any number
    error = max(abs(found / qa.answer_si - 1), abs(written))
    return Verdict(error <= RELATIVE, float(error), f"{found / METRES[qa.unit]:.3g}")
