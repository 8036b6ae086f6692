"""Builds in several processes, which are killed and run again."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sv_jax.config import load_config
from sv_jax.data import BuildConfig, build, workers
from sv_jax.data.config import units
from sv_jax.errors import UserError

ROOT = Path(__file__).parents[2]
FIELDS = "--scales tabletop,indoor --tasks object_size,counting --questions 2 --frames 1 --size 56,56 --shard-scenes 2 --geometry true"
FIELDS = [*FIELDS.split(), "--splits.0.scenes", "5", "--splits.1.scenes", "1"]
UNITS = 6


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> Path:
    """Made in one go, in this process."""
    out = tmp_path_factory.mktemp("data") / "set"
    cfg = load_config(BuildConfig, None, [*FIELDS, "--out", str(out), "--workers", "1"])
    assert len(units(cfg)) == UNITS
    build(cfg)
    return out


def start(out: Path) -> subprocess.Popen:
    command = [sys.executable, "-m", "sv_jax.cli", "data", "build", "--out", str(out), "--workers", "2", *FIELDS]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def finished(work: Path) -> dict[str, tuple[int, int]]:
    """Inode and time of the shards whose unit has a report."""
    done = [path.stem.rsplit("-", 1) for path in (work / "units").glob("[!.]*.json")]
    shards = [path for split, i in done for path in (work / "dataset").rglob(f"[!.]*-{split}.array_record-{i}-of-*")]
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in shards}


def test_killed_twice_and_run_again_by_two_workers_gives_the_bytes_of_one_undisturbed_process(undisturbed, tmp_path):
    out, work = tmp_path / "set", tmp_path / "set.unfinished"
    chance = random.Random()
    kept = {}
    for enough in (1, 3):
        process = start(out)
        while len(finished(work)) < 3 * enough and process.poll() is None:
            time.sleep(0.01)
        time.sleep(chance.uniform(0, 0.3))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL and not out.exists()
        wait_for_workers(work)
        assert kept.items() <= finished(work).items()
        kept = finished(work)
    process = start(out)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    assert contents(out) == contents(undisturbed)
    shards = {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in out.rglob("*.array_record-*")}
    assert len(kept) >= 9 and kept.items() <= shards.items()  # not made again
    assert not work.exists()


def wait_for_workers(work: Path) -> None:
    """Until the workers of a killed process, which hold its lock's folder open no longer, have noticed: nothing changes any more."""
    for _ in range(100):
        before = sorted(work.rglob("*"))
        time.sleep(0.2)
        if before == sorted(work.rglob("*")):
            return
    raise AssertionError("workers outlive the process that started them")


def test_worker_that_is_killed_is_named_and_the_build_goes_on_later(tmp_path, monkeypatch):
    cfg = load_config(BuildConfig, None, [*FIELDS, "--out", str(tmp_path / "set"), "--workers", "2"])
    monkeypatch.setattr(workers, "_make", die)
    with pytest.raises(UserError, match="workers 2: one was killed, .*run it again with fewer"):
        build(cfg)
    assert not (tmp_path / "set").exists()


def die(*_) -> None:
    os.kill(os.getpid(), signal.SIGKILL)
