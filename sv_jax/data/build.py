"""Building a dataset folder from procedural scenes.

out/README.md         the dataset card, written from the manifest
out/manifest.json     config, versions, counts per split, task and scale, hashes of the content and of every file
out/scenes/1.0.0/     TFDS, ArrayRecord: one clip per record
out/qa/1.0.0/         one question per record; `scene_row` is the row of its clip in the same split
out/geom/1.0.0/       with `geometry`: depth and ids, row by row as in scenes; checks read it, training does not

Until all is there it stands in `out`.unfinished: dataset/ becomes `out`, units/ holds a report of each finished unit of work.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

from sv_jax import __version__
from sv_jax.data import sets
from sv_jax.data.card import card
from sv_jax.data.config import BuildConfig, SplitConfig, Unit, content, units
from sv_jax.data.units import read_report
from sv_jax.data.workers import make_units
from sv_jax.errors import UserError
from sv_jax.files import sync, write_json, write_text

__all__ = ["BuildConfig", "SplitConfig", "build"]
LIBRARIES = ("array_record", "av", "jax", "jaxlib", "numpy", "tensorflow-datasets")  # another version may give other bytes


def build(cfg: BuildConfig, progress: Callable[[int, int], None] = lambda done, total: None, make: Callable = make_units) -> dict:
    """Write the dataset and return its manifest: `manifest["splits"][name]["table"][task][scale]` counts questions.

    `progress(done, total)` is called with numbers of scenes. An unfinished build of the same config is continued, and a folder that holds
    one is kept as it is. UserError where `out` holds something else. `make` is who makes the units, as `make_units` does.
    """
    out = Path(cfg.out)
    work = out.with_name(f"{out.name}.unfinished")
    if out.exists():
        manifest = _existing(cfg, out)
        shutil.rmtree(work, ignore_errors=True)  # what a build leaves that is stopped after its last step
        return manifest
    plan = units(cfg)
    total = sum(unit.stop - unit.first for unit in plan)
    with _working(cfg, work):
        todo = [unit for unit in plan if read_report(work, unit) is None]
        kept = total - sum(unit.stop - unit.first for unit in todo)
        make(cfg, todo, work, lambda done: progress(kept + done, total))
        manifest = _finish(cfg, plan, work)
        (work / "dataset").rename(out)
        sync(out.parent)
        shutil.rmtree(work)
    return manifest


def _existing(cfg: BuildConfig, out: Path) -> dict:
    try:
        manifest = json.loads((out / "manifest.json").read_text())
    except (OSError, ValueError):
        raise UserError(f"out {cfg.out!r}: exists and is not a dataset; expected a new folder") from None
    for key, value in content(cfg).items():
        if manifest["config"].get(key) != value:
            raise UserError(f"out {cfg.out!r}: holds a dataset with {key} {manifest['config'].get(key)}, expected {value} or a new folder")
    return manifest


@contextlib.contextmanager
def _working(cfg: BuildConfig, work: Path) -> Iterator[None]:
    """The folder of an unfinished build, of this config and held by this process alone."""
    (work / "units").mkdir(parents=True, exist_ok=True)
    with (work / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"out {cfg.out!r}: another process is building it, in {str(work)!r}") from None
        for left in work.rglob(".*"):  # half a file of a process that was killed
            left.unlink()
        _claim(cfg, work)
        for name in cfg.sets:
            (work / "dataset" / name / sets.VERSION).mkdir(parents=True, exist_ok=True)
        yield


def _claim(cfg: BuildConfig, work: Path) -> None:
    """See that the finished units are of this config and these versions; where there are none, nothing is lost by starting afresh."""
    wanted = content(cfg) | versions()
    if not any((work / "units").iterdir()):
        shutil.rmtree(work / "dataset", ignore_errors=True)
        write_json(work / "build.json", wanted)
    held = json.loads((work / "build.json").read_text())
    for key, value in wanted.items():
        if held.get(key) != value:
            found = f"holds an unfinished build with {key} {held.get(key)}, expected {value}"
            raise UserError(f"out {cfg.out!r}: {str(work)!r} {found}; finish it with those, or remove that folder")


def versions() -> dict[str, str]:
    return {"sv-jax": __version__} | {name: version(name) for name in LIBRARIES}


def _finish(cfg: BuildConfig, plan: list[Unit], work: Path) -> dict[str, Any]:
    """Add to the shards in `work`/dataset what describes them; returns the manifest."""
    folder = work / "dataset"
    splits, files = {}, {}
    described: dict[str, dict[str, tuple[list[int], int]]] = {name: {} for name in cfg.sets}
    for split in cfg.splits:
        own = [(unit, read_report(work, unit)) for unit in plan if unit.split == split]
        table = {task: {scale: sum(report["table"][task][scale] for _, report in own) for scale in cfg.scales} for task in cfg.tasks}
        hashes = hashlib.sha256("".join(report["sha256"] for _, report in own).encode()).hexdigest()
        questions = sum(sum(row.values()) for row in table.values())
        splits[split.name] = {"scenes": split.scenes * len(cfg.scales), "questions": questions, "table": table, "sha256": hashes}
        for name in cfg.sets:
            shards = [report["files"][name] for _, report in own]
            described[name][split.name] = [file["records"] for file in shards], sum(file["bytes"] for file in shards)
            files |= {unit.path(name): file for (unit, _), file in zip(own, shards, strict=True)}
    for name in cfg.sets:
        sets.describe(folder, name, described[name])
    manifest = {"config": content(cfg), "versions": versions(), "splits": splits, "files": files}
    write_json(folder / "manifest.json", manifest)
    write_text(folder / "README.md", card(manifest))
    return manifest
