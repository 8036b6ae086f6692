"""Counts and balance of a dataset's questions."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence

import numpy as np

from sv_jax.audit.questions import Asked, objects, template
from sv_jax.rewards.constant import best_constant
from sv_jax.scenes.scene import SCALES
from sv_jax.tasks import QA
from sv_jax.tasks.qa import LETTERS


def facts(asked: Sequence[Asked]) -> dict:
    """All counts, as JSON values; shares and rates are in [0, 1]."""
    splits = sorted({a.split for a in asked})
    scenes = {split: {a.qa.scene_id for a in asked if a.split == split} for split in splits}
    tasks = sorted({a.qa.task for a in asked})
    return {
        "splits": {s: {"scenes": len(scenes[s]), "questions": sum(a.split == s for a in asked)} for s in splits},
        "scenes_in_several_splits": sum(n > 1 for n in Counter(id for ids in scenes.values() for id in ids).values()),
        "answer_types": dict(Counter(a.qa.answer_type for a in asked)),
        "duplicates": _duplicates(asked),
        "tasks": {task: task_facts([a for a in asked if a.qa.task == task]) for task in tasks},
    }


def task_facts(asked: Sequence[Asked]) -> dict:
    """The same for the questions of one task."""
    qas = [a.qa for a in asked]
    choices = [qa for qa in qas if qa.answer_type == "choice"]
    numbers = [qa for qa in qas if qa.answer_type == "number"]
    return {
        "questions": len(qas),
        "scales": {scale: n for scale in SCALES if (n := sum(qa.scale == scale for qa in qas))},
        "answer_types": dict(Counter(qa.answer_type for qa in qas)),
        "units": dict(Counter(qa.unit for qa in numbers if qa.unit)),
        "wordings": len({qa.question for qa in qas}),
        "templates": len({template(qa) for qa in qas}),
        "duplicates": _duplicates(asked),
        **({"choices": choice_facts(choices)} if choices else {}),
        **({"numbers": {s: number_facts(cell) for s in SCALES if (cell := [qa for qa in numbers if qa.scale == s])}} if numbers else {}),
    }


def choice_facts(qas: Sequence[QA]) -> dict:
    """Of questions with options. `letters[n]` are the shares of A, B, … among those with n options; `yes` that of yes among yes/no
    questions; `sorted_place[n]` how often the truth is the smallest, the next, … where all n options are numbers."""
    letters, places, polar = {}, {}, []
    for qa in qas:
        options = qa.options or ()
        letters.setdefault(len(options), Counter())[qa.answer] += 1
        if {option.lower() for option in options} == {"yes", "no"}:
            polar.append(options[LETTERS.index(qa.answer)].lower() == "yes")
        if (values := option_numbers(options)) is not None:
            places.setdefault(len(options), Counter())[sorted(values).index(values[LETTERS.index(qa.answer)])] += 1
    return {
        "letters": {n: _shares(count, LETTERS[:n]) for n, count in sorted(letters.items())},
        "options": {n: count.total() for n, count in sorted(letters.items())},
        "yes": {"questions": len(polar), "share": float(np.mean(polar)) if polar else None},
        "sorted_place": {n: list(_shares(count, range(n)).values()) for n, count in sorted(places.items())},
    }


def number_facts(qas: Sequence[QA]) -> dict:
    """Of the numbers of one task and scale. `decades` is log10 of the 95th over the 5th percentile of those above 0; `values` the shares
    of each count, where there is no unit and all are whole."""
    values = np.array([float(qa.answer) for qa in qas])
    guess, score = best_constant(values)
    low, high = np.percentile(values[values > 0], (5, 95)) if (values > 0).any() else (1, 1)
    whole = all(qa.unit is None for qa in qas) and (values == np.round(values)).all()
    return {
        "questions": len(qas),
        "units": dict(Counter(qa.unit for qa in qas if qa.unit)),
        "least": float(values.min()),
        "median": float(np.median(values)),
        "most": float(values.max()),
        "decades": math.log10(high / low),
        "constant": {"answer": guess, "mra": score},
        "values": _shares(Counter(int(v) for v in values), range(int(values.min()), int(values.max()) + 1)) if whole else None,
    }


def option_numbers(options: Sequence[str]) -> list[float] | None:
    """The numbers of options that differ by them alone ("2.0 m", "3.5 m"), else None."""
    found = [re.fullmatch(r"(\D*?)(-?\d+(?:\.\d+)?)(\D*)", option) for option in options]
    if not found or not all(found) or len({(m[1], m[3]) for m in found}) > 1:
        return None
    return [float(m[2]) for m in found]


def _question(a: Asked) -> Hashable:
    qa = a.qa
    return a.split, a.clip, qa.user_text(), json.dumps(qa.marks, sort_keys=True), qa.answer


def _subject(a: Asked) -> Hashable:
    return a.split, a.clip, a.qa.task, tuple(sorted(objects(a.qa))), a.qa.frames


def _duplicates(asked: Sequence[Asked]) -> dict[str, float]:
    return {"same_question_and_answer": _repeats(map(_question, asked)), "same_task_and_objects": _repeats(map(_subject, asked))}


def _repeats(keys: Iterable[Hashable]) -> float:
    """The share that came before."""
    count = Counter(keys)
    return (count.total() - len(count)) / count.total()


def _shares(count: Counter, keys: Iterable) -> dict:
    return {key: count[key] / count.total() for key in keys}
