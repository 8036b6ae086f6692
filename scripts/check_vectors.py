"""Check our code against a folder of vectors that the reference libraries made: transformers, peft, trl and the released fusion code.

    python scripts/check_vectors.py DIR

A line per file: how many cases, the worst error, its tolerance; below it what missed. The exit status is 1 when a case misses or cannot be
run, or a file of the format is not there. Nothing depends on the names, number or sizes of the cases: any seed will do.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

os.environ.setdefault("JAX_PLATFORMS", "cpu")  # full f32 products, whatever accelerator there is
sys.path.insert(0, str(Path(__file__).parents[1]))

from scripts.vectors import adapters, inputs, rl, towers  # noqa: E402  after the path and the environment are set
from scripts.vectors.common import Cases  # noqa: E402


class Check(NamedTuple):
    cases: Callable[[Path], Cases]
    tolerance: float
    left_out: str = ""  # what the file holds and we do not offer


LEFT_OUT = "luspo, sapo, vespo"
# By the file that holds what is expected.
CHECKS = {
    "rope_index.npz": Check(inputs.rope_index, 0),  # integers
    "smart_resize.json": Check(inputs.smart_resize_sizes, 0),  # integers
    "frame_sampling.json": Check(inputs.frame_sampling, 1e-9),  # indices, and rates in f64
    "patches.npz": Check(inputs.patches, 1e-6),  # bytes; and pixels up to 2.7, where transformers may round once more: 2^-22
    "tower.npz": Check(towers.tower, 5e-6),  # indices; and sines of f32 angles, times queries and keys of order 4: a few 2^-22
    "fusion.npz": Check(towers.fusion, 1e-5),  # f32 sums of a few hundred products of order 1, in another order
    "lora_merge.npz": Check(adapters.lora_merge, 1e-5),  # the same, of a few products
    "xlora.npz": Check(adapters.xlora, 1e-5),  # the same, through two layers
    "grpo_losses.npz": Check(rl.grpo_losses, 1e-8, LEFT_OUT),  # f64, from f32 inputs
    "grpo_losses.json": Check(rl.grpo_metrics, 1e-6, LEFT_OUT),  # the metrics, which the trainer keeps in f32
    "advantages.json": Check(rl.advantages_of, 1e-6, "normalize_then_sum"),  # f64, but trl rounds n/(n-1) to f32; up to sqrt(n)
}


def run(check: Check, folder: Path) -> tuple[int, float, list[str]]:
    """-> (cases, worst error, a line for each case that missed)."""
    count, worst, missed = 0, 0.0, []
    for name, case in check.cases(folder):
        count += 1
        try:
            error = case()
        except Exception as problem:  # whatever stops a case is that case's miss, not the end of the check
            error, name = np.inf, f"{name}: {type(problem).__name__}: {problem}"
        worst = max(worst, error)
        if error > check.tolerance:
            missed.append(f"{name}: {error:.3g}" if np.isfinite(error) else name)
    return count, worst, missed if count else ["no cases"]


def main(folder: Path) -> int:
    status = 0
    for file, check in CHECKS.items():
        try:
            count, worst, missed = run(check, folder)
        except (OSError, KeyError, ValueError) as problem:  # no such file, or none of this format
            count, worst, missed = 0, np.inf, [f"{type(problem).__name__}: {problem}"]
        left_out = f"  without {check.left_out}" if check.left_out else ""
        verdict = "MISS" if missed else "ok"
        print(f"{verdict:4}  {file:20} {count:4} cases  worst {worst:<8.2g} tolerance {check.tolerance:.0e}{left_out}")
        print("".join(f"      {line}\n" for line in missed), end="")
        status |= bool(missed)
    return status


if __name__ == "__main__":
    if len(sys.argv) != 2 or not Path(sys.argv[1]).is_dir():
        sys.exit(f"usage: {sys.argv[0]} DIR, a folder of vectors")
    sys.exit(main(Path(sys.argv[1])))
