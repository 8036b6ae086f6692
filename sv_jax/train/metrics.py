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
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sv_jax.config import dump_config
from sv_jax.files import replacing, write_text
from sv_jax.progress import Bar, progress


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
