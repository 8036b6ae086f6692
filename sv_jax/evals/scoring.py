"""How a benchmark's answers are scored: one function `(text, qa) -> score in [0, 1]` per profile.

`ours` reads an answer the way a person would: tags are optional, letters and numbers may stand in a sentence, units are converted.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from sv_jax.rewards import parsing
from sv_jax.rewards.answers import mra
from sv_jax.tasks.qa import QA

__all__ = ["PROFILES", "mra", "ours"]


def ours(text: str, qa: QA) -> float:
    """Choices 0 or 1, numbers by MRA in the unit of the question, text by equality of its words. Never raises on model text."""
    found = parsing.answer_span(text, lenient=True)
    if qa.answer_type == "choice":
        return float(parsing.letter(found, qa.options) == qa.answer)
    if qa.answer_type == "number":
        value = parsing.number(found, qa.unit)
        return 0.0 if value is None else mra(value, float(qa.answer))
    return float(_words(found) == _words(qa.answer))


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.casefold())


PROFILES: dict[str, Callable[[str, QA], float]] = {"ours": ours}
