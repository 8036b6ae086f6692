"""Where the gate of the scale experts comes from: one small function per router, chosen by name.

A router is `f(layer, x, scale, cfg) -> gate`: `layer` is the decoder layer, `x` [B, T, D] its normalised input, `scale` [B, T] the
index into SCALES of each token's sample, and the gate [B, T, E] sums to 1 over the experts.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx

from sv_jax.models.layers import Linear
from sv_jax.models.spacevista.config import SCALES, ExpertsConfig


class Router(nnx.Module):
    """The `layer` router: an MLP of one hidden layer and a softmax, in f32."""

    def __init__(self, d: int, cfg: ExpertsConfig, rngs: nnx.Rngs):
        self.fc1 = Linear(d, cfg.router_hidden_size, bias=True, rngs=rngs)
        self.fc2 = Linear(cfg.router_hidden_size, cfg.num_experts, bias=True, rngs=rngs)
        self.temperature = cfg.temperature

    def __call__(self, x: jax.Array) -> jax.Array:
        logits = self.fc2(jax.nn.silu(self.fc1(x.astype(jnp.float32))))
        return jax.nn.softmax(logits / self.temperature, axis=-1)


def label(layer, x, scale, cfg: ExpertsConfig):
    """One-hot of the expert that owns the sample's scale."""
    expert = jnp.array([cfg.expert_of(s) for s in SCALES])[scale]
    return jax.nn.one_hot(expert, cfg.num_experts, dtype=jnp.float32)


def layer(layer, x, scale, cfg: ExpertsConfig):
    """Each layer's own router, on that layer's input, per token: causal, and at home with a KV cache."""
    return layer.router(x)


def uniform(layer, x, scale, cfg: ExpertsConfig):
    """1/E each: the ablation without routing."""
    return jnp.full((*x.shape[:-1], cfg.num_experts), 1.0 / cfg.num_experts, jnp.float32)


ROUTER_FUNCTIONS = {"label": label, "layer": layer, "uniform": uniform}
