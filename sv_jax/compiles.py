"""Counting XLA compilations: a run should compile each program once per shape and never again.

    with counting() as compiles:
        train()
    print(compiles.report())

A program that JAX reads from its persistent cache counts as well: on another machine it would have been compiled. Two programs are the
same when name, shapes and contents are.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import jax

log = logging.getLogger(__name__)

COMPILED = "/jax/core/compile/backend_compile_duration"
# Debug messages of JAX, by logger: the only places where it states a program's shapes and its cache key.
LOWERING, CACHING = "jax._src.interpreters.pxla", "jax._src.compiler"
SHOWN = 4  # kinds of arrays named in a line
SLOW = 0.5  # seconds of compiling that are worth a line at level INFO

Program = tuple[str, str, str]  # name, shapes, key of the contents


@dataclass
class Compiles:
    """`programs` counts compilations; `seconds` is the time that they took together."""

    programs: Counter[Program] = field(default_factory=Counter)
    seconds: float = 0.0

    @property
    def total(self) -> int:
        return self.programs.total()

    @property
    def repeated(self) -> dict[Program, int]:
        """The programs that were compiled more than once."""
        return {program: n for program, n in self.programs.items() if n > 1}

    def report(self) -> str:
        """The counts in a line, then a line for each program that was compiled again."""
        lines = [f"{self.total} compilations of {len(self.programs)} programs in {self.seconds:.1f} s; {len(self.repeated)} compiled again"]
        return "\n".join(lines + [f"  {n} times {name} {shapes}" for (name, shapes, _), n in self.repeated.items()])


@contextlib.contextmanager
def counting() -> Iterator[Compiles]:
    """Count and log every compilation of this process while the block runs: at level INFO if it was slow, else DEBUG."""
    compiles, lock = Compiles(), threading.Lock()
    seen = threading.local()  # a thread lowers, looks a program up and compiles it in this order

    def on_message(record: logging.LogRecord) -> None:
        args, text = record.args, str(record.msg)
        if text.startswith("Compiling %s with global shapes"):
            seen.lowered = {**getattr(seen, "lowered", {}), _plain(args[0]): describe(args[1])}
        elif "compilation cache" in text.lower() and "with key" in text:
            seen.key = str(args[1])

    def on_event(event: str, seconds: float, fun_name: str = "", **_) -> None:
        if event == COMPILED:
            name = _plain(fun_name)
            shapes, key = getattr(seen, "lowered", {}).get(name, ""), getattr(seen, "key", "")
            seen.key = ""
            with lock:
                compiles.programs[name, shapes, key] += 1
                compiles.seconds += seconds
            log.log(logging.INFO if seconds >= SLOW else logging.DEBUG, "compiled %s %s in %.2f s", name, shapes, seconds)

    with _listening(LOWERING, on_message), _listening(CACHING, on_message):
        jax.monitoring.register_event_duration_secs_listener(on_event)
        try:
            yield compiles
        finally:
            jax.monitoring.unregister_event_duration_listener(on_event)


@contextlib.contextmanager
def _listening(name: str, listener) -> Iterator[None]:
    """Hand a logger's debug messages to `listener` without letting through what would not have been shown."""
    source = logging.getLogger(name)
    level, shown = source.level, source.getEffectiveLevel()

    def listen(record: logging.LogRecord) -> bool:
        listener(record)
        return record.levelno >= shown

    source.addFilter(listen)
    source.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        source.removeFilter(listen)
        source.setLevel(level)


def describe(avals) -> str:
    """Abstract arrays as `(float32[8,4] x 2, int32[8])`; a long list is cut and told apart by a hash of the whole."""
    kinds = Counter(aval.str_short() for aval in avals)
    named = [kind if n == 1 else f"{kind} x {n}" for kind, n in kinds.items()]
    if len(named) > SHOWN:
        whole = hashlib.sha256(repr([aval.str_short() for aval in avals]).encode()).hexdigest()[:6]
        named = [*named[:SHOWN], f"… {len(avals)} arrays, {whole}"]
    return f"({', '.join(named)})"


def persistent_cache(folder: str | Path | None = None) -> None:
    """Keep compiled programs that took a second or more on disk: in JAX_COMPILATION_CACHE_DIR, `folder` or the user's cache folder."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    jax.config.update("jax_compilation_cache_dir", os.environ.get("JAX_COMPILATION_CACHE_DIR") or str(folder or home / "sv-jax" / "jax"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 1.0)


def _plain(name: str) -> str:
    """`jit(step)` and `jit_step` are the same program."""
    return name[4:-1] if name.startswith("jit(") else name.removeprefix("jit_")
