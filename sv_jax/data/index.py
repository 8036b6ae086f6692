"""What choosing questions needs to know of them, as a few bytes each: a scan of all records, kept beside the set that it describes.

<data>/qa/1.0.0/<split>.index.npz    names of tasks and scales, and the columns of `Columns`; made by the first reader that chooses
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np

from sv_jax.data import sets
from sv_jax.data.names import PUBLISHED_TASKS
from sv_jax.errors import UserError
from sv_jax.files import replacing
from sv_jax.progress import progress
from sv_jax.scenes.scene import SCALES
from sv_jax.tasks import TASKS
from sv_jax.tasks.describe import DESCRIPTIONS

TASK_NAMES = tuple(sorted({*TASKS, *DESCRIPTIONS, *PUBLISHED_TASKS}))
CHUNK = 8192  # records read at once


class Columns(NamedTuple):
    """A row for each question."""

    task: np.ndarray  # i16 [n], index into TASK_NAMES, -1 for a task that is not there
    scale: np.ndarray  # i16 [n], index into SCALES, likewise
    last_frame: np.ndarray  # i32 [n], the last frame that the question or a mark of it names
    clip: np.ndarray  # i32 [n], row of the clip in scenes


def columns(path: str | Path, split: str, questions) -> Columns:
    """The columns of the questions (TFDS source) of one split. They are read from the file beside the set if it was made of these very
    records, or else made, which takes half a minute for a million, and written there where that is allowed."""
    folder = Path(path) / "qa" / sets.VERSION
    file, key = folder / f"{split}.index.npz", _key(folder)
    with contextlib.suppress(OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile), np.load(file) as saved:  # else made again
        if saved["key"] == key and len(saved["clip"]) == len(questions):
            return _in_our_codes({name: saved[name] for name in saved.files})
    arrays = _scan(questions, f"data {str(path)!r}, split {split!r}")
    with contextlib.suppress(OSError), replacing(file) as f:  # a folder that cannot be written to is scanned each time
        np.savez(f, key=key, **arrays)
    return _in_our_codes(arrays)


def _key(folder: Path) -> str:
    """Of a set's description and its files: another one as soon as any is written anew."""
    stats = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in sorted(folder.glob("*.array_record*"))]
    return hashlib.sha256(repr(stats).encode() + (folder / "dataset_info.json").read_bytes()).hexdigest()


def _scan(questions, where: str) -> dict[str, np.ndarray]:
    from tensorflow_datasets.proto import tf_example_pb2  # twenty times as fast as deserialising into arrays

    n = len(questions)
    tasks, scales = {}, {}  # name -> code, in the order of their first record
    table = np.empty((4, n), np.int32)
    with progress("index", n) if n > 20 * CHUNK else contextlib.nullcontext() as bar:
        for start in range(0, n, CHUNK):
            rows = range(start, min(start + CHUNK, n))
            try:
                records = questions.data_source.__getitems__(rows)
            except Exception as error:  # array_record has no exceptions of its own
                raise UserError(f"{where}, qa rows {rows[0]} to {rows[-1]}: not readable ({_line(error)})") from None
            for row, record in zip(rows, records, strict=True):
                try:
                    feature = tf_example_pb2.Example.FromString(record).features.feature
                    task, scale, text = (feature[name].bytes_list.value[0] for name in ("task", "scale", "json"))
                    table[:, row] = (
                        tasks.setdefault(task.decode(), len(tasks)), scales.setdefault(scale.decode(), len(scales)),
                        last_frame(json.loads(text)), feature["scene_row"].int64_list.value[0],
                    )  # fmt: skip
                except Exception as error:  # protobuf's, JSON's, a missing field: the record is broken, whichever it is
                    raise UserError(f"{where}, qa row {row}: not a question ({_line(error)})") from None
            if bar:
                bar.advance(rows[-1] + 1)
    return {"tasks": np.array(list(tasks)), "scales": np.array(list(scales)), "task": table[0].astype(np.int16),
            "scale": table[1].astype(np.int16), "last_frame": table[2], "clip": table[3]}  # fmt: skip


def last_frame(qa: dict) -> int:
    """The last frame that a question (its JSON) or a mark of it names, 0 without any."""
    return max([*(qa["frames"] or ()), *(mark.get("frame", 0) for mark in qa["marks"])], default=0)


def _in_our_codes(arrays: dict[str, np.ndarray]) -> Columns:
    def coded(known, what: str) -> np.ndarray:
        ours = {name: code for code, name in enumerate(known)}
        return np.array([ours.get(str(name), -1) for name in arrays[f"{what}s"]], np.int16)[arrays[what]]

    return Columns(coded(TASK_NAMES, "task"), coded(SCALES, "scale"), arrays["last_frame"], arrays["clip"])


def _line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
