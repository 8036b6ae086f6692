from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sv_jax.rewards import parsing

TAGS = st.sampled_from(
    ["<answer>", "</answer>", "<\\answer>", "<think>", "</think>", "<scale>", "</scale>", "10 cm", "1e999", "B", "\ud800"]
)
MODEL_TEXT = st.one_of(st.text(max_size=200), st.lists(st.one_of(TAGS, st.text(max_size=5)), max_size=30).map("".join))


@pytest.mark.parametrize(
    ("text", "name", "inside"),
    [
        ("<answer> B </answer>", "answer", "B"),
        ("<think>x</think><answer>B<\\answer>", "answer", "B"),
        ("<semantics>red mug</semantics>", "semantic", "red mug"),
        ("<semantic>red\nmug</semantics>", "semantic", "red\nmug"),
        ("<think>so <scale>10 cm level</scale></think>", "scale", "10 cm level"),
        ("<ANSWER>B</Answer>", "answer", "B"),
        ("<answer><answer>B</answer></answer>", "answer", "B"),
        ("</answer> <answer>A</answer> <answer>B</answer>", "answer", "A"),
        ("<answer></answer>", "answer", ""),
        ("<answer>B", "answer", None),
        ("B", "answer", None),
    ],
)
def test_tag(text, name, inside):
    assert parsing.tag(text, name) == inside


def test_answer_after_the_reasoning_wins_over_one_inside_it():
    assert parsing.answer_span("<think><answer>A</answer></think><answer>B</answer>") == "B"
    assert parsing.answer_span("<think><answer>A</answer></think>") == "A"


def test_lenient_answer_needs_no_tag():
    assert parsing.answer_span("<think>hm</think> B") is None
    assert parsing.answer_span("<think>hm</think> B", lenient=True) == "B"
    assert parsing.answer_span("<think>hm</think><answer>2.5 m", lenient=True) == "2.5 m"
    assert parsing.answer_span("C", lenient=True) == "C"


@pytest.mark.parametrize(
    ("text", "value", "unit"),
    [
        ("18.4", 18.4, None),
        ("about 1,250.5 cm", 1250.5, "cm"),
        ("-3 m", -3.0, "m"),
        ("\u22123 metres", -3.0, "metre"),
        (".5 km", 0.5, "km"),
        ("3e2mm", 300.0, "mm"),
        ("3-5", 3.0, None),
        ("1,23", 1.0, None),
        ("two chairs", 2.0, None),
        ("4 chairs", 4.0, None),
        ("12 m²", 12.0, "m²"),
        ("12 cm^2", 12.0, "cm^2"),
        ("90°", 90.0, "°"),
        ("6 inches", 6.0, "inch"),
    ],
)
def test_quantity(text, value, unit):
    assert parsing.quantity(text) == (value, unit)


@pytest.mark.parametrize("text", ["", "none", "nan", "inf", "1e999", "9" * 400, "\u0663", "B2"])
def test_what_is_not_a_finite_number_is_none(text):
    assert parsing.quantity(text) is None


def test_a_number_is_brought_to_the_unit_of_the_question():
    assert parsing.number("250 cm", "m") == pytest.approx(2.5)
    assert parsing.number("2.5", "m") == 2.5
    assert parsing.number("2.5 meters", "m") == 2.5
    assert parsing.number("5 kg", "m") == 5.0
    assert parsing.number("3 mugs") == 3.0


@pytest.mark.parametrize(
    ("text", "length"),
    [("10 cm level", 0.1), ("1 km level", 1000.0), ("100 µm", 1e-4), ("10 level", None), ("0 m", None), ("-1 m", None), ("5 m²", None)],
)
def test_metres(text, length):
    assert parsing.metres(text) == (None if length is None else pytest.approx(length))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("B", "B"), ("b", "B"), ("(B)", "B"), ("**B**", "B"), ("B. blue mug", "B"), ("option B", "B"), ("The answer is (B).", "B"),
        ("blue mug", "B"), ("Blue mug.", "B"), ("It must be B because it is nearer", "B"),
        ("A or B", None), ("E", None), ("", None), ("nothing", None),
    ],
)  # fmt: skip
def test_letter(text, found):
    assert parsing.letter(text, ("red mug", "blue mug", "green mug", "plate")) == found


@given(MODEL_TEXT)
def test_parsers_never_raise(text):
    for name in ("answer", "scale", "semantic", "think"):
        parsing.tag(text, name)
    parsing.answer_span(text)
    assert isinstance(parsing.answer_span(text, lenient=True), str)
    parsing.number(text, "m")
    parsing.metres(text)
    parsing.letter(text, ("x", "y"))
