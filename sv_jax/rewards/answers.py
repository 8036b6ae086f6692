"""How right an answer is, in [0, 1]: mean relative accuracy, relative error, ROUGE. Host arithmetic in float64."""

from __future__ import annotations

import math
import re
from collections import Counter

import numpy as np

THRESHOLDS = np.linspace(0.5, 0.95, 10)


def relative_error(pred: float, truth: float) -> float:
    """|pred - truth| / |truth|; the absolute error when the truth is 0; infinite when either is not a finite number."""
    if not (math.isfinite(pred) and math.isfinite(truth)):
        return math.inf
    return abs(pred - truth) / abs(truth) if truth else abs(pred)


def mra(pred: float, truth: float) -> float:
    """Mean relative accuracy: the share of thresholds t in linspace(0.5, 0.95, 10) with relative error <= 1 - t, in float64 as written
    (rounding decides equality at the edges). 0 for a prediction that is not finite."""
    return float(np.mean(relative_error(pred, truth) <= 1 - THRESHOLDS))


def relative(pred: float, truth: float) -> float:
    """1 - relative error, at least 0 (Video-R1's regression reward; unlike there, nan earns nothing)."""
    return 1.0 - min(1.0, relative_error(pred, truth))


def rouge(pred: str, truth: str) -> float:
    """Mean F of ROUGE-1, ROUGE-2 and ROUGE-L over lower-case alphanumeric words, without stemming."""
    a, b = (re.findall(r"[a-z0-9]+", s.lower()) for s in (pred, truth))
    one = _f((Counter(a) & Counter(b)).total(), len(a), len(b))
    two = _f((Counter(zip(a, a[1:], strict=False)) & Counter(zip(b, b[1:], strict=False))).total(), len(a) - 1, len(b) - 1)
    return (one + two + _f(_lcs(a, b), len(a), len(b))) / 3


def _f(hits: int, n_pred: int, n_truth: int) -> float:
    return 2 * hits / (n_pred + n_truth) if hits else 0.0


def _lcs(a: list[str], b: list[str]) -> int:
    row = [0] * (len(b) + 1)
    for x in a:
        previous = row
        row = [0]
        for j, y in enumerate(b):
            row.append(previous[j] + 1 if x == y else max(previous[j + 1], row[j]))
    return row[-1]
