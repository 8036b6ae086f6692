from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from sv_jax.errors import UserError
from sv_jax.inputs.marks import load_mask
from sv_jax.rewards import parsing
from sv_jax.scenes.scene import SCALES
from sv_jax.tasks import TASKS, ask, describe
from sv_jax.tasks.describe import pair, regions
from sv_jax.tasks.numbers import plural
from sv_jax.tasks.units import NAMES
from sv_jax.tasks.view import View


@pytest.fixture(scope="module")
def questions(scenes):
    return [qa for k, scene in enumerate(scenes) for qa in ask(scene, np.random.default_rng(k), 10)]


def test_same_scene_and_seed_give_the_same_questions(scenes):
    first, again = (ask(scenes[0], np.random.default_rng(3), 8) for _ in range(2))
    assert first == again
    assert first != ask(scenes[0], np.random.default_rng(4), 8)


def test_only_the_tasks_asked_for_and_no_more_than_n(scenes):
    asked = ask(scenes[0], np.random.default_rng(0), 3, ["depth"])
    assert 0 < len(asked) <= 3 and {qa.task for qa in asked} == {"depth"}
    with pytest.raises(UserError, match="task 'dept'.*did you mean 'depth'"):
        ask(scenes[0], np.random.default_rng(0), 3, ["dept"])


def test_ids_are_unique_and_no_question_comes_twice(questions):
    assert len({qa.id for qa in questions}) == len(questions)
    assert len({(qa.scene_id, qa.user_text(), str(qa.marks)) for qa in questions}) == len(questions)


def test_completion_parses_to_answer_and_anchors(questions):
    for qa in questions:
        text = qa.target_text()
        assert parsing.answer_span(text) == qa.answer
        assert parsing.tag(text, "semantic") == qa.semantic
        assert parsing.tag(text, "scale") == qa.scale_anchor
        if qa.answer_type == "number":
            assert re.fullmatch(r"\d+(\.\d+)?", qa.answer)
            assert qa.unit is None or NAMES[qa.unit] in qa.question
        else:
            assert qa.answer in "ABCD"[: len(qa.options)] and len(set(qa.options)) == len(qa.options)


def test_reasoning_says_what_the_description_says(scenes):
    for k, scene in enumerate(scenes):
        clauses = set(describe(scene).answer.rstrip(".").split(". ", 1)[1].split("; "))
        for qa in ask(scene, np.random.default_rng(k), 6, ["depth", "size_comparison"]):
            stated = re.sub(r"(?<=\w) \([AB]\)(?=:)", "", qa.reasoning.split("</scale> ")[1].rstrip(".")).split("; ")
            assert set(stated[: len(qa.semantic.split(", "))]) <= clauses


def test_reasoning_is_short(questions):
    assert max(len(re.findall(r"\w+|[^\w\s]", qa.reasoning)) for qa in questions) <= 100


def test_right_options_are_balanced(questions):
    letters = Counter(qa.answer for qa in questions if qa.answer_type == "choice" and len(qa.options) == 2)
    assert 0.35 < letters["A"] / letters.total() < 0.65
    named = [qa for qa in questions if qa.task != "counting"]
    marked = sum(bool(qa.marks) for qa in named) / len(named)
    assert 0.15 < marked < 0.7


def test_marks_lie_in_the_frame_on_their_object(scenes, questions):
    by_id = {scene.id: scene for scene in scenes}
    for qa in questions:
        scene = by_id[qa.scene_id]
        for mark, phrase in zip(qa.marks, (qa.semantic or "").split(", "), strict=False):
            if mark["kind"] == "box":
                x0, y0, x1, y1 = mark["xyxy"]
                height, width = scene.ids.shape[1:]
                assert 0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height
            elif mark["kind"] == "mask":
                (number,) = np.unique(scene.ids[mark["frame"]][load_mask(mark["mask"])])
                assert scene.objects[number - 1].phrase == phrase
            else:
                x, y = mark["xy"]
                assert scene.objects[scene.ids[mark["frame"]][int(y), int(x)] - 1].phrase == phrase


def test_description_lists_the_first_frame_from_left_to_right(scenes):
    for scene in scenes:
        qa = describe(scene)
        head, body = qa.answer.split(". ", 1)
        clauses = body.rstrip(".").split("; ")
        assert head == f"{len(clauses)} object{'s' * (len(clauses) > 1)}, {qa.scale_anchor}"
        stated = {clause.split(":")[0]: int(re.search(r": x (\d\d), ", clause)[1]) for clause in clauses}
        assert list(stated.values()) == sorted(stated.values())
        for number, thing in enumerate(scene.objects, 1):
            columns = np.flatnonzero((scene.ids[0] == number).any(0)) + 0.5
            if [o.phrase for o in scene.objects].count(thing.phrase) == 1 and thing.phrase in stated:
                assert abs(stated[thing.phrase] - 100 * (columns.min() + columns.max()) / 2 / scene.ids.shape[2]) <= 1
        assert qa.task == "description" and qa == describe(scene)


def test_regions_state_the_clauses_of_the_objects_in_the_order_in_which_they_are_called(scenes):
    kinds = set()
    for scene in scenes:
        qa = regions(View(scene))
        body, nearest, tallest = re.fullmatch(r"(.*)\. Nearest: (.*)\. Tallest: (.*)\.", qa.answer).groups()
        clauses = body.split("; ")
        assert set(clauses) <= _clauses(scene)
        measured = [re.fullmatch(r"(.*): x \d\d, (.*) away, (.*) tall", clause).groups() for clause in clauses]
        assert nearest == min((f"{m[0]}, {m[1]}" for m in measured), key=_metres)
        assert tallest == max((f"{m[0]}, {m[2]}" for m in measured), key=_metres)
        called = qa.question.removeprefix("Describe the ").rstrip(".").split(" and the ")
        phrases = [clause.split(":")[0] for clause in clauses]
        if qa.marks:
            assert called == [f"object {'at' if m['kind'] == 'point' else 'in'} the {m['color']} {m['kind']}" for m in qa.marks]
            called = [_phrase_under(mark, scene) for mark in qa.marks]
        assert called == phrases
        kinds.add((len(phrases), bool(qa.marks)))
    assert kinds == {(1, False), (1, True), (2, False), (2, True), (3, False)}


def test_pairs_state_both_and_which_stands_at_which_end(scenes):
    seen = set()
    for scene in scenes:
        qa = pair(View(scene))
        if qa is None:
            continue
        a, b, *orders = qa.answer.rstrip(".").split("; ")
        found = [re.fullmatch(r"(\w+ [\w ]+) \(([AB])\)(: .*)", clause).groups() for clause in (a, b)]
        assert [letter for _, letter, _ in found] == ["A", "B"] and {phrase + rest for phrase, _, rest in found} <= _clauses(scene)
        called = [_phrase_under(m, scene) for m in qa.marks] or [name.removeprefix("the ") for name in qa.options]
        assert called == [phrase for phrase, *_ in found]
        things = {thing.phrase: (number, thing) for number, thing in enumerate(scene.objects, 1)}
        measured = [_measure(scene, *things[phrase]) for phrase, *_ in found]
        for order in orders:
            low, at_low, high, at_high = re.fullmatch(r"(\w+): ([AB]), (\w+): ([AB])", order).groups()
            assert measured["AB".index(at_low)][low, high] < measured["AB".index(at_high)][low, high]
            seen.add((low, at_low))
    assert seen == {(low, letter) for low in ("left", "near", "short") for letter in "AB"}


def _metres(stated: str) -> float:
    value, unit = stated.split(", ")[1].split()
    return float(value) * {"mm": 0.001, "cm": 0.01, "m": 1.0}[unit]


def _clauses(scene) -> set[str]:
    return set(describe(scene).answer.rstrip(".").split(". ", 1)[1].split("; "))


def _measure(scene, number, thing) -> dict[tuple[str, str], float]:
    """What orders an object, from its pixels in the first frame and its size."""
    mask = scene.ids[0] == number
    columns = np.flatnonzero(mask.any(0))
    return {
        ("left", "right"): columns.min() + columns.max(),
        ("near", "far"): scene.depth[0][mask].min(),
        ("short", "tall"): thing.size[2],
    }


def _phrase_under(mark, scene):
    """The object at the point, or the one that fills the box but for two pixels on each side."""
    if mark["kind"] == "point":
        x, y = map(int, mark["xy"])
        return scene.objects[scene.ids[0][y, x] - 1].phrase
    inside = []
    for number, thing in enumerate(scene.objects, 1):
        rows, columns = np.nonzero(scene.ids[0] == number)
        edges = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]) - mark["xyxy"]
        if (np.abs(edges) <= 2).all():
            inside.append(thing.phrase)
    (phrase,) = inside
    return phrase


def test_level_does_not_depend_on_the_question(questions):
    by_scene = {}
    for qa in questions:
        if qa.scale_anchor is None:
            assert qa.task in ("view_change", "rotation", "object_matching", "appearance_order")
            continue
        assert by_scene.setdefault(qa.scene_id, qa.scale_anchor) == qa.scale_anchor


def test_objects_that_only_later_frames_show_give_nothing(scenes):
    ids = scenes[0].ids.copy()
    ids[0] = 0
    late = replace(scenes[0], ids=ids)
    assert describe(late) is None and ask(late, np.random.default_rng(0), 5) == []


def test_empty_scene_gives_nothing(scenes):
    empty = replace(scenes[0], ids=np.zeros_like(scenes[0].ids), objects=())
    assert describe(empty) is None and ask(empty, np.random.default_rng(0), 5) == []


def test_every_task_is_asked_at_every_scale(questions):
    asked = Counter((qa.task, qa.scale) for qa in questions)
    rare = {"object_matching", "route_plan", "obstacles", "area_estimation"}  # of few scenes or scales: see test_recompute.py
    rare |= {"room_size", "appearance_order", "spatial_relation", "manipulation_plan", "navigation"}  # of full worlds
    assert all(asked[task, scale] for task in set(TASKS) - rare for scale in SCALES)


def test_many_tasks_still_fill_the_number_of_questions(scenes):
    assert all(len(ask(scene, np.random.default_rng(0), 8)) == 8 for scene in scenes if len(scene.objects) > 3)


@pytest.mark.parametrize(
    "one, many", [("mug", "mugs"), ("battery", "batteries"), ("cereal box", "cereal boxes"), ("toy", "toys"), ("die", "dice")]
)
def test_plural(one, many):
    assert plural(one) == many
