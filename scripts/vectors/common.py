"""What the checks share: a check is a generator of (name of a case, what computes its error)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import jax
import numpy as np

from sv_jax.weights.names import Slot, name_faults
from sv_jax.weights.official import constant
from sv_jax.weights.safetensors_io import raise_faults
from sv_jax.weights.stream import read_leaves

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


def leaves_of(wanted: Sequence[Slot], values: Mapping[str, np.ndarray], shapes: Mapping[str, tuple[int, ...]]) -> dict[str, jax.Array]:
    """Our leaves {path: array} out of their tensors: each slot must be filled, each tensor used."""
    tensors = {name: constant(value) for name, value in values.items()}
    raise_faults(name_faults(tensors, wanted), "vectors")
    return read_leaves({path: shapes[path] for slot in wanted for path in slot.paths}, wanted, tensors, None, None, "vectors")
