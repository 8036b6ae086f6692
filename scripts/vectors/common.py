"""What the checks share: a check is a generator of (name of a case, what computes its error)."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

Cases = Iterator[tuple[str, Callable[[], float]]]


def difference(got, want) -> float:
    """Largest absolute difference; a wrong shape is an error of its own, a NaN is never near anything."""
    got, want = np.asarray(got), np.asarray(want)
    if got.shape != want.shape:
        raise ValueError(f"shape {list(got.shape)}, expected {list(want.shape)}")
    worst = np.abs(got.astype(np.float64) - want.astype(np.float64)).max(initial=0.0)
    return float(np.nan_to_num(worst, nan=np.inf))


def group(arrays, depth: int) -> dict[str, dict[str, np.ndarray]]:
    """{"a/b/c": x} -> {"a": {"b/c": x}} at depth 1, {"a/b": {"c": x}} at depth 2."""
    out: dict[str, dict[str, np.ndarray]] = {}
    for key in arrays:
        parts = key.split("/")
        out.setdefault("/".join(parts[:depth]), {})["/".join(parts[depth:])] = arrays[key]
    return out
