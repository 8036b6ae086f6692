"""The questions of a dataset folder without their clips, and what their texts have in common once the objects are taken out."""

from __future__ import annotations

import dataclasses
import json
import re
from dataclasses import dataclass
from pathlib import Path

from sv_jax.data import sets
from sv_jax.errors import UserError
from sv_jax.scenes.worlds import COLOURS
from sv_jax.tasks import QA, units
from sv_jax.tasks.qa import LETTERS

OPTION = re.compile(rf"(?:^|(?<=[\s,;]))\(?([{LETTERS}])[.:)]\s+", re.MULTILINE)
MARKED = re.compile(r"object (?:at|in|under) the \w+ (?:point|box|mask)")
COLOURED = re.compile(rf"\b(?:{'|'.join(COLOURS)}) \w+")
UNITS = re.compile("|".join(sorted(units.NAMES.values(), key=len, reverse=True)))


@dataclass(frozen=True)
class Asked:
    """A question and where it stands."""

    qa: QA
    split: str
    clip: int  # row of the scenes and geom sets of the same split


def read(path: str | Path, split: str | None = None) -> list[Asked]:
    """All questions of a split, or of all splits, in order. UserError for a folder or split that is not there, or that holds none."""
    found = []
    for name in [split] if split else sets.splits(path):
        source = sets.source(path, "qa", name)
        for start in range(0, len(source), 1024):
            for record in source.__getitems__(list(range(start, min(start + 1024, len(source))))):
                qa = with_options(QA.from_dict(json.loads(record["json"])))
                found.append(Asked(qa, name, int(record["scene_row"])))
    if not found:
        raise UserError(f"data {str(path)!r}: no question in {f'split {split!r}' if split else 'any split'}")
    return found


def with_options(qa: QA) -> QA:
    """A choice whose options stand in its question, as published records have them ("… A. left B. right"), with the two apart; any other
    question, and one whose letters are not A, B, … up to at least the answer's, as it is."""
    if qa.answer_type != "choice" or qa.options is not None:
        return qa
    found = list(OPTION.finditer(qa.question))
    found = found[max((i for i, m in enumerate(found) if m[1] == "A"), default=0) :]
    letters = "".join(m[1] for m in found)
    if len(letters) < 2 or letters != LETTERS[: len(letters)] or qa.answer not in letters:
        return qa
    ends = [m.start() for m in found[1:]] + [len(qa.question)]
    options = tuple(qa.question[m.end() : end].strip(" \n,;") for m, end in zip(found, ends, strict=True))
    question = re.sub(r"\s*Options:?\s*$", "", qa.question[: found[0].start()]).strip()
    return dataclasses.replace(qa, question=question, options=options)


def kind(phrase: str) -> str:
    """A phrase without article and colour: "the red mug" -> "mug"."""
    return " ".join(word for word in phrase.lower().split() if word not in COLOURS and word not in ("a", "an", "the"))


def objects(qa: QA) -> list[str]:
    """Phrases of the objects that the question is about."""
    return qa.semantic.split(", ") if qa.semantic else []


def template(qa: QA) -> str:
    """The question with … for objects and units and # for numbers."""
    text = MARKED.sub("…", qa.question.lower())
    for phrase in sorted(objects(qa), key=len, reverse=True):
        text = text.replace(phrase.lower(), "…")
    text = UNITS.sub("…", COLOURED.sub("…", text))
    return re.sub(r"\d+(?:\.\d+)?", "#", text)
