"""Making one unit of a dataset: its scenes, clips and questions, a shard file for each set, and the report that says it is done."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections import Counter, deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from sv_jax.data import codec, sets
from sv_jax.data.config import BuildConfig, Unit
from sv_jax.files import write_json
from sv_jax.scenes import generate_many
from sv_jax.scenes.scene import SCALES, Scene
from sv_jax.tasks import QA, TASKS, ask
from sv_jax.tasks.describe import DESCRIPTIONS
from sv_jax.tasks.view import View

AHEAD = 8  # scenes that wait for their clip and questions while others are rendered


def make_unit(cfg: BuildConfig, unit: Unit, work: Path, step: Callable[[], None], threads: int) -> None:
    """Write the unit's shards into `work`/dataset, and then its report. `step` is called after each scene."""
    folder = work / "dataset"
    paths = {name: folder / unit.path(name) for name in cfg.sets}
    table, digest = Counter(), hashlib.sha256()
    with contextlib.ExitStack() as stack:
        shards = {name: stack.enter_context(sets.new_shard(path, name)) for name, path in paths.items()}
        for row, (scene, mp4, pixels, questions) in enumerate(_records(cfg, unit, threads), unit.first):
            digest.update(pixels)
            rows = sets.scene_rows(scene, mp4)
            for name in shards.keys() & rows:
                shards[name].add(rows[name])
            for qa in questions:
                record = sets.question_row(qa, row)
                digest.update(record["json"].encode())
                shards["qa"].add(record)
                table[qa.task, qa.scale] += 1
            step()
    files = {name: _file(path) | {"records": shards[name].length} for name, path in paths.items()}
    counts = {task: {scale: table[task, scale] for scale in cfg.scales} for task in cfg.tasks}
    write_json(report_path(work, unit), {"sha256": digest.hexdigest(), "table": counts, "files": files})


def report_path(work: Path, unit: Unit) -> Path:
    return work / "units" / f"{unit.split.name}-{unit.shard:05d}.json"


def read_report(work: Path, unit: Unit) -> dict | None:
    """What `make_unit` wrote last; None where the unit is not done or one of its files has another size by now."""
    if not (path := report_path(work, unit)).is_file():
        return None
    report = json.loads(path.read_text())
    shards = [(work / "dataset" / unit.path(name), file["bytes"]) for name, file in report["files"].items()]
    return report if all(path.is_file() and path.stat().st_size == size for path, size in shards) else None


def _file(path: Path) -> dict:
    with path.open("rb") as f:
        return {"bytes": path.stat().st_size, "sha256": hashlib.file_digest(f, "sha256").hexdigest()}


def _records(cfg: BuildConfig, unit: Unit, threads: int) -> Iterator[tuple[Scene, bytes, bytes, list[QA]]]:
    """The scenes of a unit, each with its clip, the hash of the decoded clip, and its questions.

    Threads encode and ask while the next scenes are rendered; the order is that of the rows."""
    scenes = generate_many(unit.specs(cfg), kind=unit.split.kind, frames=cfg.frames, size=cfg.size, objects=cfg.objects)
    pending: deque = deque()
    with ThreadPoolExecutor(threads) as pool:
        for scene, (_, seed) in zip(scenes, unit.specs(cfg), strict=True):
            pending.append(pool.submit(_record, cfg, scene, seed))
            if len(pending) >= AHEAD:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


def _record(cfg: BuildConfig, scene: Scene, seed: int) -> tuple[Scene, bytes, bytes, list[QA]]:
    mp4 = codec.encode_clip(scene.frames, scene.fps)
    return scene, mp4, hashlib.sha256(codec.decode_clip(mp4).tobytes()).digest(), _questions(cfg, scene, seed)


def _questions(cfg: BuildConfig, scene: Scene, seed: int) -> list[QA]:
    view = View(scene, cfg.told)
    rng = np.random.default_rng([cfg.seed, SCALES.index(scene.scale), seed])
    asked = ask(view, rng, cfg.questions, [task for task in cfg.tasks if task in TASKS])
    described = (describe(view) for name, describe in DESCRIPTIONS.items() if name in cfg.tasks)
    return [qa for qa in described if qa is not None] + asked
