"""What a dataset of procedural scenes is made of, and the units of work it is cut into."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sv_jax.config import to_plain
from sv_jax.data.sets import VERSION
from sv_jax.errors import UserError, unknown
from sv_jax.scenes.draw import KINDS
from sv_jax.scenes.plain import OBJECTS
from sv_jax.scenes.scene import SCALES
from sv_jax.tasks import TASKS
from sv_jax.tasks.describe import DESCRIPTIONS
from sv_jax.tasks.view import TOLD

NOT_CONTENT = ("out", "workers")  # fields that change no byte of the dataset


@dataclass(frozen=True)
class SplitConfig:
    """`scenes` scenes of every scale; scene i has the seed `first_seed + i`. Splits whose seeds overlap would share scenes."""

    name: str
    scenes: int
    first_seed: int
    kind: str = "full"  # of worlds: full, odd, unseen or plain


@dataclass(frozen=True)
class BuildConfig:
    """What to build. The same config gives the same content."""

    out: str
    splits: tuple[SplitConfig, ...] = (SplitConfig("train", 64, 0), SplitConfig("eval", 16, 1_000_000))
    scales: tuple[str, ...] = SCALES
    tasks: tuple[str, ...] = tuple(TASKS)  # those of DESCRIPTIONS add one of each per scene
    questions: int = 25  # at most, per scene, those of DESCRIPTIONS not counted
    objects: tuple[int, int] = OBJECTS  # least and most of a plain scene
    frames: int = 16
    size: tuple[int, int] = (448, 448)  # height, width in pixels
    seed: int = 0  # of the choice of questions; scenes depend on their own seeds alone
    told: float = TOLD  # share of comparisons that mark their objects where names alone would tell which is taller
    geometry: bool = False
    shard_scenes: int = 64  # of a file, and of the work that an interruption can lose
    workers: int | None = None  # processes; null is one for each core, up to 16, and one where there is little to do

    def __post_init__(self):
        if self.frames < 1 or min(self.size) < 16 or any(side % 2 for side in self.size):
            raise UserError(f"frames {self.frames}, size {self.size}: expected at least 1 frame and even sides of at least 16 pixels")
        if not self.splits or min(split.scenes for split in self.splits) < 1:
            raise UserError(f"splits: found {self.splits}, expected at least one split, each with at least 1 scene")
        if len({split.name for split in self.splits}) < len(self.splits):
            raise UserError(f"splits: found {[split.name for split in self.splits]}, expected different names")
        for split in self.splits:
            if split.kind not in KINDS:
                raise unknown(f"splits: {split.name}: kind", split.kind, KINDS)
            if not split.name.isidentifier():
                raise UserError(f"splits: found the name {split.name!r}, expected letters, digits and underscores")
        if not 1 <= self.objects[0] <= self.objects[1] <= OBJECTS[1]:
            raise UserError(f"objects {self.objects}: expected the least and the most of a scene, from 1 to {OBJECTS[1]}")
        for name in ("shard_scenes", "workers"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise UserError(f"{name}: found {value}, expected at least 1")
        if not 0 <= self.told <= 1:
            raise UserError(f"told {self.told:g}: expected a share, from 0 to 1")
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

    @property
    def sets(self) -> tuple[str, ...]:
        return ("scenes", "qa", "geom") if self.geometry else ("scenes", "qa")


def content(cfg: BuildConfig) -> dict[str, Any]:
    """The config as JSON values, without what does not change the content."""
    return {name: value for name, value in to_plain(cfg).items() if name not in NOT_CONTENT}


@dataclass(frozen=True)
class Unit:
    """Rows `first` to `stop` of a split: shard `shard` of `shards` of each of its sets."""

    split: SplitConfig
    shard: int
    shards: int
    first: int
    stop: int

    def specs(self, cfg: BuildConfig) -> Iterator[tuple[str, int]]:
        """(scale, seed) of the rows; a split holds one scale after another, each in the order of its seeds."""
        for row in range(self.first, self.stop):
            scale, i = divmod(row, self.split.scenes)
            yield cfg.scales[scale], self.split.first_seed + i

    def path(self, name: str) -> str:
        """The shard of the set `name`, in the dataset folder."""
        return f"{name}/{VERSION}/{name}-{self.split.name}.array_record-{self.shard:05d}-of-{self.shards:05d}"


def units(cfg: BuildConfig) -> list[Unit]:
    """Every unit of work, by the config alone: who makes them, and how many do, changes nothing."""
    found = []
    for split in cfg.splits:
        rows, size = split.scenes * len(cfg.scales), cfg.shard_scenes
        shards = -(-rows // size)
        found += [Unit(split, i, shards, i * size, min(rows, (i + 1) * size)) for i in range(shards)]
    return found
