from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sv_jax.errors import UserError
from sv_jax.sampling.choose import choose, kept, sampling

V = 37
pick = jax.jit(choose, static_argnames="banned")
cut = jax.jit(kept)


def kept_numpy(logits, k, p):
    """The k largest, then the shortest run of them, in order of probability, whose sum reaches p."""
    order = np.argsort(-logits, kind="stable")
    order = order[: k or None]
    prob = np.exp(logits[order] - logits[order].max())
    prob /= prob.sum()
    n = len(order) if p >= 1 else int(np.searchsorted(np.cumsum(prob), p) + 1)
    mask = np.zeros(len(logits), bool)
    mask[order[:n]] = True
    return mask


@settings(deadline=None, max_examples=200)
@given(st.integers(0, 2**31), st.integers(0, V + 5), st.floats(0.01, 1.0))
def test_top_k_and_top_p_equal_numpy(seed, k, p):
    logits = (np.random.default_rng(seed).normal(size=V) * 3).astype(np.float32)
    ours = np.asarray(cut(jnp.asarray(logits), jnp.int32(k), jnp.float32(p)))
    theirs = kept_numpy(logits.astype(np.float64), k, np.float64(np.float32(p)))
    if (ours != theirs).any():  # only where the sum meets p to the last bit of f32
        prob = np.exp(logits - logits.max(), dtype=np.float64)
        assert abs(prob[ours & theirs].sum() / prob[kept_numpy(logits, k, 1.0)].sum() - p) < 1e-6


def test_samples_follow_the_cut_distribution():
    logits = np.random.default_rng(0).normal(size=V).astype(np.float32) * 2
    k, p, temperature, n = 10, 0.8, 0.7, 20_000
    params = sampling(1, stop=[0], temperature=temperature, top_k=k, top_p=p)
    tokens, _ = pick(jnp.broadcast_to(logits, (1, n, V)), params, jnp.int32(3), banned=(int(logits.argmax()),))
    allowed = logits.copy()
    allowed[logits.argmax()] = -np.inf
    expected = np.where(kept_numpy(allowed / temperature, k, p), np.exp(allowed / temperature), 0)
    expected /= expected.sum()
    seen = np.bincount(np.asarray(tokens)[0], minlength=V) / n
    assert set(np.flatnonzero(seen)) <= set(np.flatnonzero(expected))
    np.testing.assert_allclose(seen, expected, atol=5 * np.sqrt(0.25 / n))


def test_temperature_zero_is_greedy_and_rows_may_differ():
    logits = jnp.asarray(np.random.default_rng(1).normal(size=(3, 4, V)), jnp.float32)
    params = sampling(3, stop=[0], temperature=[0.0, 5.0, 0.0])
    tokens, logps = pick(logits, params, jnp.int32(0), banned=())
    best = np.asarray(logits.argmax(-1))
    assert (np.asarray(tokens)[[0, 2]] == best[[0, 2]]).all() and (np.asarray(tokens)[1] != best[1]).any()
    plain = np.asarray(jax.nn.log_softmax(logits))
    np.testing.assert_allclose(np.asarray(logps)[0], plain[0, np.arange(4), best[0]], atol=1e-6)


def test_banned_ids_are_never_chosen():
    logits = jnp.zeros((1, 500, 5)).at[..., 1].set(50.0)
    for temperature in (0.0, 1.0):
        tokens, _ = pick(logits, sampling(1, stop=[0], temperature=temperature), jnp.int32(0), banned=(1, 4, 99))
        assert not np.isin(np.asarray(tokens), (1, 4)).any()


def test_logps_are_of_the_whole_vocabulary_at_the_temperature():
    logits = jnp.asarray(np.random.default_rng(2).normal(size=(2, 3, V)), jnp.float32)
    params = sampling(2, stop=[0], temperature=[0.5, 2.0], top_k=3, top_p=0.5)
    tokens, logps = pick(logits, params, jnp.int32(0), banned=(1, 2))
    full = np.asarray(jax.nn.log_softmax(logits / jnp.array([0.5, 2.0])[:, None, None]))
    np.testing.assert_allclose(logps, np.take_along_axis(full, np.asarray(tokens)[..., None], -1)[..., 0], atol=1e-6)


def test_draws_depend_on_seed_prompt_sample_and_step_only():
    logits = jnp.zeros((2, 50, 1000))
    draw = lambda step=0, **kw: np.asarray(pick(logits, sampling(2, stop=[0], **kw), jnp.int32(step), banned=())[0])  # noqa: E731
    base = draw(prompt_ids=[7, 9])
    np.testing.assert_array_equal(base[::-1], draw(prompt_ids=[9, 7]))
    for other in (draw(step=1, prompt_ids=[7, 9]), draw(seed=1, prompt_ids=[7, 9]), draw(prompt_ids=[8, 10]), base[:, ::-1], base[::-1]):
        assert (base != other).mean() > 0.9


@pytest.mark.parametrize("bad", [{"temperature": -1.0}, {"temperature": float("nan")}, {"top_p": 0.0}, {"top_p": 1.5}, {"top_k": -1}])
def test_refuses_values_that_make_no_sense(bad):
    with pytest.raises(UserError, match=next(iter(bad))):
        sampling(2, stop=[0], **bad)
