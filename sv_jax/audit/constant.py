"""The number that does best as the answer to every question, by mean relative accuracy (MRA)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sv_jax.rewards.answers import THRESHOLDS, mra


def best_constant(values: Sequence[float] | np.ndarray) -> tuple[float, float]:
    """(number, its mean MRA on `values`), exact.

    MRA counts, in tenths, the intervals v ± (1 - t) |v| that a guess lies in (± (1 - t) where v is 0), so the best guess is where the
    most of them overlap. It is taken from the middle of that stretch, and its lower end, as rounding decides equality there.
    """
    v = np.asarray(values, np.float64)
    half = np.where(v == 0, 1.0, np.abs(v))[:, None] * (1 - THRESHOLDS)
    starts, ends = np.sort((v[:, None] - half).ravel()), np.sort((v[:, None] + half).ravel())
    ended = np.searchsorted(ends, starts, "left")  # intervals that end before each start
    best = int(np.argmax(np.searchsorted(starts, starts, "right") - ended))
    above = starts[starts > starts[best]]
    middle = (starts[best] + min([ends[ended[best]], *above[:1]])) / 2
    return max(((float(guess), mean_mra(guess, v)) for guess in (middle, starts[best])), key=lambda pair: pair[1])


def mean_mra(guess: float, values: Sequence[float] | np.ndarray) -> float:
    """Mean MRA of one number as the answer to all."""
    return float(np.mean([mra(float(guess), float(v)) for v in values]))
