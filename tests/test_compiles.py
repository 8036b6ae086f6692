"""Every compilation is counted once, by name and shapes, whether XLA made the program or the persistent cache had it."""

from __future__ import annotations

import logging

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax._src import compilation_cache

from sv_jax import compiles as compiles_module
from sv_jax.compiles import counting, describe, persistent_cache


def by_name(compiles) -> dict[str, int]:
    return {f"{name} {shapes}": n for (name, shapes, _), n in compiles.programs.items()}


def double(x):
    return 2 * x


def test_a_program_counts_once_per_shape():
    step = jax.jit(double)
    with counting() as compiles:
        for size in (3, 3, 4, 3, 4):
            step(np.ones(size, np.float32))
    step(np.ones(5, np.float32))  # after the block
    assert by_name(compiles) == {"double (float32[3])": 1, "double (float32[4])": 1}
    assert compiles.total == 2 and not compiles.repeated and compiles.seconds > 0
    assert compiles.report().startswith("2 compilations of 2 programs in ") and compiles.report().endswith("; 0 compiled again")


def test_compiling_the_same_program_again_is_reported():
    with counting() as compiles:
        for _ in range(3):
            jax.jit(lambda x: x * 3)(np.ones(3, np.float32))
    assert compiles.total == 3 and list(compiles.repeated.values()) == [3]
    assert "  3 times <lambda> (float32[3])" in compiles.report()


def test_programs_of_one_name_and_shape_but_other_contents_are_not_the_same():
    with counting() as compiles:
        jax.jit(lambda x: x + 3)(np.ones(3, np.float32))
        jax.jit(lambda x: x - 3)(np.ones(3, np.float32))
    assert compiles.total == 2 and not compiles.repeated


def test_a_program_from_the_persistent_cache_counts_too(tmp_path, monkeypatch):
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    before = jax.config.jax_compilation_cache_dir
    try:
        persistent_cache(tmp_path)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
        compilation_cache.reset_cache()
        totals = []
        for _ in range(2):
            jax.clear_caches()
            with counting() as compiles:
                jax.jit(double)(np.ones(6, np.float32))
            totals.append(by_name(compiles))
        assert totals == [{"double (float32[6])": 1}] * 2
        assert list(tmp_path.glob("jit_double-*"))
    finally:
        persistent_cache(before)
        compilation_cache.reset_cache()


def test_each_compilation_is_logged_and_jax_itself_says_no_more_than_before(caplog, monkeypatch):
    monkeypatch.setattr(compiles_module, "SLOW", 0.0)
    with caplog.at_level(logging.INFO), counting():
        jax.jit(double)(np.ones(7, np.float32))
    assert [r.name for r in caplog.records] == ["sv_jax.compiles"]
    assert caplog.records[0].message.startswith("compiled double (float32[7]) in ")
    assert logging.getLogger("jax._src.interpreters.pxla").level == logging.NOTSET


def test_long_argument_lists_are_cut_but_told_apart():
    arrays = [jax.typeof(jnp.ones((i, 2))) for i in range(8)]
    short, other = describe(arrays), describe(arrays[::-1])
    assert short.startswith("(float32[0,2], float32[1,2], float32[2,2], float32[3,2], … 8 arrays, ") and short[-7:] != other[-7:]
    assert describe(arrays[:1] * 3) == "(float32[0,2] x 3)"


def test_the_cache_lies_in_the_users_cache_folder_unless_jax_is_told_otherwise(monkeypatch):
    before = jax.config.jax_compilation_cache_dir
    try:
        monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
        monkeypatch.setenv("XDG_CACHE_HOME", "/x")
        persistent_cache()
        assert jax.config.jax_compilation_cache_dir == "/x/sv-jax/jax"
        monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "/y")
        persistent_cache()
        assert jax.config.jax_compilation_cache_dir == "/y"
    finally:
        monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
        persistent_cache(before)


@pytest.fixture(autouse=True)
def fresh():
    jax.clear_caches()
