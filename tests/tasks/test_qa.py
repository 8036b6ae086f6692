from __future__ import annotations

import json

import pytest

from sv_jax.errors import UserError
from sv_jax.tasks.qa import QA

MARK = {"kind": "box", "frame": 0, "xyxy": [1, 2, 30, 40], "color": "red"}
CHOICE = QA(
    id="s-q00", scene_id="s", task="size_comparison", scale="tabletop", question="Which is taller?", answer="B", answer_type="choice",
    options=("the red mug", "the blue book"), semantic="red mug, blue book", scale_anchor="10 cm level",
    reasoning="<semantic>red mug, blue book</semantic> <scale>10 cm level</scale> red mug: left.", marks=(MARK,),
)  # fmt: skip


def test_record_survives_json():
    assert QA.from_dict(json.loads(json.dumps(CHOICE.to_dict()))) == CHOICE


def test_texts_of_a_choice():
    assert CHOICE.user_text() == "Which is taller?\nOptions:\nA. the red mug\nB. the blue book"
    assert CHOICE.target_text() == f"<think>{CHOICE.reasoning}</think><answer>B</answer>"


def test_description_is_bare_text():
    qa = QA("d", "s", "description", "tiny", "Describe the scene.", "1 object, 1 cm level. red die: left.", "text")
    assert qa.user_text() == "Describe the scene." and qa.target_text() == qa.answer


def test_unknown_key_and_type_are_named():
    with pytest.raises(UserError, match="QA field 'anwser'.*did you mean 'answer'"):
        QA.from_dict({**CHOICE.to_dict(), "anwser": "B"})
    with pytest.raises(UserError, match="answer_type 'choise'.*did you mean 'choice'"):
        QA.from_dict({**CHOICE.to_dict(), "answer_type": "choise"})
    with pytest.raises(UserError, match="missing.*'scene_id'"):
        QA.from_dict({k: v for k, v in CHOICE.to_dict().items() if k != "scene_id"})
