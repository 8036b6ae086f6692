"""A few questions of every task and scale, with their clips and, where the dataset keeps it, the geometry behind them."""

from __future__ import annotations

import json
import zlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sv_jax.audit.questions import Asked, read
from sv_jax.data import codec, sets
from sv_jax.errors import UserError, unknown
from sv_jax.inputs.marks import with_colors
from sv_jax.scenes.scene import SCALES
from sv_jax.tasks import QA
from sv_jax.tasks.qa import LETTERS


@dataclass(frozen=True, eq=False)
class Clip:
    """A clip of F frames; `ids` and `depth` are None without the geom set, `K` and `poses` where the cameras are not known."""

    frames: np.ndarray  # u8 [F, H, W, 3]
    fps: float
    objects: list[dict]  # "name", "colour", …: the fields of a scene's Object
    K: np.ndarray | None  # f64 [3, 3]
    poses: np.ndarray | None  # f64 [F, 4, 4]: camera to world
    ids: np.ndarray | None  # u8 [F, H, W]: 0 background, k for objects[k - 1]
    depth: np.ndarray | None  # f32 [F, H, W]: metres


def pick(
    path: str | Path, n: int, *, split: str | None = None, tasks: Collection[str] = (), scales: Collection[str] = (), seed: int = 0
) -> list[Asked]:
    """Up to `n` questions of every task and scale (of those named, or all), by task, then scale, drawn by `seed`. UserError for names that
    the dataset does not have and where nothing is left."""
    if n < 1:
        raise UserError(f"n {n}: expected at least 1")
    asked = read(path, split)
    cells: dict[tuple[str, str], list[Asked]] = {}
    for a in asked:
        cells.setdefault((a.qa.task, a.qa.scale), []).append(a)
    for what, chosen, known in (("task", tasks, {task for task, _ in cells}), ("scale", scales, {scale for _, scale in cells})):
        for name in chosen:
            if name not in known:
                raise unknown(f"data {str(path)!r}: {what}", name, known)
    found = []
    for task, scale in sorted(cells, key=lambda cell: (cell[0], SCALES.index(cell[1]))):
        if (not tasks or task in tasks) and (not scales or scale in scales):
            cell = cells[task, scale]
            found += [cell[i] for i in np.random.default_rng(seed).permutation(len(cell))[:n]]
    if not found:
        raise UserError(f"data {str(path)!r}: no question of tasks {', '.join(tasks)} at scales {', '.join(scales)}")
    return found


def clips(path: str | Path, asked: Sequence[Asked]) -> Iterator[Clip]:
    """The clip of each question, in order."""
    names = ("scenes", "geom") if (Path(path) / "geom").is_dir() else ("scenes",)
    sources = {(name, split): sets.source(path, name, split) for name in names for split in {a.split for a in asked}}
    for a in asked:
        scene = sources["scenes", a.split][a.clip]
        posed = len(scene["poses"]) > 0
        ids = depth = None
        if "geom" in names:
            geom = sources["geom", a.split][a.clip]
            shape = tuple(int(side) for side in geom["shape"])
            ids = np.frombuffer(zlib.decompress(geom["ids"]), np.uint8).reshape(shape)
            depth = codec.unpack_depth(geom["depth"], shape)
        yield Clip(
            codec.decode_clip(scene["mp4"]), float(scene["fps"]), json.loads(scene["objects"]),
            scene["K"] if posed else None, scene["poses"] if posed else None, ids, depth,
        )  # fmt: skip


def shown_frames(qa: QA) -> list[int]:
    """The one or two frames that the question is about: the first and the last of those with marks and those that must be shown."""
    named = {int(mark.get("frame", 0)) for mark in qa.marks} | set(qa.frames or ())
    return sorted({min(named, default=0), max(named, default=0)})


def answer(qa: QA) -> str:
    """The answer in words: "B. the red mug", "42 cm"."""
    if qa.answer_type == "choice" and qa.options:
        return f"{qa.answer}. {qa.options[LETTERS.index(qa.answer)]}"
    return f"{qa.answer} {qa.unit or ''}".strip()


def as_text(asked: Sequence[Asked]) -> str:
    """Samples as plain text."""
    blocks = []
    for a in asked:
        qa = a.qa
        marks = "".join(f"\nmark: {mark['color']} {mark['kind']} in frame {mark['frame'] + 1}" for mark in with_colors(qa.marks))
        reasoning = f"\nreasoning: {qa.reasoning}" if qa.reasoning else ""
        blocks.append(f"{qa.task}, {qa.scale}: {qa.id} ({a.split})\n{qa.user_text()}{marks}\nanswer: {answer(qa)}{reasoning}")
    return "\n\n".join(blocks)
