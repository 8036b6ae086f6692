"""Progress of long work on stderr: a bar on a terminal, plain lines elsewhere, and the means of what its steps measured."""

from __future__ import annotations

import contextlib
import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax

SHOWN = {"loss": "loss {:.4f}", "reward": "reward {:.3f}", "tokens_per_second": "{:,.0f} tok/s"}


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
