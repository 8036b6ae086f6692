"""Builds that are stopped, killed and run again."""

from __future__ import annotations

import fcntl
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from sv_jax.config import load_config
from sv_jax.data import BuildConfig, build, workers
from sv_jax.data.config import units
from sv_jax.errors import UserError

ROOT = Path(__file__).parents[2]
FIELDS = "--scales tabletop,indoor --tasks object_size,counting --questions 2 --frames 1 --size 56,56 --shard-scenes 2 --geometry true"
FIELDS = [*FIELDS.split(), "--splits.0.scenes", "5", "--splits.1.scenes", "1", "--splits.0.kind", "plain", "--splits.1.kind", "plain"]
UNITS = 6


@pytest.fixture
def config(tmp_path) -> BuildConfig:
    return load_config(BuildConfig, None, [*FIELDS, "--out", str(tmp_path / "set"), "--workers", "1"])


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> Path:
    """Made in one go, in this process."""
    out = tmp_path_factory.mktemp("data") / "set"
    cfg = load_config(BuildConfig, None, [*FIELDS, "--out", str(out), "--workers", "1"])
    assert len(units(cfg)) == UNITS
    build(cfg)
    return out


def start(out: Path, workers: int) -> subprocess.Popen:
    command = [sys.executable, "-m", "sv_jax.cli", "data", "build", "--out", str(out), "--workers", str(workers), *FIELDS]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def finished(work: Path) -> dict[str, tuple[int, int]]:
    """Inode and time of the shards whose unit has a report."""
    done = [path.stem.rsplit("-", 1) for path in (work / "units").glob("[!.]*.json")]
    shards = [path for split, i in done for path in (work / "dataset").rglob(f"[!.]*-{split}.array_record-{i}-of-*")]
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in shards}


def test_killed_twice_and_run_again_by_one_worker_or_two_gives_the_bytes_of_an_undisturbed_build(undisturbed, tmp_path):
    out, work = tmp_path / "set", tmp_path / "set.unfinished"
    kept = {}
    for enough, count in ((1, 1), (3, 2)):
        process = start(out, count)
        while len(finished(work)) < 3 * enough and process.poll() is None:
            time.sleep(0.01)
        time.sleep(random.uniform(0, 0.2))
        process.kill()
        process.communicate(timeout=300)  # ends when the workers have, which hold the other end of its stderr
        assert process.returncode == -signal.SIGKILL and not out.exists()
        assert kept.items() <= finished(work).items()
        kept = finished(work)
    process = start(out, 1)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    assert contents(out) == contents(undisturbed)
    shards = {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in out.rglob("*.array_record-*")}
    assert len(kept) >= 9 and kept.items() <= shards.items()  # not made again
    assert not work.exists()


def test_worker_that_is_killed_is_named(config, monkeypatch):
    monkeypatch.setattr(workers, "_make", die)
    with pytest.raises(UserError, match="workers 2: one was killed, .*run it again with fewer"):
        build(replace(config, workers=2))
    assert not Path(config.out).exists()


def die(*_) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_stopped_build_leaves_no_dataset_and_is_continued(config, undisturbed, tmp_path):
    stopped_after(config, 3)
    work = tmp_path / "set.unfinished"
    assert [path.name for path in tmp_path.iterdir()] == [work.name]
    (work / "dataset" / "qa" / "1.0.0" / ".half.0").touch()  # what a process that is killed leaves
    with pytest.raises(UserError, match="set.unfinished' holds an unfinished build with seed 0, expected 3; finish it"):
        build(replace(config, seed=3))
    seen = []
    build(config, lambda done, total: seen.append((done, total)))
    assert seen[0] == (3, 12)  # the first shard of two scenes was kept
    assert contents(Path(config.out)) == contents(undisturbed)
    assert not work.exists()


def test_shard_that_was_cut_short_is_made_again(config, undisturbed, tmp_path):
    stopped_after(config, 3)
    shard = tmp_path / "set.unfinished" / "dataset" / "scenes" / "1.0.0" / "scenes-train.array_record-00000-of-00005"
    shard.write_bytes(shard.read_bytes()[:1000])
    build(config)
    assert contents(Path(config.out)) == contents(undisturbed)


def test_build_that_finished_no_shard_claims_nothing(config, undisturbed):
    stopped_after(replace(config, seed=3, shard_scenes=12), 1)
    (Path(f"{config.out}.unfinished") / "dataset" / "qa" / "1.0.0" / "qa-train.array_record-00000-of-00001").touch()
    build(config)
    assert contents(Path(config.out)) == contents(undisturbed)


def stopped_after(cfg: BuildConfig, scenes: int) -> None:
    def stop(done, total):
        if done == scenes:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(cfg, stop)


def test_two_processes_do_not_build_one_folder(config, tmp_path):
    (tmp_path / "set.unfinished").mkdir()
    with (tmp_path / "set.unfinished" / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(UserError, match="another process is building it, in '.*set.unfinished'"):
            build(config)
