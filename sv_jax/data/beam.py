"""Units of work on Apache Beam: a runner spreads them over machines, which write their shards into one folder that all of them see."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from sv_jax.data.config import BuildConfig, Unit
from sv_jax.data.units import make_unit, read_report
from sv_jax.data.workers import cores
from sv_jax.errors import UserError


def make_units(options: Sequence[str], cfg: BuildConfig, todo: list[Unit], work: Path, progress: Callable[[int], None]) -> None:
    """Make the units by a pipeline with `options`, as in `["runner=FlinkRunner", "parallelism=8"]`; the local runner by default.

    A unit that a runner starts again, or twice, gives the same files. UserError for options that Beam does not know."""
    try:
        import apache_beam as beam
    except ImportError as error:
        raise UserError(
            f"--beam: Apache Beam cannot be imported ({error}); pip install 'sv-jax[beam]', in an environment of its own"
        ) from None
    flags = beam.options.pipeline_options.PipelineOptions(_flags(options, beam))
    try:
        pipeline = beam.Pipeline(options=flags)
    except ValueError as error:
        raise UserError(f"--beam: {error}") from None
    with pipeline:
        _ = pipeline | beam.Create(todo) | beam.Reshuffle() | beam.Map(partial(_make, cfg, work.resolve()))
    if missing := [unit for unit in todo if read_report(work, unit) is None]:
        found = f"{len(missing)} of {len(todo)} shards are not in {str(work)!r}"
        raise UserError(f"--beam: {found}; expected a folder that every machine of the runner shares")
    progress(sum(unit.stop - unit.first for unit in todo))


def _flags(options: Sequence[str], beam) -> list[str]:
    known = beam.options.pipeline_options.PipelineOptions([]).get_all_options()
    for option in options:
        name, equals, _ = option.partition("=")
        if name not in known or not equals:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean '{near[0]}=VALUE'?" if near else ""
            raise UserError(f"--beam: found {option!r}, expected OPTION=VALUE with one of Beam's pipeline options{hint}")
    return [f"--{option}" for option in options]


def _make(cfg: BuildConfig, work: Path, unit: Unit) -> None:
    make_unit(cfg, unit, work, lambda: None, cores())
