"""Units of work in parallel processes, each of which starts JAX and compiles once."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import jax

from sv_jax.data.config import BuildConfig, Unit
from sv_jax.data.units import make_unit
from sv_jax.errors import UserError

WORTH = 20_000_000  # pixels of all frames for which it pays to start one more process
MOST = 16  # processes unless more are asked for: each takes about 0.6 GB and the compiler's time
AHEAD = 2  # units that are handed out for each process; the rest wait in the parent
POLL = 0.5  # seconds between two looks at the count of scenes


def make_units(cfg: BuildConfig, todo: list[Unit], work: Path, progress: Callable[[int], None]) -> None:
    """Make the units in `cfg.workers` processes, in this one if that is 1 or there is little to do.

    `progress` is given the number of scenes made."""
    pixels = sum(unit.stop - unit.first for unit in todo) * cfg.frames * cfg.size[0] * cfg.size[1]
    count = min(cfg.workers or min(cores(), MOST, pixels // WORTH), len(todo))
    if count > 1:
        return _spread(cfg, todo, work, progress, count, max(1, cores() // count))
    done = 0

    def step() -> None:
        nonlocal done
        done += 1
        progress(done)

    for unit in todo:
        make_unit(cfg, unit, work, step, cores())


def cores() -> int:
    """Those that this process may use, where the system says so."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _spread(cfg: BuildConfig, todo: list[Unit], work: Path, progress: Callable[[int], None], count: int, threads: int) -> None:
    context = multiprocessing.get_context("spawn")  # JAX has threads, which a fork does not survive
    done, stop = context.Value("q", 0), context.Event()
    cache = jax.config.jax_compilation_cache_dir, jax.config.jax_persistent_cache_min_compile_time_secs
    left, running = iter(todo), set()
    with ProcessPoolExecutor(count, context, _start, (threads, cache, done, stop)) as pool:
        try:
            while True:
                while len(running) < AHEAD * count and (unit := next(left, None)):
                    running.add(pool.submit(_make, cfg, unit, work, threads))
                if not running:
                    return
                finished, running = wait(running, POLL, FIRST_COMPLETED)
                for future in finished:
                    future.result()
                if done.value:  # whoever shows the time that is left starts to count with the first scene
                    progress(done.value)
        except BrokenProcessPool:
            raise UserError(f"workers {count}: one was killed, perhaps for want of memory; run it again with fewer to continue") from None
        finally:
            stop.set()
            pool.shutdown(cancel_futures=True)


class Stopped(Exception):
    """The parent wants no more scenes."""


def _start(threads: int, cache: tuple[str | None, float], done, stop) -> None:
    """Set up a worker: its share of the cores, the compilation cache of the parent, an end when the parent ends."""
    global _done, _stop
    _done, _stop = done, stop
    os.environ["NPROC"] = str(threads)  # the size of XLA's thread pool on a CPU
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # several processes share a GPU
    jax.config.update("jax_compilation_cache_dir", cache[0])
    jax.config.update("jax_persistent_cache_min_compile_time_secs", cache[1])
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to every process; the parent's `stop` ends the workers
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)


def _make(cfg: BuildConfig, unit: Unit, work: Path, threads: int) -> None:
    make_unit(cfg, unit, work, _step, threads)


def _step() -> None:
    if _stop.is_set():
        raise Stopped
    with _done.get_lock():
        _done.value += 1
