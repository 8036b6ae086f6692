"""Reading dataset folders: random access to samples.

A sample is `{"qa": QA, "frames": u8 [F, H, W, 3], "fps": float}`: what the inputs need to make messages.
"""

from __future__ import annotations

import contextlib
import functools
import json
import threading
from collections import OrderedDict
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import NamedTuple

import numpy as np

from sv_jax.data import codec, sets
from sv_jax.data.index import TASK_NAMES, Columns, columns
from sv_jax.errors import UserError, unknown
from sv_jax.scenes.scene import SCALES
from sv_jax.tasks import QA


class Clip(NamedTuple):
    frames: np.ndarray  # u8 [F, H, W, 3], shared by all samples of the clip: not to be written to
    fps: float


def open_split(path: str | Path, split: str, *, scales=None, tasks=None, frames: int | None = None, cache_bytes: int = 1 << 29) -> Samples:
    """The samples of one split, optionally only some scales and tasks, and only the first `frames` frames of each clip; questions about
    later ones are left out. UserError for a folder or split that is not there."""
    return Samples([path], split, scales=scales, tasks=tasks, frames=frames, cache_bytes=cache_bytes)


class Samples:
    """Random access to the samples of one split of one or more folders, one folder after the other.

    Decoded clips stay in memory up to `cache_bytes`, least recently used first out. May be read from several threads, which decode a clip
    once. A record or clip that is broken is a UserError with its folder, split, set and row."""

    def __init__(
        self,
        paths: Sequence[str | Path],
        split: str,
        *,
        scales: Collection[str] | None = None,
        tasks: Collection[str] | None = None,
        frames: int | None = None,
        cache_bytes: int = 1 << 29,
    ):
        for what, chosen, known in (("scale", scales, SCALES), ("task", tasks, TASK_NAMES)):
            for name in chosen or ():
                if name not in known:
                    raise unknown(what, name, known)
        self.paths, self.split, self._frames = [str(path) for path in paths], split, frames
        self._clips, self._questions = ([sets.source(path, name, split) for path in paths] for name in ("scenes", "qa"))
        lengths = [len(questions) for questions in self._questions]
        self.folder = np.repeat(np.arange(len(lengths), dtype=np.int16), lengths)  # i16 [n], into `paths`
        self._row = np.concatenate([np.arange(n) for n in lengths])
        self._kept: np.ndarray | slice = slice(None)  # of all questions, those that were chosen
        if not (scales is None and tasks is None and frames is None):
            at, keep = self.columns, np.ones(len(self._row), bool)
            for codes, chosen, known in ((at.scale, scales, SCALES), (at.task, tasks, TASK_NAMES)):
                if chosen is not None:
                    keep &= np.isin(codes, [known.index(name) for name in chosen])
            if frames is not None:
                keep &= at.last_frame < frames
            self._kept = np.flatnonzero(keep)
            self.columns = Columns(*(column[self._kept] for column in at))
        self.folder, self._row = self.folder[self._kept], self._row[self._kept]
        self._cache: OrderedDict[tuple[int, int], Future[Clip]] = OrderedDict()  # by folder and row of scenes
        self._shapes: dict[tuple[int, int], tuple[tuple[int, int, int], float]] = {}
        self._cache_bytes, self._used = cache_bytes, 0
        self._lock = threading.Lock()

    @functools.cached_property
    def columns(self) -> Columns:
        """Task, scale, last frame and clip of each sample."""
        parts = [columns(path, self.split, questions) for path, questions in zip(self.paths, self._questions, strict=True)]
        return Columns(*(np.concatenate(column)[self._kept] for column in zip(*parts, strict=True)))

    def __len__(self) -> int:
        return len(self._row)

    def __getitem__(self, index: int) -> dict:
        qa, where = self._question(index)
        clip = self._clip(where)
        return {"qa": qa, "frames": clip.frames, "fps": clip.fps}

    def qa(self, index: int) -> QA:
        """The question alone, without its clip."""
        return self._question(index)[0]

    def outline(self, index: int) -> tuple[QA, tuple[int, int, int], float]:
        """The question, and (F, H, W) and fps of its clip, which is not decoded."""
        qa, where = self._question(index)
        if where not in self._shapes:
            with self._record("scenes", self._clips, where) as record:
                shape = codec.clip_shape(record["mp4"])
                self._shapes[where] = (len(range(shape[0])[: self._frames]), *shape[1:]), float(record["fps"])
        return qa, *self._shapes[where]

    def place(self, name: str, index: int) -> str:
        """Where a sample's question ("qa") or clip ("scenes") stands, for messages."""
        folder, row = (int(self.folder[index]), int(self._row[index])) if name == "qa" else self._question(index)[1]
        return self._place(name, folder, row)

    def _place(self, name: str, folder: int, row: int) -> str:
        return f"data {self.paths[folder]!r}, split {self.split!r}, {name} row {row}"

    def _question(self, index: int) -> tuple[QA, tuple[int, int]]:
        folder = int(self.folder[index])
        with self._record("qa", self._questions, (folder, int(self._row[index]))) as record:
            return QA.from_dict(json.loads(record["json"])), (folder, int(record["scene_row"]))

    def _clip(self, where: tuple[int, int]) -> Clip:
        with self._lock:
            ready = where in self._cache
            clip = self._cache.setdefault(where, Future())
            self._cache.move_to_end(where)
        if ready:
            return clip.result()
        try:
            with self._record("scenes", self._clips, where) as record:
                frames = codec.decode_clip(record["mp4"])[: self._frames]
                frames.flags.writeable = False
                clip.set_result(Clip(frames, float(record["fps"])))
        except Exception as error:
            with self._lock:
                del self._cache[where]
            clip.set_exception(error)  # to the threads that wait for it
            raise
        with self._lock:
            self._used += frames.nbytes
            while self._used > self._cache_bytes and len(self._cache) > 1:
                if not next(iter(self._cache.values())).done():
                    break  # the oldest is being decoded, its size not known
                self._used -= self._cache.popitem(last=False)[1].result().frames.nbytes
        return clip.result()

    @contextlib.contextmanager
    def _record(self, name: str, sources: Sequence, where: tuple[int, int]) -> Iterator[dict]:
        """A record, and whatever goes wrong with it as one line with its place."""
        folder, row = where
        try:
            yield sources[folder][row]
        except Exception as error:  # array_record's, protobuf's, JSON's or our own: the record is broken, whichever it is
            line = (str(error).splitlines() or [type(error).__name__])[0]
            raise UserError(f"{self._place(name, folder, row)}: {line}") from None
