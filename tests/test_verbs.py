"""`sv-jax ask` on a tiny model and a real film, in this process."""

from __future__ import annotations

import json

import pytest

import sv_jax
from sv_jax import cli

NEW, QUESTION = 6, "How tall is the tallest object in centimetres?"
MARKED = ("--point", "50,60", "--box", "300,200,700,600")


def ask(capsys, *argv: str) -> str:
    assert cli.main(["ask", *argv, "--max-new-tokens", str(NEW)]) == 0
    return capsys.readouterr().out


@pytest.fixture(scope="module")
def expected(tiny_folder, film):
    """What the Python surface answers to the same question; the marks are named in its text."""
    marks = [{"kind": "point", "xy": (50, 60)}, {"kind": "box", "xyxy": (300, 200, 700, 600)}]
    text = {"type": "text", "text": f"Look at the red point and the blue box.\n{QUESTION}"}
    content = [{"type": "video", "video": film, "marks": marks}, text]
    return sv_jax.load(tiny_folder).generate([{"role": "user", "content": content}], NEW)


def test_ask_json_holds_the_answer_its_logprobs_and_the_router(capsys, tiny_folder, film, expected):
    out = ask(capsys, "--model", str(tiny_folder), "--video", film, *MARKED, "--json", QUESTION)
    assert out.count("\n") == 1
    got = json.loads(out)
    assert list(got) == ["text", "token_ids", "logprobs", "router"]
    assert (got["text"], got["token_ids"]) == (expected.text, expected.token_ids) and len(got["token_ids"]) == NEW
    assert got["logprobs"] == pytest.approx(expected.logprobs) and all(p < 0 for p in got["logprobs"])
    assert set(got["router"]) == {"0", "1", "mean"}
    for weights in got["router"].values():
        assert list(weights) == ["tiny", "tabletop", "indoor", "outdoor"] and sum(weights.values()) == pytest.approx(1, abs=1e-5)


def test_ask_prints_the_answer_and_the_weight_of_each_scale(capsys, tiny_folder, film, expected):
    out = ask(capsys, "--model", str(tiny_folder), "--video", film, *MARKED, QUESTION)
    weights = "  ".join(f"{scale} {weight:.2f}" for scale, weight in expected.router["mean"].items())
    assert out == f"{expected.text}\nscale experts: {weights}\n"


def test_ask_with_a_scale_takes_that_expert_alone(capsys, tiny_folder, film, expected):
    out = ask(capsys, "--model", str(tiny_folder), "--video", film, *MARKED, "--scale", "outdoor", QUESTION)
    assert out.endswith("\nscale experts: tiny 0.00  tabletop 0.00  indoor 0.00  outdoor 1.00\n")
    assert not out.startswith(expected.text)
