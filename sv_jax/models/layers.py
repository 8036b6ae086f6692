"""The few pieces that every tower shares. Weights are cast to the dtype of the activations, products accumulate in f32
(on a CPU bf16 products are ten times slower otherwise), norms and softmax are computed in f32.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float


class Linear(nnx.Module):
    """`y = x W + b` over the last axis; `kernel` [in, out], normal with variance 1/in at init."""

    def __init__(self, d_in: int, d_out: int, *, bias: bool, rngs: nnx.Rngs):
        self.kernel = nnx.Param(jax.random.normal(rngs.params(), (d_in, d_out)) * d_in**-0.5)
        self.bias = nnx.Param(jnp.zeros(d_out)) if bias else None

    def __call__(self, x: Float[Array, "*lead d_in"]) -> Float[Array, "*lead d_out"]:
        y = jnp.dot(x, self.kernel[...].astype(x.dtype), preferred_element_type=jnp.float32)
        if self.bias is not None:
            y = y + self.bias[...].astype(jnp.float32)
        return y.astype(x.dtype)


class RMSNorm(nnx.Module):
    def __init__(self, d: int, eps: float):
        self.scale = nnx.Param(jnp.ones(d))
        self.eps = eps

    def __call__(self, x: Float[Array, "*lead d"]) -> Float[Array, "*lead d"]:
        y = x.astype(jnp.float32)
        y = y * jax.lax.rsqrt(jnp.mean(y * y, axis=-1, keepdims=True) + self.eps)
        return (y * self.scale[...].astype(jnp.float32)).astype(x.dtype)


class LayerNorm(nnx.Module):
    def __init__(self, d: int, eps: float):
        self.scale = nnx.Param(jnp.ones(d))
        self.bias = nnx.Param(jnp.zeros(d))
        self.eps = eps

    def __call__(self, x: Float[Array, "*lead d"]) -> Float[Array, "*lead d"]:
        y = x.astype(jnp.float32)
        y = y - jnp.mean(y, axis=-1, keepdims=True)
        y = y * jax.lax.rsqrt(jnp.mean(y * y, axis=-1, keepdims=True) + self.eps)
        return (y * self.scale[...].astype(jnp.float32) + self.bias[...].astype(jnp.float32)).astype(x.dtype)


def stack(n: int, make: Callable[[nnx.Rngs], nnx.Module], rngs: nnx.Rngs) -> nnx.Module:
    """One module whose every leaf has a leading axis of `n`, each entry with its own random numbers; run it with `lax.scan`."""

    @nnx.split_rngs(splits=n)
    @nnx.vmap(in_axes=0, out_axes=0)
    def make_all(layer_rngs):
        return make(layer_rngs)

    return make_all(rngs)


def attention(
    q: Float[Array, "*lead Tq N H"], k: Float[Array, "*lead Tk K H"], v: Float[Array, "*lead Tk K H"], mask: Bool[Array, "*lead Tq Tk"]
) -> Float[Array, "*lead Tq N H"]:
    """Softmax attention; each KV head serves N/K query heads. The group is folded into the query rows, which makes every product a
    plain batched one. A query with nothing to see gets the mean of the values: finite, and read by nobody."""
    *lead, tq, n, h = q.shape
    tk, kv = k.shape[-3:-1]
    q = jnp.moveaxis(q.reshape(*lead, tq, kv, n // kv, h), -4, -2).reshape(*lead, kv, n // kv * tq, h)
    scores = jnp.einsum("...qh,...kh->...qk", q, jnp.swapaxes(k, -3, -2), preferred_element_type=jnp.float32)
    scores = scores.reshape(*lead, kv, n // kv, tq, tk) * h**-0.5
    scores = jnp.where(mask[..., None, None, :, :], scores, -1e30)
    p = jax.nn.softmax(scores, axis=-1).astype(v.dtype).reshape(*lead, kv, n // kv * tq, tk)
    out = jnp.einsum("...qk,...kh->...qh", p, jnp.swapaxes(v, -3, -2), preferred_element_type=jnp.float32).astype(v.dtype)
    out = jnp.moveaxis(out.reshape(*lead, kv, n // kv, tq, h), -2, -4)
    return out.reshape(*lead, tq, n, h)


def rotate(x: Float[Array, "*lead N H"], angles: Float[Array, "*lead half"]) -> Float[Array, "*lead N H"]:
    """Rotary embedding in the rotate-half layout, computed in f32: pair i is (x_i, x_{i+H/2})."""
    cos, sin = jnp.cos(angles)[..., None, :], jnp.sin(angles)[..., None, :]
    a, b = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1).astype(x.dtype)
