"""What the parity tests of the towers share: random weights in a torch module, and the error of what comes out."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Error(NamedTuple):
    max: float
    mean: float


def error(got: np.ndarray, want: np.ndarray) -> Error:
    difference = np.abs(np.asarray(got, np.float64) - want)
    return Error(float(difference.max()), float(difference.mean()))


def randomise(module, seed: int = 0) -> None:
    """Gains near 1, matrices that keep the size of what they act on, biases that are not zero (zeros and ones hide what they multiply).
    All are values of bf16, so that f32 and bf16 runs have the same weights."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in module.named_parameters():
            gain = name.endswith(("weight", "lambda1"))
            centre, spread = (0.0, max(p[0].numel(), 1) ** -0.5) if p.ndim > 1 else (float(gain), 0.2)
            p.copy_((centre + spread * torch.randn(p.shape, generator=generator)).bfloat16())


def check(errors: dict[str, Error], exact: float) -> None:
    """Errors of f32, of bf16 and of transformers' own bf16 (`errors` of a tower's `parity.py`), all against transformers in f32.

    bf16 keeps 8 bits, so a rounding is up to 2^-9 of a value, and some forty follow on each other: outputs of order 1 are off by about
    √40 · 2^-9 ≈ 2^-6. Where we round is not where transformers does, but not more often: its own bf16 error bounds ours."""
    assert errors["float32"].max < exact
    ours, theirs = errors["bfloat16"], errors["transformers bfloat16"]
    assert ours.mean < 2**-6
    assert ours.mean < 1.1 * theirs.mean and ours.max < 1.5 * theirs.max
