"""One question and its answer: the record that tasks make, datasets store, training reads and evaluation scores."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from sv_jax.errors import UserError, unknown

ANSWER_TYPES = ("choice", "number", "text")
LETTERS = "ABCDE"  # ours need four, STI-Bench five


@dataclass(frozen=True)
class QA:
    """A question about one scene. Tuples, not lists, so that a record is hashable except for its marks."""

    id: str
    scene_id: str
    task: str  # a key of TASKS or of DESCRIPTIONS
    scale: str
    question: str  # without the options
    answer: str  # a letter, a plain number in `unit`, or free text
    answer_type: str  # "choice", "number" or "text"
    options: tuple[str, ...] | None = None  # texts of A, B, …
    unit: str | None = None  # "mm", "cm", "m", "km", "m²", "°", …; None for counts
    answer_si: float | None = None  # the exact value in SI units (angles in radians), or the count, behind the rounded answer
    semantic: str | None = None  # phrases of the objects the question is about, in its order, joined by ", "; None without
    scale_anchor: str | None = None  # "10 cm level", see units.level; None for tasks that need no scale
    reasoning: str = ""  # with the <semantic> and <scale> tags in it; "" gives a bare answer
    frames: tuple[int, ...] | None = None  # frames that must be shown; None is all of them
    marks: tuple[dict, ...] = ()  # {"kind": "point" | "box" | "mask", "frame", "xy" | "xyxy" | "mask", "color"}: inputs/marks.py
    extra: dict | None = None  # of a published record: its format's name -> the fields that have no place here

    def __post_init__(self):
        if self.answer_type not in ANSWER_TYPES:
            raise unknown("answer_type", self.answer_type, ANSWER_TYPES)

    def user_text(self) -> str:
        """The question, and one line per option below it."""
        if self.options is None:
            return self.question
        lines = [f"{letter}. {text}" for letter, text in zip(LETTERS, self.options, strict=False)]
        return "\n".join([self.question, "Options:", *lines])

    def target_text(self) -> str:
        """The assistant's text: reasoning with its anchors, then the answer; a description is bare text."""
        if self.answer_type == "text" and not self.reasoning:
            return self.answer
        return f"<think>{self.reasoning}</think><answer>{self.answer}</answer>"

    def to_dict(self) -> dict:
        """A dict of JSON values."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    @classmethod
    def from_dict(cls, record: dict) -> QA:
        """Inverse of `to_dict`, also after a trip through JSON. UserError for a key that no QA has or that is missing."""
        names = {field.name for field in dataclasses.fields(cls)}
        for key in record:
            if key not in names:
                raise unknown("QA field", key, names)
        tuples = {key: tuple(record[key]) for key in ("options", "frames", "marks") if record.get(key) is not None}
        try:
            return cls(**{**record, **tuples})
        except TypeError as error:
            raise UserError(f"QA record {record.get('id')!r}: {error}") from None
