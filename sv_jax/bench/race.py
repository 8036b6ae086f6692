"""Races against the peers of `scripts/peers`: each side a process of its own, warmed up, then timed call by call in turn."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import NamedTuple

from sv_jax.bench.cases import PEERS, SUITES
from sv_jax.errors import UserError
from sv_jax.progress import progress

SAME = ("case", "config", "dtype", "tokens_per_call")  # of the two sides' lines, or they did different work
# 2 MB pages, which the peers use too; glibc reads it when a process starts
ENVIRONMENT = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}


class Race(NamedTuple):
    """Seconds of the calls of both sides, in pairs from the same moments."""

    case: str
    config: str
    dtype: str
    ours: list[float]
    peer: list[float]

    @property
    def ratio(self) -> float:
        """Peer's time over ours, of the medians: above 1 we are faster."""
        return statistics.median(self.peer) / statistics.median(self.ours)

    def as_json(self) -> dict:
        rounds = [p / o for o, p in zip(self.ours, self.peer, strict=True)]
        return self._asdict() | {"ratio": self.ratio, "ratio_min": min(rounds), "ratio_max": max(rounds)}

    def as_row(self) -> str:
        out, ms = self.as_json(), [f"{statistics.median(side) * 1e3:.0f} ({min(side) * 1e3:.0f})" for side in (self.ours, self.peer)]
        spread = f"{out['ratio_min']:.2f}–{out['ratio_max']:.2f}"
        return f"{self.case:14} {self.config:6} {self.dtype:5} {ms[0]:>14} {ms[1]:>14} {self.ratio:7.2f}  {spread}"


HEAD = f"{'case':14} {'config':6} {'dtype':5} {'ours ms (best)':>14} {'peer ms (best)':>14} {'ratio':>7}  rounds"


def race_suite(suite: str, config: str, dtypes: Sequence[str], rounds: int) -> Iterator[Race]:
    """Race every case of a suite, one after the other."""
    work = [(case, dtype) for case in SUITES[suite] for dtype in dtypes]
    with progress("races", len(work)) as bar:
        for done, (case, dtype) in enumerate(work, 1):
            yield race(case, config, dtype, rounds)
            bar.advance(done)


def race(case: str, config: str, dtype: str, rounds: int) -> Race:
    """Calls of ours and of the peer in turn, the first of a round alternating. Raises UserError when a side fails or did other work."""
    options = ["--config", config, "--dtype", dtype, "--serve"]
    commands = {
        "ours": [sys.executable, "-m", "sv_jax.cli", "bench", "--case", case, *options],
        "peer": [sys.executable, str(PEERS / f"{case}.py"), *options],
    }
    times, last = {"ours": [], "peer": []}, {}
    with ExitStack() as stack:
        sides = {who: stack.enter_context(_served(who, command)) for who, command in commands.items()}
        for side in sides.values():
            next(side)  # it is warm
        for n in range(rounds):
            for who in sorted(sides, reverse=n % 2 == 1):
                last[who] = sides[who].send("go")
                times[who].append(last[who]["seconds_per_call"])
    for field in SAME:
        if last["ours"][field] != last["peer"][field]:
            raise UserError(f"{case}: not the same work: {field} is {last['ours'][field]} for ours and {last['peer'][field]} for the peer")
    return Race(case, config, dtype, **times)


@contextmanager
def _served(who: str, command: list[str]):
    """A side as a generator: it yields the first line it prints, and for each line sent to it the next one."""
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ | ENVIRONMENT) as process:

        def answers():
            for line in process.stdout:
                if line.startswith("{"):
                    asked = yield json.loads(line)
                    print(asked, file=process.stdin, flush=True)
            raise UserError(f"{who} ended with code {process.wait()} before it answered: {' '.join(command)}")

        try:
            yield answers()
        finally:
            process.kill()
