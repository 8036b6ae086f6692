"""The race runs the commands that a user runs; the peers that fail are scripts of the test."""

from __future__ import annotations

import json
import math
import re

import numpy as np
import pytest

from sv_jax.bench import race as racing
from sv_jax.bench.cases import CASES, PEERS, Work, sizes
from sv_jax.cli import main
from sv_jax.errors import UserError

PEER = """
import json, sys
print("a line of a library")
print(json.dumps({{"ready": True}}), flush=True)
line = {{"case": "dinov3", "config": "tiny", "dtype": "fp32", "tokens_per_call": {tokens}, "seconds_per_call": 2.0}}
for _ in sys.stdin:
    print(json.dumps(line), flush=True)
"""


@pytest.fixture
def peer(tmp_path, monkeypatch):
    """Puts a script in the peer's place."""

    def put(text):
        (tmp_path / "dinov3.py").write_text(text)
        monkeypatch.setattr(racing, "PEERS", tmp_path)

    return put


def test_both_sides_do_the_same_work_in_turn(capsys):
    assert main(["bench", "--suite", "models", "--config", "tiny", "--dtype", "fp32", "--rounds", "2", "--json"]) == 0
    races = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [race["case"] for race in races] == list(CASES)
    for race in races:
        assert len(race["ours"]) == len(race["peer"]) == 2 and min(race["ours"] + race["peer"]) > 0
        assert race["ratio_min"] <= race["ratio"] * 1.000001 and math.isfinite(race["ratio_max"])


def test_the_ratio_is_the_peers_time_over_ours(peer):
    peer(PEER.format(tokens=784))
    race = racing.race("dinov3", "tiny", "fp32", 3)
    assert race.peer == [2.0] * 3 and race.ratio == pytest.approx(2.0 / sorted(race.ours)[1])
    assert "dinov3" in race.as_row() and f"{race.ratio:.2f}" in race.as_row()


@pytest.mark.parametrize(
    "text, message",
    [
        (PEER.format(tokens=785), "dinov3: not the same work: tokens_per_call is 784 for ours and 785 for the peer"),
        ("raise SystemExit(3)", "peer ended with code 3 before it answered"),
    ],
    ids=["other work", "ends"],
)
def test_a_race_without_a_result_says_why(peer, text, message):
    peer(text)
    with pytest.raises(UserError, match=message):
        racing.race("dinov3", "tiny", "fp32", 1)


def test_every_case_has_its_peer_and_its_work_is_finite():
    for name, make in CASES.items():
        assert (PEERS / f"{name}.py").is_file()
        work = make(sizes("tiny"), "float32")
        assert isinstance(work, Work) and np.isfinite(work.call()).all()


@pytest.mark.parametrize(
    "argv, message",
    [
        ([], "give either --suite or --case"),
        (["--suite", "models", "--case", "vision"], "give either --suite or --case"),
        (["--suite", "modles"], "--suite 'modles' is not one of data, models; did you mean 'models'"),
        (["--case", "visoin"], "--case 'visoin' is not .*'vision'"),
        (["--suite", "models", "--rounds", "0"], "--rounds 0: expected at least 1"),
        (["--case", "vision", "--dtype", "fp16"], "--dtype 'fp16' is not one of bf16, fp32"),
        (["--case", "vision", "--config", "smal"], "--config 'smal' is not .*'small'"),
    ],
)
def test_a_wrong_option_is_one_line(capsys, argv, message):
    assert main(["bench", *argv]) == 2
    error = capsys.readouterr().err
    assert re.search(message, error) and error.count("\n") == 1, error
