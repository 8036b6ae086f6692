"""What a verb of `sv-jax` is."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Verb:
    """`summary` is its line in the overview, `teach` the examples of its --help. With `config` (which imports and returns a dataclass) the
    verb takes --config FILE and every field by its dotted name; `run` then finds the result in `args.config`. `presets` is a folder in
    configs/, whose files --preset names."""

    summary: str
    teach: str
    run: Callable[[argparse.Namespace], None]
    arguments: Callable[[argparse.ArgumentParser], None] = lambda parser: None
    config: Callable[[], type] | None = None
    presets: str | None = None
    compiles: bool = False  # count compilations, and say at the end what was compiled; the demo does so itself
