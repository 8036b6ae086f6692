"""The command line says what it can do, and one line about what it cannot."""

from __future__ import annotations

import json
from dataclasses import dataclass

import pytest

from sv_jax import cli, verbs
from sv_jax.errors import UserError
from sv_jax.verbs import VERBS


@dataclass(frozen=True)
class Config:
    out: str
    steps: int = 3


@pytest.fixture
def ran(monkeypatch) -> list:
    """A verb `try it`, with a config and an option, that only notes what it was called with."""
    calls = []
    monkeypatch.setitem(
        VERBS,
        "try it",
        verbs.Verb(
            "a trial",
            "  sv-jax try it",
            lambda args: calls.append((args.config, args.resume)),
            lambda parser: parser.add_argument("--resume", action="store_true"),
            lambda: Config,
        ),
    )
    return calls


def error(capsys, *argv: str) -> str:
    """Run a command that must fail: the one line it leaves on stderr."""
    assert cli.main(argv) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and err.startswith("sv-jax: error: ")
    return err.strip().removeprefix("sv-jax: error: ")


def test_help_names_every_verb(capsys):
    assert cli.main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(f"  {name} " in shown and verb.summary in shown for name, verb in VERBS.items())


@pytest.mark.parametrize("name", ["demo", "init", "ask", "data build", "export"])
def test_the_help_of_a_verb_teaches_by_example(name, capsys):
    with pytest.raises(SystemExit) as end:
        cli.main([*name.split(), "--help"])
    assert end.value.code == 0
    shown = capsys.readouterr().out
    assert VERBS[name].teach in shown and f"sv-jax {name}" in shown


def test_the_help_of_a_verb_with_a_config_lists_its_fields(ran, capsys):
    with pytest.raises(SystemExit):
        cli.main(["try", "it", "--help"])
    assert "  out: text [required]\n  steps: an integer [3]\n" in capsys.readouterr().out


def test_config_file_and_dotted_names_reach_the_verb(ran, tmp_path):
    (tmp_path / "c.yaml").write_text("out: here\nsteps: 5")
    assert cli.main(["try", "it", "--config", str(tmp_path / "c.yaml"), "--steps", "7", "--resume"]) == 0
    assert cli.main(["try", "it", "--out=there"]) == 0
    assert ran == [(Config("here", 7), True), (Config("there", 3), False)]


def test_mistakes_are_one_line_with_the_nearest_right_name(ran, capsys):
    assert error(capsys, "exprot").endswith("did you mean 'export'?")
    assert "verb 'data' is not one of" in error(capsys, "data")
    assert error(capsys, "try", "it", "--stepz", "3").endswith("did you mean 'steps'?")
    assert error(capsys, "try", "it").startswith("config key 'out' is missing")
    assert "does not exist" in error(capsys, "try", "it", "--config", "/nowhere/absent.yaml")
    assert error(capsys, "ask", "why?", "--modle", "M").endswith("are required: --model (see sv-jax ask --help)")
    assert error(capsys, "ask", "why?", "--model", "M", "--vidoe", "v.mp4").endswith("did you mean '--video'?")
    assert error(capsys, "ask", "--model", "M", "how", "tall").startswith("unexpected argument 'tall'")
    assert "invalid int value: 'few'" in error(capsys, "ask", "--model", "M", "why?", "--seed", "few")
    assert not ran


def test_debug_shows_the_traceback():
    with pytest.raises(UserError):
        cli.main(["exprot", "--debug"])


def question(*argv: str) -> list[dict]:
    parser = cli._parser("ask", VERBS["ask"])
    return verbs._question(parser.parse_args(["--model", "M", *argv]))


def test_marks_are_named_in_the_question_and_drawn_on_the_first_picture():
    video, image, text = question(
        "How wide?", "--video", "v.mp4", "--image", "i.png", "--box", "1,2,3.5,4", "--point", "5,6", "--mask", "m.png"
    )
    assert video == {
        "type": "video",
        "video": "v.mp4",
        "marks": [{"kind": "point", "xy": (5.0, 6.0)}, {"kind": "box", "xyxy": (1.0, 2.0, 3.5, 4.0)}, {"kind": "mask", "mask": "m.png"}],
    }
    assert image == {"type": "image", "image": "i.png"}
    assert text["text"] == "Look at the red point and the blue box and the green mask.\nHow wide?"
    assert question("How wide?") == [{"type": "text", "text": "How wide?"}]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([" "], "question: empty"),
        (["why?", "--video", "v", "--point", "3"], "--point: expected 2 numbers with commas between, found '3'"),
        (["why?", "--video", "v", "--box", "1,2,3,x"], "--box: expected 4 numbers"),
        (["why?", "--point", "1,2"], "need a picture"),
    ],
)
def test_a_wrong_question_is_refused_before_anything_is_loaded(argv, message):
    with pytest.raises(UserError, match=message):
        question(*argv)


def test_ask_json_is_one_object(monkeypatch, capsys):
    from sv_jax import api

    class Model:
        def generate(self, messages, max_new_tokens, temperature, scale, stream, *, seed):
            assert (max_new_tokens, temperature, scale, stream, seed) == (256, 0.0, "indoor", None, 0)
            return api.Generation("2", [17], [-0.5], {"mean": {"indoor": 1.0}})

    monkeypatch.setattr(api, "load", lambda name: Model())
    assert cli.main(["ask", "--model", "M", "why?", "--scale", "indoor", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"text": "2", "token_ids": [17], "logprobs": [-0.5], "router": {"mean": {"indoor": 1.0}}}
