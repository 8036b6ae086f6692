"""`sv-jax data stats`: counts, balance and blind probes of a dataset folder."""

from __future__ import annotations

from pathlib import Path

from sv_jax.audit.blind import blind
from sv_jax.audit.facts import facts
from sv_jax.audit.questions import read


def stats(path: str | Path, split: str | None = None) -> dict:
    """Everything as JSON values, of one split or of all together: `facts`, and under "blind" what `blind` says."""
    asked = read(path, split)
    return facts(asked) | {"blind": blind([a.qa for a in asked])}
