"""The chunked loss is the plain one, in value and gradient, without its memory."""

from __future__ import annotations

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sv_jax.train.loss import sft_loss, token_logps

N, D, V, CHUNK = 70, 12, 101, 16  # N is no multiple of the chunk


def arrays(seed: int = 0):
    rng = np.random.default_rng(seed)
    hidden, kernel = (jnp.asarray(rng.standard_normal(shape, np.float32)) for shape in ((N, D), (D, V)))
    return hidden, kernel, jnp.asarray(rng.integers(0, V, N), jnp.int32)


def plain(hidden, kernel, ids, temperature=1.0):
    """(log-probability, entropy, is the mode) of every token at once."""
    logits = hidden @ kernel / temperature
    logp = logits - jax.scipy.special.logsumexp(logits, axis=-1, keepdims=True)
    return logp[jnp.arange(len(ids)), ids], -(jnp.exp(logp) * logp).sum(-1), (logits.argmax(-1) == ids).astype(jnp.float32)


@pytest.mark.parametrize("temperature", [1.0, 0.6])
@pytest.mark.parametrize("chunk", [CHUNK, 1024])
def test_chunked_log_probabilities_equal_the_plain_ones(chunk, temperature):
    got, want = token_logps(*arrays(), temperature, chunk), plain(*arrays(), temperature)
    for a, b in zip(got, want, strict=True):
        assert a.dtype == jnp.float32 and a.shape == (N,)
        np.testing.assert_allclose(a, b, atol=1e-5)
    assert 0 < got[2].sum() < N


def test_the_gradient_of_values_and_entropies_equals_the_plain_one():
    hidden, kernel, ids = arrays()
    weights = np.random.default_rng(1).standard_normal((2, N), np.float32)

    def total(f, *args):
        return jax.grad(lambda h, k: sum((w * x).sum() for w, x in zip(weights, f(h, k, ids, *args)[:2], strict=True)), (0, 1))

    chunked, whole = total(token_logps, 0.8, CHUNK)(hidden, kernel), total(plain, 0.8)(hidden, kernel)
    for a, b in zip(chunked, whole, strict=True):
        np.testing.assert_allclose(a, b, atol=2e-5)


def largest(program: str) -> int:
    """Elements of the largest array with an axis of length V in a compiled program."""
    shapes = [tuple(map(int, s.split(","))) for s in set(re.findall(r"\[(\d+(?:,\d+)*)\]", program))]
    return max(int(np.prod(shape)) for shape in shapes if V in shape)


def test_no_array_of_the_compiled_program_holds_the_logits_of_more_than_a_chunk():
    hidden, kernel, ids = arrays()
    compiled = lambda f: jax.jit(jax.value_and_grad(f, (0, 1))).lower(hidden, kernel).compile().as_text()  # noqa: E731
    assert largest(compiled(lambda h, k: token_logps(h, k, ids, 1.0, CHUNK)[0].sum())) == CHUNK * V
    assert largest(compiled(lambda h, k: plain(h, k, ids)[0].sum())) >= N * V


def batch(seed: int = 2):
    hidden, kernel, ids = arrays(seed)
    weights = jnp.asarray(np.random.default_rng(seed).choice([0.0, 0.5, 1.0], (2, N // 2)), jnp.float32)
    return hidden.reshape(2, N // 2, D), kernel, ids.reshape(2, N // 2), weights


def test_the_loss_is_the_weighted_mean_over_tokens():
    hidden, kernel, targets, weights = batch()
    loss, metrics = sft_loss(hidden, kernel, targets, weights)
    logp, _, hit = plain(hidden.reshape(N, D), kernel, targets.reshape(N))
    np.testing.assert_allclose(loss, np.average(-logp, weights=weights.reshape(N)), rtol=1e-6)
    np.testing.assert_allclose(metrics["mean_token_accuracy"], np.average(hit, weights=weights.reshape(N)), rtol=1e-6)
    assert int(metrics["target_tokens"]) == (weights > 0).sum()


def test_tokens_of_weight_zero_give_no_gradient_and_change_nothing():
    hidden, kernel, targets, weights = batch()
    other = jnp.where(weights > 0, targets, (targets + 7) % V)
    f = jax.value_and_grad(lambda h, t: sft_loss(h, kernel, t, weights)[0])
    (value, grad), (value2, grad2) = f(hidden, targets), f(hidden, other)
    assert value == value2 and (np.asarray(grad) == grad2).all()
    assert (np.asarray(grad).any(-1) == (weights > 0)).all()


def test_a_batch_without_targets_has_loss_and_gradient_zero():
    hidden, kernel, targets, weights = batch()
    value, grad = jax.value_and_grad(lambda h: sft_loss(h, kernel, targets, 0 * weights)[0])(hidden)
    assert value == 0 and not np.asarray(grad).any()


def test_bf16_activations_give_an_f32_loss_near_the_f32_one():
    hidden, kernel, targets, weights = batch()
    loss, _ = sft_loss(jnp.asarray(hidden, jnp.bfloat16), kernel, targets, weights)
    assert loss.dtype == jnp.float32
    np.testing.assert_allclose(loss, sft_loss(hidden, kernel, targets, weights)[0], rtol=1e-2)
