"""The few pieces that every tower shares. Weights are cast to the dtype of the activations, products accumulate in f32
(on a CPU bf16 products are ten times slower otherwise), norms and softmax are computed in f32.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float, Int


def matmul(x: Float[Array, "*lead d_in"], kernel: Float[Array, "d_in d_out"]) -> Float[Array, "*lead d_out"]:
    """f32 product in the dtype of `x`. Rows are flattened first: the gradient of the kernel is then one plain product."""
    y = jnp.dot(x.reshape(-1, x.shape[-1]), kernel.astype(x.dtype), preferred_element_type=jnp.float32)
    return y.reshape(*x.shape[:-1], kernel.shape[1])


class Linear(nnx.Module):
    """`y = x W + b` over the last axis; `kernel` [in, out], normal with variance 1/in at init."""

    def __init__(self, d_in: int, d_out: int, *, bias: bool, rngs: nnx.Rngs):
        self.kernel = nnx.Param(jax.random.normal(rngs.params(), (d_in, d_out)) * d_in**-0.5)
        self.bias = nnx.Param(jnp.zeros(d_out)) if bias else None

    def __call__(self, x: Float[Array, "*lead d_in"]) -> Float[Array, "*lead d_out"]:
        y = matmul(x, self.kernel[...])
        if self.bias is not None:
            y = y + self.bias[...].astype(jnp.float32)
        return y.astype(x.dtype)


def silu(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """In f32, whatever the dtype of `x`: a product with it is rounded once."""
    return jax.nn.silu(x.astype(jnp.float32))


def gelu(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """The exact one, in f32, whatever the dtype of `x`."""
    return jax.nn.gelu(x.astype(jnp.float32), approximate=False)


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


STACKS = ("layers", "blocks")  # the attributes that hold a `stack`


def one_by_one(model: nnx.Module) -> nnx.Module:
    """The model for inference on a CPU, where layers of their own are faster unrolled than a stack is scanned. Its arrays are views of the
    stacks', not a second copy. A model that lies on anything but one CPU device stays as it is."""
    devices = set().union(*(x.sharding.device_set for x in jax.tree.leaves(model)))
    if [device.platform for device in devices] != ["cpu"]:
        return model
    model = nnx.merge(*nnx.split(model))
    for part in (model, *(part for part in vars(model).values() if isinstance(part, nnx.Module))):
        for name in STACKS:
            layers = getattr(part, name, None)
            if layers is not None and not isinstance(layers, nnx.List):
                setattr(part, name, _layers(layers))
    return model


def _layers(stacked: nnx.Module) -> nnx.Module:
    leaves, treedef = jax.tree.flatten(stacked)
    cut = [[jax.device_put(layer, x.sharding) for layer in np.asarray(x)] for x in leaves]
    return nnx.List([jax.tree.unflatten(treedef, layer) for layer in zip(*cut, strict=True)])


def run_stack(layers: nnx.Module, body: Callable, x: Any, inputs: Any = None, remat: bool = False) -> tuple[Any, Any]:
    """`x, out = body(x, layer, input)` for each layer in turn -> (x, outs).

    The module of a `stack` is scanned: one body to compile, whatever the depth; `inputs` and `outs` are pytrees with a leading L. Those of
    `one_by_one` are unrolled; `inputs` and `outs` have one entry a layer.
    """
    if not isinstance(layers, nnx.List):
        step = lambda x, scanned: body(x, *scanned)  # noqa: E731
        return jax.lax.scan(jax.checkpoint(step, prevent_cse=False) if remat else step, x, (layers, inputs))
    outs = []
    for layer, one in zip(layers, [None] * len(layers) if inputs is None else inputs, strict=True):
        x, out = body(x, layer, one)
        outs.append(out)
    return x, tuple(outs)


def split_heads(x: Float[Array, "*lead T d"], head_dim: int) -> Float[Array, "*lead N T H"]:
    """Heads before tokens, which makes every product of attention a plain batched one."""
    return jnp.swapaxes(x.reshape(*x.shape[:-1], -1, head_dim), -3, -2)


def join_heads(x: Float[Array, "*lead N T H"]) -> Float[Array, "*lead T d"]:
    x = jnp.swapaxes(x, -3, -2)
    return x.reshape(*x.shape[:-2], -1)


def attention(
    q: Float[Array, "*lead N Tq H"], k: Float[Array, "*lead K Tk H"], v: Float[Array, "*lead K Tk H"], mask: Bool[Array, "*lead Tq Tk"]
) -> Float[Array, "*lead N Tq H"]:
    """Softmax attention; each KV head serves N/K query heads, which are folded into the query rows. A query with nothing to see gets the
    mean of the values: finite, and read by nobody."""
    *lead, n, tq, h = q.shape
    kv, tk = k.shape[-3:-1]
    scores = jnp.einsum("...qh,...kh->...qk", q.reshape(*lead, kv, n // kv * tq, h), k, preferred_element_type=jnp.float32)
    scores = jnp.where(mask[..., None, None, :, :], scores.reshape(*lead, kv, n // kv, tq, tk) * h**-0.5, -1e30)
    scores = scores.reshape(*lead, kv, n // kv * tq, tk)
    e = jnp.exp(scores - jax.lax.stop_gradient(scores.max(-1, keepdims=True)))
    out = jnp.einsum("...qk,...kh->...qh", e.astype(v.dtype), v, preferred_element_type=jnp.float32)
    out = (out / e.sum(-1, keepdims=True)).astype(v.dtype)  # H numbers a query to divide, not Tk
    return out.reshape(*lead, n, tq, h)


def causal_attention(
    q: Float[Array, "B N T H"], k: Float[Array, "B K T H"], v: Float[Array, "B K T H"], mask: Bool[Array, "B T T"]
) -> Float[Array, "B N T H"]:
    """`attention` under a mask that lets no token see a later one: queries in blocks, each with the keys up to its end, which leaves out
    nearly half of the products. At most 8 blocks, or the program would grow with the length."""
    t = q.shape[2]
    size = max(128, -(-t // 8))
    parts = [(slice(i, i + size), slice(min(i + size, t))) for i in range(0, t, size)]
    return jnp.concatenate([attention(q[:, :, i], k[:, :, j], v[:, :, j], mask[:, i, j]) for i, j in parts], axis=2)


def rope_frequencies(dim: int, theta: float) -> Float[np.ndarray, " half"]:
    """f32 theta^(-2k/dim), k < dim/2, made on the host and rounded where transformers rounds: exponent, power and reciprocal. At
    position 4,000 the last bit of a frequency is an angle of 5e-4."""
    exponent = np.arange(0, dim, 2, dtype=np.float32) / np.float32(dim)
    return np.float32(1) / np.power(np.float64(theta), exponent).astype(np.float32)


class Rotation(NamedTuple):
    """A rotary embedding, made once for all layers: f32 cosine and sine [*lead, T, H/2] of the angles."""

    cos: Array
    sin: Array


def rotation(angles: Float[Array, "*lead T half"]) -> Rotation:
    """In a loop, because what a loop makes is made once: XLA on a CPU would fuse the cosines into every layer, for every head anew."""
    return Rotation(*jax.lax.map(lambda sin: jnp.where(sin, jnp.sin(angles), jnp.cos(angles)), jnp.array([False, True])))


def rotate(x: Float[Array, "*lead N T H"], by: Rotation) -> Float[Array, "*lead N T H"]:
    """Rotary embedding in the rotate-half layout, computed in f32: pair i is (x_i, x_{i+H/2})."""
    cos, sin = by.cos[..., None, :, :], by.sin[..., None, :, :]
    a, b = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1).astype(x.dtype)


@jax.custom_vjp
def to_blocks(x: Float[Array, "P *rest"], blocks: Int[Array, "W m"], slot: Int[Array, " P"]) -> Float[Array, "W m *rest"]:
    """Gather a flat list into padded blocks; `slot` is where each entry stands in the flattened blocks. Padding holds any finite entry.

    Each entry stands in one block, so the gradient is a gather too (XLA would make a scatter of it, which is slow everywhere).
    """
    return jnp.take(x, blocks, axis=0, mode="clip")


@jax.custom_vjp
def from_blocks(y: Float[Array, "W m *rest"], blocks: Int[Array, "W m"], slot: Int[Array, " P"]) -> Float[Array, "P *rest"]:
    """The inverse of `to_blocks`; entries that stand in no block (padding of the list) get any finite value."""
    return y.reshape(-1, *y.shape[2:])[slot]


def _masked(x, keep):
    return jnp.where(keep.reshape(*keep.shape, *[1] * (x.ndim - keep.ndim)), x, 0)


def _to_blocks_bwd(res, g):
    blocks, slot = res
    placed = blocks.reshape(-1)[slot] == jnp.arange(slot.shape[0])
    return _masked(from_blocks(g, blocks, slot), placed), None, None


def _from_blocks_bwd(res, g):
    blocks, slot = res
    return _masked(to_blocks(g, blocks, slot), blocks < slot.shape[0]), None, None


to_blocks.defvjp(lambda x, blocks, slot: (to_blocks(x, blocks, slot), (blocks, slot)), _to_blocks_bwd)
from_blocks.defvjp(lambda y, blocks, slot: (from_blocks(y, blocks, slot), (blocks, slot)), _from_blocks_bwd)
