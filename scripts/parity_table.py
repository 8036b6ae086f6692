"""Write docs/parity.md: how far our logits and features are from transformers', by variant and dtype.

    python scripts/parity_table.py [--out docs/parity.md]

The variants are those of the parity tests: small random models with the structure of each released size.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")
ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

import jax  # noqa: E402  after the environment is set
import torch  # noqa: E402
import transformers  # noqa: E402

from sv_jax.files import write_text  # noqa: E402
from tests.models.dinov3 import parity as dinov3  # noqa: E402
from tests.models.qwen2_5_vl import parity as qwen  # noqa: E402
from tests.parity import Error  # noqa: E402

TEXT = """\
# Parity with transformers

Largest and mean absolute difference from transformers in float32, on the same random weights (values of bfloat16): of sv-jax in float32, of
sv-jax in bfloat16, and of transformers itself in bfloat16. A variant has the structure of the released size of its name — ratio of heads,
tied head, gated MLP, absent biases, registers — with small widths and few layers.

The tests hold these bounds: float32 1e-4 on logits, 2e-5 on features; bfloat16 on average 2^-6 and 1.1 times what transformers loses, at
most 1.5 times. bfloat16 keeps 8 bits, and roundings that follow on each other add up to about 2^-6 on outputs of order 1, there as here.

Made by `python scripts/parity_table.py` with jax {jax}, transformers {transformers}, torch {torch} on the CPU.

## Qwen2.5-VL: logits of a prompt of two images and two videos

{qwen}
## DINOv3: patch features of frames of several sizes

{dinov3}"""
HEAD = """\
| variant | float32 max | mean | bfloat16 max | mean | transformers bfloat16 max | mean |
|---|---|---|---|---|---|---|
"""


def table(variants: Iterable[str], errors: Callable[[str], dict[str, Error]]) -> str:
    rows = []
    for name in variants:
        found = errors(name)
        numbers = (f"{n:.1e}" for dtype in ("float32", "bfloat16", "transformers bfloat16") for n in found[dtype])
        rows.append(f"| {name} | {' | '.join(numbers)} |\n")
    return HEAD + "".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default=ROOT / "docs" / "parity.md", type=Path, help="the Markdown file to write")
    args = parser.parse_args()
    tables = {name: table(tower.VARIANTS, tower.errors) for name, tower in (("qwen", qwen), ("dinov3", dinov3))}
    versions = {module.__name__: module.__version__ for module in (jax, transformers, torch)}
    args.out.parent.mkdir(parents=True, exist_ok=True)
    write_text(args.out, TEXT.format(**tables, **versions))
    print(args.out)


if __name__ == "__main__":
    main()
