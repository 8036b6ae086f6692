from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sv_jax.evals.scoring import ours
from sv_jax.tasks.qa import QA

COMMON = {"id": "q", "scene_id": "s", "task": "depth", "scale": "indoor", "question": "?"}
CHOICE = QA(**COMMON, answer="B", answer_type="choice", options=("red chair", "blue lamp"))
NUMBER = QA(**COMMON, answer="2.5", answer_type="number", unit="m", answer_si=2.5)
COUNT = QA(**COMMON, answer="3", answer_type="number")
TEXT = QA(**COMMON, answer="left of the lamp", answer_type="text")

TAGS = st.sampled_from(
    ["<answer>", "</answer>", "<\\answer>", "<think>", "</think>", "<scale>", "</scale>", "10 cm", "1e999", "B", "\ud800"]
)
MODEL_TEXT = st.one_of(st.text(max_size=200), st.lists(st.one_of(TAGS, st.text(max_size=5)), max_size=30).map("".join))


@pytest.mark.parametrize("text", ["B", "<think>A?</think><answer>B</answer>", "(b)", "The answer is B.", "<answer>Blue lamp<\\answer>"])
def test_choice_right(text):
    assert ours(text, CHOICE) == 1.0


@pytest.mark.parametrize("text", ["A", "", "C", "A or B", "<think>B</think><answer>A</answer>"])
def test_choice_wrong(text):
    assert ours(text, CHOICE) == 0.0


@pytest.mark.parametrize(
    ("text", "score"), [("2.5", 1.0), ("It is 250 cm.", 1.0), ("<answer>2.25</answer> m", 0.9), ("2500 m", 0.0), ("far", 0.0), ("nan", 0.0)]
)
def test_number_by_mra_in_the_unit_of_the_question(text, score):
    assert ours(text, NUMBER) == pytest.approx(score)


def test_count_in_words():
    assert ours("There are three mugs", COUNT) == 1.0


def test_text_by_its_words():
    assert ours("Left of the lamp!", TEXT) == 1.0
    assert ours("right of the lamp", TEXT) == 0.0


@given(MODEL_TEXT)
def test_never_raises(text):
    for qa in (CHOICE, NUMBER, COUNT, TEXT):
        assert 0.0 <= ours(text, qa) <= 1.0
