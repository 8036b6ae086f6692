"""Imports of faulty files: every fault counted and named with file and line, good records kept, `--strict` one line."""

from __future__ import annotations

import json
import shutil

import pytest

from sv_jax import cli
from sv_jax.data.published import ImportConfig, import_questions
from sv_jax.data.published.rows import read_rows
from sv_jax.data.read import open_split
from sv_jax.errors import UserError
from tests.data_engine.published.records import SCENES, frames_of, full, make_media

MUG = SCENES[0]
GOOD = [full(f"good{i}", MUG, "How far (in meters)?", "3", "Indoor", "DEPTH") for i in range(2)]


def bad(**changes) -> dict:
    record = full("bad", MUG, "How far (in meters)?", "3", "Indoor", "DEPTH") | changes
    return {key: value for key, value in record.items() if value is not None}


def metadata(**changes) -> dict:
    return GOOD[0]["metadata"] | changes


def asking(question: str, said: str = "<answer>3</answer>") -> list[dict]:
    return [{"role": "user", "content": question}, {"role": "assistant", "content": said}]


# what is wrong -> the kind it is counted as, a part of what is said, the record
CASES = {
    "task": ("unknown task", "did you mean 'counting'?", bad(metadata=metadata(original_type="COUNTIN"))),
    "no task": ("missing field", "no task", bad(metadata={"category": "Indoor"})),
    "unit of the question": ("unknown unit", "'furlongs'", bad(messages=asking("<video>How far (in furlongs)?"))),
    "unit of the metadata": ("unknown unit", "'parsec'", bad(metadata=metadata(scale="parsec"))),
    "scale": ("unknown scale", "did you mean 'Indoor'?", bad(metadata=metadata(category="Indor"))),
    "no scale": ("missing field", "give --scale", bad(metadata={"original_type": "DEPTH"})),
    "id twice": ("duplicate id", "'good0' stands at ", bad(id="good0")),
    "no id": ("missing field", "no 'id'", bad(id=None)),
    "no messages": ("missing field", "no 'messages'", bad(messages=None)),
    "messages of another type": ("wrong type", "'messages' is a str, expected a list", bad(messages="How far?")),
    "no assistant": ("missing field", "a user's and an assistant's turn", bad(messages=asking("How far?")[:1])),
    "content of another type": ("missing field", "a user's and an assistant's turn", bad(messages=asking(None))),
    "no answer": ("missing field", "no <answer>", bad(messages=asking("<video>How far?", "3 m"))),
    "no question": ("missing field", "no question", bad(messages=asking("<video>\n"))),
    "no frames": ("missing field", "no 'videos'", bad(videos=None)),
    "two videos": ("missing field", "holds 2 entries", bad(videos=[frames_of(MUG), frames_of(MUG)])),
    "frame that is not there": ("missing media", "nowhere/1.png", bad(videos=[["nowhere/1.png"]])),
    "frame that is half there": ("broken media", "half.png", bad(videos=[["half.png"]])),
    "video that stops half-way": ("broken media", "half.mp4", bad(videos=[["half.mp4"]])),
    "mark on no frame": ("bad mark", "image_index 9", bad(annotations={"points": [{"coords": [1, 2], "image_index": 9}]})),
    "mark of another image": (
        "bad mark",
        "not among",
        bad(annotations={"masks": [{"image_path": "x.png", "mask_path": "masks/bool.npy"}]}),
    ),
    "mark in no colour": ("bad mark", "color 'pink'", bad(annotations={"points": [{"coords": [1, 2], "image_index": 0, "color": "pink"}]})),
    "mark without numbers": ("bad mark", "cannot be read", bad(annotations={"points": [{"coords": ["a", 2], "image_index": 0}]})),
    "box outside": ("bad mark", "no area", bad(annotations={"bboxes": [{"coords": [900, 1, 950, 9], "image_index": 0}]})),
    "mask that is no array": ("broken media", "half.png", bad(annotations={"masks": [{"image_index": 0, "mask_path": "half.png"}]})),
    "mask that is not there": ("missing media", "no.npy", bad(annotations={"masks": [{"image_index": 0, "mask_path": "no.npy"}]})),
    "not JSON": ("invalid JSON", "Expecting", '{"id": "bad", "messages": ['),
    "no object": ("invalid JSON", "found a list", '["bad"]'),
}


@pytest.fixture(scope="module")
def root(tmp_path_factory, film):
    root = make_media(tmp_path_factory.mktemp("media"))
    for name, whole in (("half.png", root / frames_of(MUG)[0]), ("half.mp4", film)):
        data = open(whole, "rb").read()
        (root / name).write_bytes(data[: len(data) // 2])
    shutil.copy(film, root / "film.mp4")
    return root


def line(record) -> str:
    return record if isinstance(record, str) else json.dumps(record)


@pytest.mark.parametrize("case", CASES)
def test_a_faulty_record_is_named_with_file_and_line_and_the_good_ones_are_kept(case, root, tmp_path):
    kind, said, record = CASES[case]
    file = tmp_path / "q.jsonl"
    file.write_text("\n".join(map(line, [GOOD[0], record, GOOD[1]])) + "\n")
    manifest = import_questions(ImportConfig("spacevista", (str(file),), str(root), str(tmp_path / "set")))
    (fault,) = manifest["faults"]["lines"]
    assert fault.startswith(f"{file}:2: {kind}: ") and said in fault and "\n" not in fault
    assert manifest["faults"]["counts"] == {kind: 1}
    assert json.loads((tmp_path / "set/manifest.json").read_text()) == json.loads(json.dumps(manifest))
    samples = open_split(tmp_path / "set", "train")
    assert [samples.qa(i).id for i in range(len(samples))] == ["good0", "good1"]


@pytest.mark.parametrize("case", CASES)
def test_strict_stops_with_that_one_line_and_leaves_nothing(case, root, tmp_path):
    kind, said, record = CASES[case]
    file = tmp_path / "q.jsonl"
    file.write_text("\n".join(map(line, [GOOD[0], record])))
    with pytest.raises(UserError) as error:
        import_questions(ImportConfig("spacevista", (str(file),), str(root), str(tmp_path / "set"), strict=True))
    assert str(error.value).startswith(f"{file}:2: {kind}: ") and said in str(error.value)
    assert [p.name for p in tmp_path.iterdir()] == ["q.jsonl"]


def test_a_list_loses_only_the_record_that_is_broken(tmp_path):
    file = tmp_path / "list.json"
    file.write_text('[\n{"a": 1},\n{"b": ,\n "c": {}},\n{"d": 2},\n{"e": [3,\n')
    got = list(read_rows(str(file)))
    assert [row for row in got if isinstance(row, tuple)] == [(2, {"a": 1}), (5, {"d": 2})]
    assert [(fault.line, fault.kind) for fault in got if not isinstance(fault, tuple)] == [(3, "invalid JSON"), (6, "invalid JSON")]
    pretty = tmp_path / "pretty.json"
    pretty.write_text(json.dumps([{"a": {"b": 1}}, {"c": 2}], indent=2))
    assert list(read_rows(str(pretty))) == [(2, {"a": {"b": 1}}), (7, {"c": 2})]


def test_a_whole_video_is_sampled(root, tmp_path):
    file = tmp_path / "q.jsonl"
    file.write_text(line(bad(videos=[["film.mp4"]])))
    import_questions(ImportConfig("spacevista", (str(file),), str(root), str(tmp_path / "set"), frames=4, side=64))
    sample = open_split(tmp_path / "set", "train")[0]
    assert sample["frames"].shape == (4, 36, 64, 3) and sample["qa"].scene_id == "film" and 0 < sample["fps"] < 2


def test_the_verb_prints_licences_and_faults(root, tmp_path, capsys):
    file = tmp_path / "q.jsonl"
    file.write_text("\n".join(map(line, [*GOOD, CASES["task"][2]])))
    argv = ["data", "import", "--from", "spacevista", "--questions", str(file), "--media", str(root), "--out"]
    assert cli.main([*argv, str(tmp_path / "set")]) == 0
    out, err = capsys.readouterr()
    assert f"{tmp_path / 'set'} train: 1 clips, 2 questions" in out
    assert "SpaceVista-1M            2  CC BY 4.0 or Apache-2.0" in out and "uCO3D                    2  CC BY 4.0" in out
    assert f"{file}:3: unknown task: " in err and "1 records left out: 1 unknown task; " in err
    assert cli.main([*argv, str(tmp_path / "set")]) == 2 and "exists; expected a new folder" in capsys.readouterr().err
    assert cli.main([*argv, str(tmp_path / "two"), "--strict"]) == 2
    err = capsys.readouterr().err
    assert f"sv-jax: error: {file}:3: unknown task: " in err
    export = ["data", "export", "--data", str(tmp_path / "set"), "--as", "spacevista", "--out", str(tmp_path / "out.json")]
    assert cli.main(export) == 0 and json.loads((tmp_path / "out.json").read_text()) == GOOD
    assert cli.main(export) == 2 and "exists" in capsys.readouterr().err


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"source": "spacevist"}, "--from 'spacevist' is not one of"),
        ({"scale": "indor"}, "did you mean 'indoor'?"),
        ({"media": "no/such"}, "--media 'no/such': no such folder"),
        ({"frames": 0}, "--frames 0"),
        ({"questions": ("no.json",)}, "questions 'no.json': no such file"),
    ],
)
def test_a_mistake_in_the_command_is_one_line(changes, said, root, tmp_path):
    given = {"source": "spacevista", "questions": (), "media": str(root), "out": str(tmp_path / "set")} | changes
    with pytest.raises(UserError, match=said.replace("(", r"\(")):
        import_questions(ImportConfig(**given))
    assert not list(tmp_path.iterdir())


def test_a_file_without_a_good_record_says_so(root, tmp_path):
    file = tmp_path / "q.jsonl"
    file.write_text(line(CASES["task"][2]))
    with pytest.raises(UserError, match="no record can be taken .*1 unknown task.*q.jsonl:1: "):
        import_questions(ImportConfig("spacevista", (str(file),), str(root), str(tmp_path / "set")))
    assert [p.name for p in tmp_path.iterdir()] == ["q.jsonl"]
