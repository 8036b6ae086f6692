"""The dense target that grounds a model before it is asked anything: one clause for each object of the first frame."""

from __future__ import annotations

from zlib import crc32

from sv_jax.scenes.scene import Scene
from sv_jax.tasks import refer
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
