"""What a run writes down while it trains, and what it shows.

runs/NAME/config.yaml      the resolved config
runs/NAME/metrics.jsonl    one line per logged step: {"step": 10, "loss": …}; names are TRL's where TRL has one
runs/NAME/tensorboard/     the same as TensorBoard event files

with RunLogger(run, cfg, start) as log, log.progress("sft", total, start) as bar:
    for step in …:
        bar.advance(step, metrics)              # device arrays; nothing waits for them
        if step % log_every == 0:
            log.write(step, bar.window())       # the one place where the host waits for the devices
"""

from __future__ import annotations

import contextlib
import json
import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from sv_jax.config import dump_config
from sv_jax.files import replacing, write_text

SHOWN = {"loss": "loss {:.4f}", "reward": "reward {:.3f}", "tokens_per_second": "{:,.0f} tok/s"}


class RunLogger:
    """Appends to the logs of a run folder; a line has left the process before `write` returns.

    `start` is the step that training continues from: later lines, which a killed run wrote after its last checkpoint, are dropped, and
    TensorBoard is told to forget them. 0 starts anew."""

    def __init__(self, run: str | Path, config: Any, start: int = 0):
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        run = Path(run)
        write_text(run / "config.yaml", dump_config(config))
        kept = [row for row in read_metrics(run) if row["step"] <= start]
        with replacing(run / "metrics.jsonl") as f:
            f.write("".join(json.dumps(row) + "\n" for row in kept).encode())
        self._last = kept[-1] if kept else {}
        self._lines = (run / "metrics.jsonl").open("a", encoding="utf-8", buffering=1)
        self._events = EventFileWriter(str(run / "tensorboard"))
        self._events.add_event(Event(wall_time=time.time(), step=start + 1, session_log=SessionLog(status=SessionLog.START)))

    def __enter__(self) -> RunLogger:
        return self

    def __exit__(self, *_) -> None:
        self._lines.close()
        self._events.close()

    def write(self, step: int, row: Mapping[str, Any]) -> None:
        """Write the metrics of one step, numbers or arrays of one. A value that is not finite is null in the file."""
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary

        row = {key: float(value) for key, value in row.items()}
        finite = {key: value if math.isfinite(value) else None for key, value in row.items()}
        self._lines.write(json.dumps({"step": step} | finite) + "\n")
        values = [Summary.Value(tag=key, simple_value=value) for key, value in row.items()]
        self._events.add_event(Event(wall_time=time.time(), step=step, summary=Summary(value=values)))

    def progress(self, title: str, total: int, start: int = 0) -> contextlib.AbstractContextManager[Bar]:
        """A bar whose `num_tokens` goes on from where the log stands."""
        return progress(title, total, start, float(self._last.get("num_tokens", 0)))


def read_metrics(run: str | Path) -> list[dict]:
    """The rows of `metrics.jsonl`; a last line that a killed run cut short is left out."""
    path = Path(run) / "metrics.jsonl"
    if not path.is_file():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines(keepends=True) if line.endswith("\n")]


@contextlib.contextmanager
def progress(title: str, total: int, start: int = 0, num_tokens: float = 0.0) -> Iterator[Bar]:
    """A bar on stderr with step, loss, tokens per second and time left. Away from a terminal, plain lines: one a window, or every tenth."""
    if not sys.stderr.isatty():
        yield Bar(total, start, num_tokens, lambda step, text: _print(f"{title} {step}/{total}  {text}"), plain=True)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = [TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[text]}"), TimeElapsedColumn()]
    with Progress(*columns, console=Console(stderr=True)) as shown:
        task = shown.add_task(title, total=total, completed=start, text="")
        yield Bar(total, start, num_tokens, lambda step, text: shown.update(task, completed=step, text=text), plain=False)


class Bar:
    """How far a loop is, and the metrics of its steps since the last window."""

    def __init__(self, total: int, start: int, num_tokens: float, draw: Callable[[int, str], None], plain: bool):
        self._total, self._draw, self._plain = total, draw, plain
        self._step, self._tokens, self._text = start, num_tokens, ""
        self._rows: list[Mapping[str, Any]] = []
        self._samples = 0
        self._began: tuple[int, float] | None = None  # step and time of the first advance: compiling comes before it
        self._mark = (start, 0.0)  # step and time of the last window

    def advance(self, step: int, metrics: Mapping[str, Any] | None = None, samples: int = 0) -> None:
        """`step` steps are done. `metrics` of the last one: numbers, device arrays of one number, or pairs (sum, count) of them."""
        tenth = step * 10 // self._total > self._step * 10 // self._total
        self._step = step
        self._samples += samples
        if metrics is not None:
            self._rows.append(metrics)
        if self._began is None:
            self._began = self._mark = (step, time.perf_counter())
        if not self._plain or (metrics is None and tenth):
            self._show()

    def window(self) -> dict[str, float]:
        """Means over the steps since the last window; `num_tokens` is the sum since the run began. Adds step_time (seconds a step),
        tokens_per_second and samples_per_second as soon as there is a step to time."""
        rows, samples = jax.device_get(self._rows), self._samples
        self._rows, self._samples = [], 0
        out = mean(rows)
        tokens = sum(float(row.get("num_tokens", 0)) for row in rows)
        if tokens:
            self._tokens += tokens
            out["num_tokens"] = self._tokens
        now, timed = time.perf_counter(), self._step - self._mark[0]
        if timed:
            out["step_time"] = (now - self._mark[1]) / timed
            per_second = 1 / (len(rows) * out["step_time"])
            out |= {f"{key}_per_second": n * per_second for key, n in [("tokens", tokens), ("samples", samples)] if n}
        self._mark = (self._step, now)
        self._text = "  ".join(text.format(out[key]) for key, text in SHOWN.items() if key in out)
        self._show()
        return out

    def _show(self) -> None:
        first, began = self._began
        text = self._text
        if done := self._step - first:
            rest = round((time.perf_counter() - began) / done * (self._total - self._step))
            text += f"  ETA {rest // 60}:{rest % 60:02d}"
        self._draw(self._step, text.strip())


def mean(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Mean of each key over the rows that have it. Pairs (sum, count) are added up before they are divided; a count of 0 gives NaN."""
    out = {}
    for key in dict.fromkeys(key for row in rows for key in row):
        values = [row[key] for row in rows if key in row]
        pairs = [(float(v[0]), float(v[1])) if isinstance(v, tuple) else (float(v), 1.0) for v in values]
        count = sum(n for _, n in pairs)
        out[key] = sum(total for total, _ in pairs) / count if count else math.nan
    return out


def _print(line: str) -> None:
    print(line.rstrip(), file=sys.stderr, flush=True)
