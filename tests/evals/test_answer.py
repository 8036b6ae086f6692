"""Scores by cell, the best constant answer against brute force, and batched answers against one prompt at a time."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from sv_jax.api import Model
from sv_jax.data.batches import ShapeConfig, messages_of
from sv_jax.errors import UserError
from sv_jax.evals.answer import answer, best_constants, by_task_and_scale, mean
from sv_jax.evals.scoring import ours
from sv_jax.inputs.chat import Processor
from sv_jax.tasks.qa import QA
from sv_jax.weights import load_model

MUG = {"scene_id": "s", "question": "How tall is the red mug?"}


def number(answer: float, scale: str = "indoor", task: str = "depth", unit: str | None = "m") -> QA:
    return QA("q", task=task, scale=scale, answer=f"{answer:g}", answer_type="number", unit=unit, **MUG)


def choice(answer: str, options: int = 2, scale: str = "indoor") -> QA:
    return QA("q", task="size", scale=scale, answer=answer, answer_type="choice", options=("mug", "box", "lamp", "die")[:options], **MUG)


def test_scores_are_averaged_by_task_and_scale_in_the_order_of_the_scales():
    pairs = [(number(1, "drone"), 1.0), (number(1, "tiny"), 0.5), (number(1, "drone"), 0.0), (choice("A"), 0.25)]
    table = by_task_and_scale(pairs)
    assert table == {"depth": {"tiny": 0.5, "drone": 0.5, "all": 0.5}, "size": {"indoor": 0.25, "all": 0.25}}
    assert list(table["depth"]) == ["tiny", "drone", "all"]


def test_the_mean_weighs_tasks_and_their_scales_equally():
    assert mean({"a": {"tiny": 1.0, "drone": 0.5, "all": 0.0}, "b": {"indoor": 0.25, "all": 0.9}}) == pytest.approx((0.75 + 0.25) / 2)


@pytest.mark.parametrize(("count", "spread"), [(1, 1.0), (2, 0.1), (2, 1.0), (3, 0.5), (8, 0.1), (8, 1.0), (60, 0.5)])
def test_no_number_on_a_dense_grid_beats_the_best_constant(count, spread):
    rng = np.random.default_rng(count)
    values = np.array([float(f"{v:.2g}") for v in 30 * np.exp(spread * rng.normal(size=count))])
    best = best_constants([number(v) for v in values])["depth"]["indoor"]
    errors = np.abs(np.geomspace(values.min() / 2, values.max() * 2, 4000)[:, None] - values) / values
    grid = (errors[..., None] <= 1 - np.linspace(0.5, 0.95, 10)).mean((1, 2)).max()
    assert grid - 0.01 <= best <= 1.0
    assert best >= np.mean([ours(f"{np.median(values):g}", number(v)) for v in values])


def test_a_guess_between_the_answers_may_beat_them_all():
    assert (
        best_constants([number(100), number(140)])["depth"]["indoor"]
        > max(ours(g, number(100)) + ours(g, number(140)) for g in ("100", "140")) / 2
    )


def test_zero_is_an_answer_like_any_other():
    assert best_constants([number(v, unit=None) for v in (0, 0, 3)])["depth"]["indoor"] == pytest.approx(2 / 3)


def test_the_constant_of_a_choice_is_its_most_frequent_letter():
    qas = [choice(c) for c in "AABAB"] + [choice(c, 4, "drone") for c in "DDDC"]
    assert best_constants(qas) == {"size": {"indoor": 0.6, "drone": 0.75, "all": pytest.approx(3 / 9)}}


def test_a_task_may_ask_for_numbers_letters_and_words():
    text = QA("q", task="depth", scale="indoor", answer="left", answer_type="text", **MUG)
    letter = dataclasses.replace(choice("B"), task="depth")
    assert best_constants([number(3), text, text, letter])["depth"]["indoor"] == 0.5
    assert best_constants([text, letter, letter])["depth"]["indoor"] == pytest.approx(2 / 3)


def samples() -> list[dict]:
    rng = np.random.default_rng(0)
    qas = [
        number(12),
        dataclasses.replace(choice("B"), question="Which is higher?"),
        number(3, "drone"),
        dataclasses.replace(number(4, "tiny"), question="How far is it?", marks=({"kind": "box", "frame": 0, "xyxy": (3, 3, 40, 50)},)),
    ]
    return [{"qa": qa, "frames": rng.integers(0, 256, (2, 56, 56, 3), np.uint8), "fps": 2.0} for qa in qas]


SHAPE = ShapeConfig(rows=3, length=128, patches=96, slice_patches=32)


@pytest.fixture(scope="module")
def tiny(tiny_folder) -> Model:
    return Model(load_model(tiny_folder), Processor.from_folder(tiny_folder), tiny_folder, "float32")


def test_answers_of_padded_batches_are_those_of_each_prompt_alone(tiny):
    done = []
    answers = answer(tiny.module, tiny.processor, iter(samples()), SHAPE, 6, tick=done.append)
    assert [a.qa for a in answers] == [s["qa"] for s in samples()] and done == [3, 4]
    assert len({a.text for a in answers}) > 1
    for got, sample in zip(answers, samples(), strict=True):
        alone = tiny.generate(messages_of(sample), max_new_tokens=6)
        assert got.text == alone.text and got.score == ours(alone.text, sample["qa"])
        assert got.router == pytest.approx(alone.router["mean"], abs=1e-5)


def test_a_prompt_that_does_not_fit_is_refused(tiny):
    with pytest.raises(UserError, match="prompt of .* tokens does not fit a row of 32"):
        answer(tiny.module, tiny.processor, samples(), dataclasses.replace(SHAPE, length=32), 6)
