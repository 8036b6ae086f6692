"""The index beside a set says what its records say, is never stale or half written, and is not needed."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from sv_jax.data import index, open_split, sets
from sv_jax.data.index import TASK_NAMES, columns
from sv_jax.scenes.scene import SCALES
from sv_jax.tasks import QA


@pytest.fixture
def folder(tiny_data, tmp_path) -> Path:
    return Path(shutil.copytree(tiny_data, tmp_path / "set", ignore=shutil.ignore_patterns("*.npz")))


def file_of(folder: Path) -> Path:
    return folder / "qa" / sets.VERSION / "train.index.npz"


def read(folder: Path):
    return columns(folder, "train", sets.source(folder, "qa", "train"))


def agrees(folder: Path) -> bool:
    questions = sets.source(folder, "qa", "train")
    samples, found = open_split(folder, "train"), read(folder)
    qas = [samples.qa(i) for i in range(len(samples))]
    frames = [max([*(qa.frames or ()), *(m["frame"] for m in qa.marks), 0]) for qa in qas]
    return (
        [TASK_NAMES[i] for i in found.task] == [qa.task for qa in qas]
        and [SCALES[i] for i in found.scale] == [qa.scale for qa in qas]
        and found.last_frame.tolist() == frames
        and found.clip.tolist() == [int(questions[i]["scene_row"]) for i in range(len(questions))]
    )


def test_it_says_what_the_records_say_when_made_and_when_read(folder, monkeypatch):
    assert agrees(folder) and file_of(folder).is_file()
    monkeypatch.setattr(index, "_scan", None)  # from the file alone
    assert agrees(folder)


def test_a_set_that_was_written_anew_gets_another_one(folder):
    before = read(folder)
    kept = file_of(folder).read_bytes()
    shutil.rmtree(folder)
    with sets.Writers(folder, ["train"], geometry=False) as writers:
        writers.clip("train", "s", "drone", b"", 2.0)
        for n in range(len(before.task)):
            writers.question("train", QA(f"q{n}", "s", "depth", "drone", "?", "1", "number"), 0)
    file_of(folder).write_bytes(kept)
    assert agrees(folder) and {SCALES[i] for i in read(folder).scale} == {"drone"}


@pytest.mark.parametrize("harm", [lambda b: b[: len(b) // 2], lambda b: b"", lambda b: b[:200] + bytes(300) + b[500:]])
def test_a_damaged_one_is_made_again(folder, harm):
    read(folder)
    file_of(folder).write_bytes(harm(file_of(folder).read_bytes()))
    assert agrees(folder)
    np.load(file_of(folder)).close()


def test_one_that_cannot_be_written_is_not_needed_and_leaves_nothing(folder, monkeypatch):
    def full(file, **arrays):
        file.write(b"half")
        raise OSError("No space left on device")

    before = sorted(folder.rglob("*"))
    monkeypatch.setattr(np, "savez", full)
    assert agrees(folder) and sorted(folder.rglob("*")) == before
    assert len(open_split(folder, "train", scales=("indoor",))) == (read(folder).scale == SCALES.index("indoor")).sum()
