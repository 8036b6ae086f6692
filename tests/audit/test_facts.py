"""Counts and balance of questions made by hand."""

from __future__ import annotations

import pytest

from sv_jax.audit.facts import facts, option_numbers
from sv_jax.audit.questions import Asked, template, with_options
from sv_jax.tasks import QA


def choice(
    answer: str, options: tuple[str, ...], question: str = "Which is taller?", clip: int = 0, split: str = "train", **fields
) -> Asked:
    fields = {"task": "size_comparison", "scale": "tiny", "scene_id": f"s{clip}", **fields}
    return Asked(QA("", question=question, answer=answer, answer_type="choice", options=options, **fields), split, clip)


def number(answer: str, unit: str | None = "cm", clip: int = 0, **fields) -> Asked:
    fields = {"task": "depth", "scale": "indoor", "question": "How far is the red mug, in centimetres?", "semantic": "red mug", **fields}
    return Asked(QA("", f"s{clip}", answer=answer, answer_type="number", unit=unit, **fields), "train", clip)


def test_counts_by_task_scale_split_and_answer_type():
    found = facts([choice("A", ("x", "y")), choice("A", ("x", "y"), split="eval", scale="drone"), number("5"), number("50", clip=1)])
    assert found["splits"] == {"eval": {"scenes": 1, "questions": 1}, "train": {"scenes": 2, "questions": 3}}
    assert found["scenes_in_several_splits"] == 1
    assert found["answer_types"] == {"choice": 2, "number": 2}
    assert found["tasks"]["size_comparison"]["scales"] == {"tiny": 1, "drone": 1}
    assert found["tasks"]["depth"]["units"] == {"cm": 2}


def test_letters_yes_and_the_place_of_the_truth_among_numbers():
    asked = [choice(a, ("x", "y", "z"), clip=i) for i, a in enumerate("AAAB")]
    asked += [choice("B", ("No", "Yes")), choice("A", ("Yes", "No")), choice("B", ("Yes", "No")), choice("A", ("yes", "no"), clip=1)]
    asked += [choice("B", ("9 cm", "4.5 cm", "10 cm")), choice("C", ("9 cm", "4.5 cm", "10 cm"), clip=1)]
    found = facts(asked)["tasks"]["size_comparison"]["choices"]
    assert found["options"] == {2: 4, 3: 6}
    assert found["letters"] == {2: {"A": 0.5, "B": 0.5}, 3: {"A": 3 / 6, "B": 2 / 6, "C": 1 / 6}}
    assert found["yes"] == {"questions": 4, "share": 0.75}
    assert found["sorted_place"] == {3: [0.5, 0.0, 0.5]}


def test_numbers_by_scale_in_decades_and_shares_of_counts():
    asked = [number(str(10 ** (i / 100)), clip=i) for i in range(101)]
    asked += [number(a, None, clip=i, task="counting", question="How many mugs?") for i, a in enumerate(("2", "2", "2", "4"))]
    tasks = facts(asked)["tasks"]
    spread = tasks["depth"]["numbers"]["indoor"]
    assert (spread["least"], spread["most"]) == (1, 10) and spread["decades"] == pytest.approx(0.9) and spread["values"] is None
    counted = tasks["counting"]["numbers"]["indoor"]
    assert counted["values"] == {2: 0.75, 3: 0, 4: 0.25}
    assert counted["constant"]["mra"] == pytest.approx(0.75 + 0.25 * 0.1)  # 2 is just half of 4, which the lowest of ten thresholds takes


def test_repeats_are_the_same_question_of_the_same_clip():
    twice = [number("5"), number("5"), number("6"), number("5", clip=1)]
    found = facts(twice)["duplicates"]
    assert found == {"same_question_and_answer": 0.25, "same_task_and_objects": 0.5}
    marked = [{"kind": "point", "xy": (x, 1)} for x in (1, 2)]
    assert facts([number("5", marks=(mark,)) for mark in marked])["duplicates"]["same_question_and_answer"] == 0


def test_a_template_is_the_question_without_objects_units_and_numbers():
    asked = [
        number("1", question=f"In {unit}, how far is {name} in frame {n}?", semantic=phrase)
        for unit, name, n, phrase in (
            ("centimetres", "the red mug", 2, "red mug"),
            ("metres", "the office chair", 13, "office chair"),
            ("metres", "the object in the blue box", 3, "red mug"),
        )
    ]
    assert {template(a.qa) for a in asked} == {"in …, how far is the … in frame #?"}
    assert facts(asked)["tasks"]["depth"]["wordings"] == 3 and facts(asked)["tasks"]["depth"]["templates"] == 1


@pytest.mark.parametrize("options", [("2 m", "30 cm"), ("red", "2"), (), ("2 to 3", "3 to 4")])
def test_options_that_differ_by_more_than_a_number_are_no_numbers(options):
    assert option_numbers(options) is None


@pytest.mark.parametrize(
    "text",
    [
        "Which way?\nOptions:\nA. to the left\nB. 2.5 m up\nC. back",
        "Which way? A: to the left, B: 2.5 m up, C: back",
        "Which way? (A) to the left (B) 2.5 m up (C) back",
    ],
)
def test_options_that_stand_in_the_question_are_read_from_it(text):
    qa = with_options(QA("", "s", "t", "tiny", text, "C", "choice"))
    assert qa.question == "Which way?" and qa.options == ("to the left", "2.5 m up", "back")


@pytest.mark.parametrize("text, answer", [("Which way? A. left B. right", "C"), ("Which of A. and C. is near?", "A"), ("Which?", "A")])
def test_a_question_without_readable_options_stays_as_it_is(text, answer):
    qa = QA("", "s", "t", "tiny", text, answer, "choice")
    assert with_options(qa) is qa
