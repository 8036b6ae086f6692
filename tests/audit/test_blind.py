"""Probes on texts made by hand: what can be guessed is flagged, what cannot is not."""

from __future__ import annotations

import numpy as np
import pytest

from sv_jax.audit.blind import blind
from sv_jax.tasks import QA
from sv_jax.tasks.qa import LETTERS

KINDS = ("mug", "bowl", "can", "teapot", "book", "lamp")
SCENES, EACH = 200, 4


def scene(i: int) -> tuple[str, np.random.Generator]:
    return f"scene{i:03d}", np.random.default_rng(i)


def choices(pick) -> list[QA]:
    """Two options a question; `pick(rng, id, question, options)` says which of them is right."""
    out = []
    for i in range(SCENES):
        id, rng = scene(i)
        for _ in range(EACH):
            question = f"Which is {rng.choice(['taller', 'shorter'])}?"
            options = tuple(f"the {kind}" for kind in rng.permutation(KINDS)[:2])
            out.append(QA("", id, "t", "tiny", question, LETTERS[pick(rng, id, question, options)], "choice", options))
    return out


def numbers(make, task: str = "n") -> list[QA]:
    """One unit; `make(rng, kind)` is the number asked for."""
    out = []
    for i in range(SCENES):
        id, rng = scene(i)
        kind = str(rng.choice(KINDS))
        answer = f"{make(rng, kind):.2f}"
        out.append(QA("", id, task, "tiny", f"How tall is the red {kind}?", answer, "number", unit="cm", semantic=f"red {kind}"))
    return out


def coin(rng, *_) -> int:
    return int(rng.integers(2))


def test_a_fair_set_is_not_flagged():
    found = blind(choices(coin))["t"]["choice"]
    assert found["questions"] == SCENES * EACH and found["baseline"] == 0.5
    assert found["standard_error"] == pytest.approx(np.sqrt(0.25 / (SCENES * EACH)))
    assert found["flag"] is None


LEAKS = {
    "majority": lambda rng, id, question, options: int(rng.random() > 0.65),
    "words": lambda rng, id, question, options: 0 if "taller" in question else 1,
    "options": lambda rng, id, question, options: int(
        (KINDS.index(options[0][4:]) < KINDS.index(options[1][4:])) == ("taller" in question)
    ),
    "class prior": lambda rng, id, question, options: int(KINDS.index(options[0][4:]) < KINDS.index(options[1][4:])),
}


@pytest.mark.parametrize("probe", LEAKS)
def test_each_probe_finds_its_leak(probe):
    found = blind(choices(LEAKS[probe]))["t"]["choice"]
    assert found["flag"] == "leak" and found["probes"][probe] >= (0.6 if probe == "majority" else 0.8), found


def test_chance_is_of_each_question_and_a_few_lucky_ones_prove_nothing():
    asked = choices(lambda *_: 0)[:20:2]
    wide = [QA("", qa.scene_id, "t", "tiny", "Which?", "A", "choice", ("a", "b", "c", "d")) for qa in asked]
    assert blind([*asked, *wide])["t"]["choice"]["baseline"] == pytest.approx(0.375)
    lucky = [QA("", f"s{i}", "t", "tiny", "Which?", letter, "choice", ("x", "x")) for i, letter in enumerate("AABAAB")]
    assert blind(lucky)["t"]["choice"]["flag"] in ("maybe", None)


def test_what_only_the_same_scene_tells_is_not_found():
    """Each scene has a word of its own and one letter: only a probe that saw other questions of the scene could know."""
    letters = {scene(i)[0]: LETTERS[coin(np.random.default_rng(i))] for i in range(SCENES)}
    asked = [
        QA("", id, "t", "tiny", f"Which in {id}?", letter, "choice", ("x", "y")) for id, letter in letters.items() for _ in range(EACH)
    ]
    assert max(blind(asked)["t"]["choice"]["probes"].values()) < 0.65


def test_numbers_are_held_against_the_best_constant():
    size = {kind: 2.0**i for i, kind in enumerate(KINDS)}
    leaky = numbers(lambda rng, kind: size[kind] * rng.uniform(0.95, 1.05))
    found = blind([*leaky, *numbers(lambda rng, kind: 10 ** rng.uniform(0, 1), "fair")])
    assert found["n"]["number"]["flag"] == "leak"
    assert min(found["n"]["number"]["probes"][name] for name in ("words", "class prior")) > 0.8
    fair = found["fair"]["number"]
    assert fair["flag"] != "leak" and fair["baseline"] == fair["probes"]["constant"] == pytest.approx(0.26, abs=0.06)


def test_a_task_of_a_single_scene_is_left_out():
    assert blind([QA("", "one", "t", "tiny", "Which?", "A", "choice", ("x", "y"))] * 5) == {}
