"""The number that does best as the answer to every question, by mean relative accuracy (MRA)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sv_jax.rewards.answers import THRESHOLDS

TRIED = 8


def best_constant(values: Sequence[float] | np.ndarray) -> tuple[float, float]:
    """(number, its mean MRA on `values`).

    MRA counts, in tenths, the intervals v ± (1 - t) |v| that a guess lies in (± (1 - t) where v is 0), so the best guess is where the
    most of them overlap. Intervals that only touch overlap or not by rounding, so the TRIED best stretches are scored, at both ends of
    rounding and in the middle.
    """
    v = np.asarray(values, np.float64)
    half = np.where(v == 0, 1.0, np.abs(v))[:, None] * (1 - THRESHOLDS)
    starts, counts = np.unique(v[:, None] - half, return_counts=True)
    ends = np.sort((v[:, None] + half).ravel())
    ended = np.searchsorted(ends, starts, "left")  # intervals that end before each start
    guesses = []
    for i in np.argsort(ended - np.cumsum(counts), kind="stable")[:TRIED]:
        stop = min([ends[ended[i]], *starts[i + 1 : i + 2]])
        guesses += [(starts[i] + stop) / 2, starts[i], float(f"{starts[i]:.12g}")]
    return max(((float(guess), mean_mra(guess, v)) for guess in guesses), key=lambda pair: pair[1])


def mean_mra(guess: float, values: Sequence[float] | np.ndarray) -> float:
    """Mean MRA of one number as the answer to all: the mean of `rewards.answers.mra`, in the same float64 arithmetic."""
    v = np.asarray(values, np.float64)
    error = np.abs(guess - v) / np.where(v == 0, 1.0, np.abs(v))
    return float(np.mean(error[:, None] <= 1 - THRESHOLDS))
