"""What every tower shares. Oracles: f64 numpy, and the stack run as a scan."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from sv_jax.models.dinov3.config import DINOv3Config
from sv_jax.models.dinov3.modeling import DINOv3
from sv_jax.models.layers import attention, causal_attention, one_by_one, run_stack


def test_attention_equals_float64_and_a_query_that_sees_nothing_stays_finite():
    rng = np.random.default_rng(0)
    q, k, v = (rng.standard_normal((2, heads, 7, 8)).astype(np.float32) * 3 for heads in (4, 2, 2))
    mask = rng.random((2, 7, 7)) < 0.6
    mask[:, 3], mask[:, :, 0] = False, np.arange(7) != 3
    got = np.asarray(attention(*map(jnp.asarray, (q, k, v, mask))))
    k, v = (np.repeat(x, 2, axis=1).astype(np.float64) for x in (k, v))
    scores = np.einsum("bnqh,bnkh->bnqk", q, k) / np.sqrt(8)
    weights = np.where(mask[:, None], np.exp(scores - scores.max(-1, keepdims=True)), 0)
    weights /= weights.sum(-1, keepdims=True).clip(1e-300)
    want = np.einsum("bnqk,bnkh->bnqh", weights, v)
    np.testing.assert_allclose(np.delete(got, 3, 2), np.delete(want, 3, 2), atol=1e-5)
    np.testing.assert_allclose(got[:, :, 3], v.mean(2), atol=1e-5)


@pytest.mark.parametrize("t", [5, 128, 300, 1300])
def test_causal_attention_in_blocks_equals_attention_under_the_mask(t):
    q, k, v = (jax.random.normal(jax.random.key(i), (1, heads, t, 4)) for i, heads in enumerate((2, 1, 1)))
    mask = jnp.tril(jax.random.uniform(jax.random.key(3), (1, t, t)) < 0.8) | jnp.eye(t, dtype=bool)
    np.testing.assert_allclose(jax.jit(causal_attention)(q, k, v, mask), jax.jit(attention)(q, k, v, mask), atol=1e-5)


def tower() -> DINOv3:
    return jax.jit(lambda: DINOv3(DINOv3Config(24, 48, 3, 2), nnx.Rngs(0)))()


def test_layers_one_by_one_share_the_arrays_of_the_stack():
    model = tower()
    apart = one_by_one(model)
    kernel = model.layers.mlp.up.kernel[...]
    for i, layer in enumerate(apart.layers):
        one = layer.mlp.up.kernel[...]
        assert one.unsafe_buffer_pointer() == kernel.unsafe_buffer_pointer() + i * one.nbytes
        np.testing.assert_array_equal(layer.ls1[...], model.layers.ls1[i])
    assert not isinstance(model.layers, nnx.List)  # the model itself is as it was
    assert len(one_by_one(apart).layers) == 3


def test_run_stack_gives_the_same_either_way():
    model, x = tower(), jnp.ones((4, 24))
    body = lambda x, layer, a: (x + a * layer.mlp(x), x.sum())  # noqa: E731
    inputs = np.arange(3.0, dtype=np.float32)
    want, sums = run_stack(model.layers, body, x, inputs)
    got, parts = run_stack(one_by_one(model).layers, body, x, inputs)
    np.testing.assert_allclose(got, want, atol=1e-6)
    np.testing.assert_allclose(jnp.stack(parts), sums, atol=1e-5)


def test_a_model_on_a_mesh_keeps_its_stacks():
    mesh = jax.make_mesh((2,), ("data",), devices=jax.devices()[:2])
    model = jax.device_put(tower(), jax.NamedSharding(mesh, jax.P()))
    assert one_by_one(model) is model
