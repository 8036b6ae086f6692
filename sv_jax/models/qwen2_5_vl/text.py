"""The decoder of Qwen2.5-VL: grouped-query attention, M-RoPE, SwiGLU, with the scale experts on all seven projections when asked for.

B rows, T tokens, L layers, D model width, N query heads, K KV heads, H head size, F MLP width, V vocabulary, E experts.
Oracle: huggingface/transformers:src/transformers/models/qwen2_5_vl/modeling_qwen2_5_vl.py
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from sv_jax.models.layers import (
    Linear,
    RMSNorm,
    Rotation,
    join_heads,
    rope_frequencies,
    rotate,
    rotation,
    run_stack,
    silu,
    split_heads,
    stack,
)
from sv_jax.models.qwen2_5_vl.config import TextConfig
from sv_jax.models.spacevista.config import ExpertsConfig
from sv_jax.models.spacevista.experts import Projection
from sv_jax.models.spacevista.routers import layer_router, model_router


class SelfAttention(nnx.Module):
    def __init__(self, cfg: TextConfig, experts: ExpertsConfig | None, rngs: nnx.Rngs):
        d, n, k, h = cfg.hidden_size, cfg.num_attention_heads, cfg.num_key_value_heads, cfg.head_dim
        self.head_dim = h
        self.q = Projection("q", d, n * h, bias=True, experts=experts, rngs=rngs)
        self.k = Projection("k", d, k * h, bias=True, experts=experts, rngs=rngs)
        self.v = Projection("v", d, k * h, bias=True, experts=experts, rngs=rngs)
        self.o = Projection("o", n * h, d, bias=False, experts=experts, rngs=rngs)

    def __call__(self, x, gate, by: Rotation, attend):
        q, k, v = (split_heads(proj(x, gate), self.head_dim) for proj in (self.q, self.k, self.v))
        out, extra = attend(rotate(q, by), rotate(k, by), v)
        return self.o(join_heads(out), gate), extra


class MLP(nnx.Module):
    def __init__(self, cfg: TextConfig, experts: ExpertsConfig | None, rngs: nnx.Rngs):
        d, f = cfg.hidden_size, cfg.intermediate_size
        self.gate = Projection("gate", d, f, bias=False, experts=experts, rngs=rngs)
        self.up = Projection("up", d, f, bias=False, experts=experts, rngs=rngs)
        self.down = Projection("down", f, d, bias=False, experts=experts, rngs=rngs)

    def __call__(self, x, gate):
        return self.down((silu(self.gate(x, gate)) * self.up(x, gate)).astype(x.dtype), gate)


class DecoderLayer(nnx.Module):
    def __init__(self, cfg: TextConfig, experts: ExpertsConfig | None, rngs: nnx.Rngs):
        self.input_norm = RMSNorm(cfg.hidden_size, cfg.rms_norm_eps)
        self.attn = SelfAttention(cfg, experts, rngs)
        self.post_norm = RMSNorm(cfg.hidden_size, cfg.rms_norm_eps)
        self.mlp = MLP(cfg, experts, rngs)
        self.router = layer_router(cfg.hidden_size, experts, rngs)

    def __call__(self, x, by: Rotation, attend, route):
        """-> (x, what `attend` kept, gate [B, T, E] or None, the mean of the projections' where each has its own)."""
        y = self.input_norm(x)
        gate = route(self, y)
        out, extra = self.attn(y, gate, by, attend)
        x = x + out
        x = x + self.mlp(self.post_norm(x), gate)
        return x, extra, gate if gate is None or gate.ndim == x.ndim else gate.mean(-2)


class TextModel(nnx.Module):
    def __init__(self, cfg: TextConfig, experts: ExpertsConfig | None, rngs: nnx.Rngs):
        self.cfg = cfg
        self.embed = Embedding(cfg.vocab_size, cfg.hidden_size, rngs)
        self.layers = stack(cfg.num_hidden_layers, lambda r: DecoderLayer(cfg, experts, r), rngs)
        self.norm = RMSNorm(cfg.hidden_size, cfg.rms_norm_eps)
        self.head = None if cfg.tie_word_embeddings else Linear(cfg.hidden_size, cfg.vocab_size, bias=False, rngs=rngs)
        self.router = model_router(cfg.hidden_size, experts, rngs)

    def head_kernel(self) -> Float[Array, "D V"]:
        """A tied head reads the embedding: there is no second copy to keep in step."""
        return self.embed.embedding[...].T if self.head is None else self.head.kernel[...]


class Embedding(nnx.Module):
    def __init__(self, vocab: int, d: int, rngs: nnx.Rngs):
        self.embedding = nnx.Param(jax.random.normal(rngs.params(), (vocab, d)) * d**-0.5)

    def __call__(self, tokens: Int[Array, "*lead"]) -> Float[Array, "*lead D"]:
        return self.embedding[...][tokens]


def mrope_angles(positions: Int[Array, "3 B T"], cfg: TextConfig) -> Float[Array, "B T half"]:
    """Rotary angles in f32: the H/2 frequencies are cut into three sections that follow the time, height and width position."""
    axis = np.repeat(np.arange(3), cfg.mrope_section)
    return jnp.moveaxis(positions[axis], 0, -1).astype(jnp.float32) * rope_frequencies(cfg.head_dim, cfg.rope_theta)


def packed_mask(segments: Int[Array, "B T"], branches: Int[Array, "B T"]) -> Bool[Array, "B T T"]:
    """Who sees whom in packed rows: earlier tokens of the same segment, on branch 0 or on one's own branch.

    Two samples `a b | c d` (segments 1 1 2 2):   A prompt `p` with completions `x y`, `z` (branches 0 1 1 2):
        a 1 0 0 0                                      p 1 0 0 0
        b 1 1 0 0                                      x 1 1 0 0
        c 0 0 1 0                                      y 1 1 1 0
        d 0 0 1 1                                      z 1 0 0 1
    """
    t = segments.shape[-1]
    causal = jnp.tril(jnp.ones((t, t), bool))
    same = segments[:, :, None] == segments[:, None, :]
    branch = (branches[:, None, :] == 0) | (branches[:, :, None] == branches[:, None, :])
    return causal & same & branch


def run_layers(
    layers: nnx.Module,
    x: Float[Array, "B T D"],
    angles: Float[Array, "B T half"],
    attend: Callable,
    route: Callable,
    cache=None,
    remat=False,
):
    """Run the layers, stacked or one by one -> (x [B, T, D], what `attend` kept, gates [L, B, T, E] or None).

    `attend(q [B,N,T,H], k [B,K,T,H], v, cache_of_layer) -> (out [B,N,T,H], keep)` is all that differs between training (keep None),
    prefill (keep k and v) and decoding (read and update the cache). `cache`, and what was kept, is a pytree with a leading L, or an entry
    for each of layers that come one by one; None for no cache.
    """
    by = rotation(angles)

    def body(x, layer, cached):
        x, keep, gate = layer(x, by, lambda q, k, v: attend(q, k, v, cached), route)
        return x, (keep, gate)

    x, kept = run_stack(layers, body, x, cache, remat)
    if isinstance(layers, nnx.List):
        keeps, gates = zip(*kept, strict=True)
        return x, keeps, None if gates[0] is None else jnp.stack(gates)
    return x, *kept
