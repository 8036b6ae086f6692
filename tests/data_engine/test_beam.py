"""The dataset build on Apache Beam's local runner."""

from __future__ import annotations

from functools import partial

import pytest

from sv_jax.data import BuildConfig, SplitConfig, beam, build
from sv_jax.errors import UserError

pytest.importorskip("apache_beam", reason="Apache Beam is not installed: its pins contradict constraints.txt (pip install 'sv-jax[beam]')")


@pytest.fixture
def config(tmp_path):
    splits = (SplitConfig("train", 3, 0, "plain"), SplitConfig("eval", 1, 50, "plain"))
    scales, tasks = ("tabletop", "indoor"), ("object_size", "counting")
    return BuildConfig(str(tmp_path / "beam"), splits, scales, tasks, frames=1, size=(56, 56), geometry=True, shard_scenes=4, workers=1)


def test_pipeline_gives_the_files_of_the_local_build(config, tmp_path):
    build(config, make=partial(beam.make_units, ["direct_num_workers=2"]))
    build(BuildConfig(**vars(config) | {"out": str(tmp_path / "local")}))
    made, local = (sorted(path for path in (tmp_path / name).rglob("*") if path.is_file()) for name in ("beam", "local"))
    assert [path.relative_to(tmp_path / "beam") for path in made] == [path.relative_to(tmp_path / "local") for path in local]
    assert [path.read_bytes() for path in made] == [path.read_bytes() for path in local]


@pytest.mark.parametrize(
    "option, message",
    [
        ("runer=DirectRunner", "found 'runer=DirectRunner', expected OPTION=VALUE.*did you mean 'runner=VALUE'"),
        ("runner", "found 'runner', expected OPTION=VALUE"),
        ("runner=Foo", "Unexpected pipeline runner: Foo"),
    ],
)
def test_wrong_options_are_named(config, option, message):
    with pytest.raises(UserError, match=message):
        build(config, make=partial(beam.make_units, [option]))
