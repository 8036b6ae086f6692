from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sv_jax.models.layers import attention
from sv_jax.sampling import cache
from sv_jax.sampling.cache import KV

B, G, T, R, N, K, H = 3, 4, 7, 5, 6, 2, 8


def normal(i, *shape):
    return jnp.asarray(np.random.default_rng(i).normal(size=shape) * 3, jnp.float32)


@jax.jit
def joined(q, k, v, prompt_k, prompt_v, own_k, own_v, mask, filled):
    """Plain attention of one query over [prompt, own completion, itself], each sample with its own copy of the prompt."""
    repeat = lambda x: jnp.repeat(x[:, None], G, 1)  # noqa: E731
    keys = jnp.concatenate([repeat(prompt_k), own_k, k[:, :, None]], 2)
    values = jnp.concatenate([repeat(prompt_v), own_v, v[:, :, None]], 2)
    seen = jnp.concatenate([repeat(mask), jnp.broadcast_to(jnp.arange(R) < filled, (B, G, R)), jnp.ones((B, G, 1), bool)], 2)
    heads_first = lambda x: jnp.swapaxes(x, 2, 3)  # noqa: E731
    return attention(q[:, :, :, None], heads_first(keys), heads_first(values), seen[:, :, None])[:, :, :, 0]


@jax.jit
def in_parts(q, k, v, prompt_k, prompt_v, own_k, own_v, mask, filled):
    heads_first = lambda x: jnp.moveaxis(x, -2, 1)  # noqa: E731
    new = KV(heads_first(k)[..., None, :], heads_first(v)[..., None, :])
    prompt, own = KV(heads_first(prompt_k), heads_first(prompt_v)), KV(heads_first(own_k), heads_first(own_v))
    return jnp.swapaxes(cache.attend(jnp.swapaxes(q, 1, 2), new, prompt, own, mask, filled), 1, 2)


@pytest.mark.parametrize("filled", [0, 2, R - 1])
def test_parts_merged_equal_attention_over_everything_joined(filled):
    shapes = [(B, G, N, H), *2 * [(B, G, K, H)], *2 * [(B, T, K, H)], *2 * [(B, G, R, K, H)]]
    arrays = [normal(i, *shape) for i, shape in enumerate(shapes)]
    mask = jnp.asarray(np.arange(T) < np.array([T, 3, 1])[:, None])
    # scores reach 80, of which a rounding is 5e-6, and so of the weights; values reach 10
    np.testing.assert_allclose(in_parts(*arrays, mask, jnp.int32(filled)), joined(*arrays, mask, jnp.int32(filled)), atol=1e-4)


def test_write_puts_a_token_into_one_layer_or_all():
    for lead in ((), (4,)):
        prompt = KV(normal(0, *lead, B, K, T, H), normal(1, *lead, B, K, T, H))
        empty = cache.empty(prompt, G, R)
        assert empty.keys.shape == (*lead, B, K, G, R, H)
        new = KV(normal(2, *lead, B, K, G, 1, H), normal(3, *lead, B, K, G, 1, H))
        written = jax.jit(cache.write)(empty, new, jnp.int32(2))
        for cached, one in zip(written, new, strict=True):
            np.testing.assert_array_equal(np.asarray(cached)[..., 2:3, :], one)
            assert not np.delete(np.asarray(cached), 2, -2).any()
