"""`sv-jax data import`: published question files and their media to a dataset folder that `sft`, `grpo` and `eval` read.

out/manifest.json     what was imported, counts per task and scale, licences, and everything that was left out, with file and line
out/scenes, out/qa    as `sv-jax data build` writes them; the cameras and objects of the clips are not known

All questions are read before the first clip, which is then decoded once for all of its questions: some 6 KB of memory a record.
"""

from __future__ import annotations

import dataclasses
import json
import logging
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from sv_jax.data import codec, sets
from sv_jax.data.published import benchmarks, spacevista
from sv_jax.data.published.clips import Clip, place_marks, read_clip
from sv_jax.data.published.item import BadRecord, Fault, Item
from sv_jax.data.published.licences import licence
from sv_jax.data.published.rows import read_rows
from sv_jax.errors import UserError, unknown
from sv_jax.files import new_folder
from sv_jax.progress import progress
from sv_jax.scenes.scene import SCALES

log = logging.getLogger(__name__)
AHEAD = 8  # clips that are decoded and encoded at a time


@dataclass(frozen=True)
class Format:
    """`parse(record, scale)` makes an Item; `scale` is what the user says of records that do not name theirs."""

    parse: Callable[[dict, str | None], Item]
    dataset: str  # a key of LICENCES
    split: str  # where its questions go unless the user names another


FORMATS = {
    "spacevista": Format(spacevista.parse, "SpaceVista-1M", "train"),
    "vsi": Format(benchmarks.vsi, "VSI-Bench", "eval"),
    "spar": Format(benchmarks.spar, "SPAR-Bench", "eval"),
    "sti": Format(benchmarks.sti, "STI-Bench", "eval"),
    "mmsi": Format(benchmarks.mmsi, "MMSI-Bench", "eval"),
}


@dataclass(frozen=True)
class ImportConfig:
    """What to import. Records that are wrong are left out and reported; with `strict` the first of them is an error."""

    source: str  # a key of FORMATS
    questions: tuple[str, ...]
    media: str
    out: str
    split: str | None = None
    scale: str | None = None
    frames: int = 32  # at most, of a clip; frames with marks come on top
    side: int = 448  # the longest side that is kept, in pixels
    strict: bool = False

    def __post_init__(self):
        if self.source not in FORMATS:
            raise unknown("--from", self.source, FORMATS)
        if self.scale is not None and self.scale not in SCALES:
            raise unknown("--scale", self.scale, SCALES)
        if self.frames < 1 or self.side < 16:
            raise UserError(f"--frames {self.frames}, --side {self.side}: expected at least 1 frame and 16 pixels")
        if not Path(self.media).is_dir():
            raise UserError(f"--media {self.media!r}: no such folder")
        if Path(self.out).exists():
            raise UserError(f"--out {self.out!r}: exists; expected a new folder")


@dataclass(frozen=True)
class Placed:
    """An item and where its record stands."""

    item: Item
    file: str
    line: int


def import_questions(cfg: ImportConfig) -> dict:
    """Write the dataset, with a bar that counts clips, and return its manifest: `splits` as of a build, `licences` source -> {licence,
    questions}, `faults`. UserError where nothing is left, and with `strict` for the first fault."""
    format, faults = FORMATS[cfg.source], _Faults(cfg.strict)
    clips: dict[tuple, list[Placed]] = {}
    for placed in _items(cfg, faults):
        clips.setdefault((placed.item.media, placed.item.views, placed.item.qa.scale), []).append(placed)
    split = cfg.split or format.split
    sources, rows, taken = Counter(), 0, set()
    with new_folder(cfg.out) as folder:
        with sets.Writers(folder, [split], geometry=False) as writers, progress("clips", len(clips)) as bar:
            for done, (group, clip, mp4) in enumerate(_clips(cfg, list(clips.values()), faults), 1):
                questions = list(_questions(cfg, group, clip, faults)) if clip else []
                if questions:
                    id = _scene_id(group[0].item, taken)
                    writers.clip(split, id, group[0].item.qa.scale, mp4, clip.fps)
                    for item, marks in questions:
                        writers.question(split, dataclasses.replace(item.qa, scene_id=id, marks=marks), rows)
                        sources[item.source] += 1
                    rows += 1
                bar.advance(done)
        if not rows:
            raise UserError(f"questions: no record can be taken from {', '.join(cfg.questions)}; {faults.summary()}")
        report = writers.report(split)
        manifest = {
            "config": {key: value for key, value in dataclasses.asdict(cfg).items() if key != "out"},
            "splits": {split: report},
            "licences": {
                name: {"licence": licence(name), "questions": n} for name, n in {format.dataset: report["questions"], **sources}.items()
            },
            "faults": {"counts": dict(faults.counts), "lines": [str(fault) for fault in faults.all]},
        }
        (folder / "manifest.json").write_text(json.dumps(manifest, indent=1))
    return manifest


class _Faults:
    """What is wrong, collected; with `strict` raised."""

    def __init__(self, strict: bool):
        self.all: list[Fault] = []
        self.counts: Counter[str] = Counter()
        self._strict = strict

    def add(self, fault: Fault) -> None:
        if self._strict:
            raise UserError(str(fault))
        self.all.append(fault)
        self.counts[fault.kind] += 1

    def summary(self) -> str:
        first = f", the first: {self.all[0]}" if self.all else ""
        return f"{len(self.all)} records are faulty ({', '.join(f'{n} {kind}' for kind, n in self.counts.items())}){first}"


def _items(cfg: ImportConfig, faults: _Faults) -> Iterator[Placed]:
    seen: dict[str, str] = {}
    for file in cfg.questions:
        for row in read_rows(file):
            if isinstance(row, Fault):
                faults.add(row)
                continue
            line, record = row
            try:
                item = FORMATS[cfg.source].parse(record, cfg.scale)
                if first := seen.get(item.qa.id):
                    raise BadRecord("duplicate id", f"{item.qa.id!r} stands at {first} already")
            except BadRecord as error:
                faults.add(Fault(file, line, error.kind, str(error)))
                continue
            seen[item.qa.id] = f"{file}:{line}"
            yield Placed(item, file, line)
        log.info("%s is read: %d questions so far, %d records left out", file, len(seen), len(faults.all))


def _clips(cfg: ImportConfig, groups: list[list[Placed]], faults: _Faults) -> Iterator[tuple[list[Placed], Clip | None, bytes]]:
    """Each group of questions with the clip it is about, None where that cannot be read."""

    def load(group: list[Placed]) -> tuple[Clip, bytes] | BadRecord:
        item, wanted = group[0].item, {mark["frame"] for placed in group for mark in placed.item.marks}
        try:
            clip = read_clip(item.media, cfg.media, wanted, cfg.frames, cfg.side, item.views)
        except BadRecord as error:
            return error
        return clip, codec.encode_clip(clip.frames, clip.fps)

    with ThreadPoolExecutor() as pool:
        for start in range(0, len(groups), AHEAD):
            part = groups[start : start + AHEAD]
            for group, loaded in zip(part, pool.map(load, part), strict=True):
                if isinstance(loaded, BadRecord):
                    for placed in group:
                        faults.add(Fault(placed.file, placed.line, loaded.kind, str(loaded)))
                    yield group, None, b""
                else:
                    yield group, *loaded


def _questions(cfg: ImportConfig, group: list[Placed], clip: Clip, faults: _Faults) -> Iterator[tuple[Item, tuple[dict, ...]]]:
    for placed in group:
        try:
            yield placed.item, place_marks(placed.item.marks, clip, cfg.media)
        except BadRecord as error:
            faults.add(Fault(placed.file, placed.line, error.kind, str(error)))


def _scene_id(item: Item, taken: set[str]) -> str:
    """The folder of the pictures or the name of the video, or the question's id where the pictures have no names; made unique."""
    first = item.media[0]
    path = Path(first) if isinstance(first, str) else None
    name = item.qa.id if path is None else (path.parent if len(item.media) > 1 else path.with_suffix("")).as_posix()
    id = name if name not in taken else f"{name}#{len(taken)}"
    taken.add(id)
    return id
