"""Building a dataset folder from procedural scenes.

out/manifest.json     config, counts per split, task and scale, hash of the content
out/scenes/1.0.0/     TFDS, ArrayRecord: one clip per record
out/qa/1.0.0/         one question per record; `scene_row` is the row of its clip in the same split
out/geom/1.0.0/       with `geometry`: depth and ids, row by row as in scenes; checks read it, training does not
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections import Counter, deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sv_jax.data import codec, sets
from sv_jax.errors import UserError, unknown
from sv_jax.files import new_folder
from sv_jax.scenes import generate_many
from sv_jax.scenes.layout import OBJECTS
from sv_jax.scenes.scene import SCALES, Scene
from sv_jax.tasks import QA, TASKS, ask
from sv_jax.tasks.describe import DESCRIPTIONS
from sv_jax.tasks.view import View

AHEAD = 32  # scenes that wait for their clip and questions while others are rendered


@dataclass(frozen=True)
class SplitConfig:
    """`scenes` scenes of every scale; scene i has the seed `first_seed + i`. Splits whose seeds overlap would share scenes."""

    name: str
    scenes: int
    first_seed: int


@dataclass(frozen=True)
class BuildConfig:
    """What to build. The same config gives the same content."""

    out: str
    splits: tuple[SplitConfig, ...] = (SplitConfig("train", 64, 0), SplitConfig("eval", 16, 1_000_000))
    scales: tuple[str, ...] = SCALES
    tasks: tuple[str, ...] = tuple(TASKS)  # those of DESCRIPTIONS add one of each per scene
    questions: int = 6  # at most, per scene, those of DESCRIPTIONS not counted
    objects: tuple[int, int] = OBJECTS  # least and most of a scene
    frames: int = 4
    size: tuple[int, int] = (112, 112)  # height, width in pixels
    seed: int = 0  # of the choice of questions; scenes depend on their own seeds alone
    geometry: bool = False

    def __post_init__(self):
        if self.frames < 1 or min(self.size) < 16 or any(side % 2 for side in self.size):
            raise UserError(f"frames {self.frames}, size {self.size}: expected at least 1 frame and even sides of at least 16 pixels")
        if not self.splits or min(split.scenes for split in self.splits) < 1:
            raise UserError(f"splits: found {self.splits}, expected at least one split, each with at least 1 scene")
        if len({split.name for split in self.splits}) < len(self.splits):
            raise UserError(f"splits: found {[split.name for split in self.splits]}, expected different names")
        if not 1 <= self.objects[0] <= self.objects[1] <= OBJECTS[1]:
            raise UserError(f"objects {self.objects}: expected the least and the most of a scene, from 1 to {OBJECTS[1]}")
        for scale in self.scales:
            if scale not in SCALES:
                raise unknown("scale", scale, SCALES)
        for task in self.tasks:
            if task not in TASKS and task not in DESCRIPTIONS:
                raise unknown("task", task, [*TASKS, *DESCRIPTIONS])
        ordered = sorted(self.splits, key=lambda s: s.first_seed)
        for first, second in zip(ordered, ordered[1:], strict=False):
            if first.first_seed + first.scenes > second.first_seed:
                raise UserError(
                    f"splits: {first.name!r} uses seeds up to {first.first_seed + first.scenes - 1}, "
                    f"{second.name!r} starts at {second.first_seed}: they would share scenes"
                )


def build(cfg: BuildConfig, progress: Callable[[int, int], None] | None = None) -> dict:
    """Write the dataset and return its manifest: `manifest["splits"][name]["table"][task][scale]` counts questions.

    `progress(done, total)` is called with numbers of scenes. All is written to a temporary folder that takes its name at the end; a
    folder that holds the same config already is kept as it is. UserError where `out` holds something else.
    """
    out = Path(cfg.out)
    if out.exists():
        return _existing(cfg, out)
    with new_folder(out) as folder:
        manifest = {"config": _plain(cfg), "splits": _write(cfg, folder, progress)}
        (folder / "manifest.json").write_text(json.dumps(manifest, indent=1))
    return manifest


def _plain(cfg: BuildConfig) -> dict:
    """The config as JSON values, without the folder: it does not change the content."""
    plain = json.loads(json.dumps(dataclasses.asdict(cfg)))
    del plain["out"]
    return plain


def _existing(cfg: BuildConfig, out: Path) -> dict:
    try:
        manifest = json.loads((out / "manifest.json").read_text())
    except (OSError, ValueError):
        raise UserError(f"out {cfg.out!r}: exists and is not a dataset; expected a new folder") from None
    for key, value in _plain(cfg).items():
        if manifest["config"].get(key) != value:
            raise UserError(f"out {cfg.out!r}: holds a dataset with {key} {manifest['config'].get(key)}, expected {value} or a new folder")
    return manifest


def _write(cfg: BuildConfig, folder: Path, progress) -> dict[str, dict]:
    """Write every split; returns counts and content hash per split."""
    total = sum(split.scenes for split in cfg.splits) * len(cfg.scales)
    done, report = 0, {}
    with sets.Writers(folder, [split.name for split in cfg.splits], geometry=cfg.geometry) as writers:
        for split in cfg.splits:
            table, digest = Counter(), hashlib.sha256()
            for row, (scene, mp4, pixels, questions) in enumerate(_records(cfg, split)):
                writers.scene(split.name, scene, mp4)
                digest.update(pixels)
                for qa in questions:
                    digest.update(writers.question(split.name, qa, row))
                    table[qa.task, qa.scale] += 1
                done += 1
                if progress:
                    progress(done, total)
            counts = {task: {scale: table[task, scale] for scale in cfg.scales} for task in cfg.tasks}
            scenes = split.scenes * len(cfg.scales)
            report[split.name] = {"scenes": scenes, "questions": table.total(), "table": counts, "sha256": digest.hexdigest()}
    return report


def _records(cfg: BuildConfig, split: SplitConfig) -> Iterator[tuple[Scene, bytes, bytes, list[QA]]]:
    """The scenes of a split, one scale after another, each with its clip, the hash of the decoded clip, and its questions.

    Threads encode and ask while the next scenes are rendered; the order is that of the seeds."""
    specs = [(scale, split.first_seed + i) for scale in cfg.scales for i in range(split.scenes)]
    scenes = generate_many(specs, frames=cfg.frames, size=cfg.size, objects=cfg.objects)
    pending: deque = deque()
    with ThreadPoolExecutor() as pool:
        for scene, (_, seed) in zip(scenes, specs, strict=True):
            pending.append(pool.submit(_record, cfg, scene, seed))
            if len(pending) >= AHEAD:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


def _record(cfg: BuildConfig, scene: Scene, seed: int) -> tuple[Scene, bytes, bytes, list[QA]]:
    mp4 = codec.encode_clip(scene.frames, scene.fps)
    return scene, mp4, hashlib.sha256(codec.decode_clip(mp4).tobytes()).digest(), _questions(cfg, scene, seed)


def _questions(cfg: BuildConfig, scene: Scene, seed: int) -> list[QA]:
    view = View(scene)
    rng = np.random.default_rng([cfg.seed, SCALES.index(scene.scale), seed])
    asked = ask(view, rng, cfg.questions, [task for task in cfg.tasks if task in TASKS])
    described = (describe(view) for name, describe in DESCRIPTIONS.items() if name in cfg.tasks)
    return [qa for qa in described if qa is not None] + asked
