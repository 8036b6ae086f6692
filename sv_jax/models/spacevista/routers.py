"""Where the gate of the scale experts comes from: one small function per router, chosen by name.

A router is `f(layer, x, signal, cfg) -> gate`: `layer` is the decoder layer, `x` [B, T, D] its normalised input, `signal` what the router
knows before the layers run (`signal` in `model.py` beside this file), and the gate [B, T, E] serves all seven projections of the layer,
or [B, T, 7, E] each its own. It sums to 1 over the experts, save where `XLoRAConfig` says otherwise and
for `sum`.

B rows, T tokens, D width, H = router_hidden_size, E experts. Routers compute in f32.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from sv_jax.models.layers import Linear, RMSNorm, stack
from sv_jax.models.spacevista.config import PROJECTIONS, SCALES, ExpertsConfig

EPS = 1e-6


class Router(nnx.Module):
    """The `layer` router: an MLP of one hidden layer and a softmax."""

    def __init__(self, d: int, cfg: ExpertsConfig, rngs: nnx.Rngs):
        self.fc1 = Linear(d, cfg.router_hidden_size, bias=True, rngs=rngs)
        self.fc2 = Linear(cfg.router_hidden_size, cfg.num_experts, bias=True, rngs=rngs)
        self.temperature = cfg.temperature

    def __call__(self, x: Float[Array, "*lead D"]) -> Float[Array, "*lead E"]:
        return self.head(self.fc1(x.astype(jnp.float32)))

    def head(self, hidden: Float[Array, "*lead H"]) -> Float[Array, "*lead E"]:
        return jax.nn.softmax(self.fc2(jax.nn.silu(hidden)) / self.temperature, axis=-1)


class PromptRouter(Router):
    """The `prompt` router: the same MLP on the mean of the prompt's normalised embeddings, pictures included; one gate a prompt."""

    def __init__(self, d: int, cfg: ExpertsConfig, rngs: nnx.Rngs):
        super().__init__(d, cfg, rngs)
        self.norm = RMSNorm(d, EPS)

    def __call__(self, x: Float[Array, "B T D"], prompt: Bool[Array, "B T T"]) -> Float[Array, "B T E"]:
        """`prompt[b, t]` marks the tokens of the prompt that token t belongs to. The mean is taken after the first product, which is
        linear: rows are H wide there, not D."""
        total = jnp.einsum("bts,bsh->bth", prompt.astype(jnp.float32), self.fc1(self.norm(x.astype(jnp.float32))))
        return self.head(total / jnp.maximum(prompt.sum(-1, keepdims=True), 1))


def prompt_tokens(segments: Int[Array, "B T"], branches: Int[Array, "B T"], weights: Float[Array, "B T"]) -> Bool[Array, "B T T"]:
    """True where a token (first T) is of the sample whose prompt the other (second T) belongs to: on branch 0, and read before the sample
    is asked for its first answer token (a loss weight says so), which in training stands in the same segment."""
    index = jnp.arange(segments.shape[1])
    first = jnp.diff(segments, axis=1, prepend=-1) != 0
    start = jax.lax.cummax(jnp.where(first, index, 0), axis=1)
    asked = jax.lax.cummax(jnp.where(weights > 0, index, -1), axis=1)
    before = jnp.pad(asked[:, :-1], ((0, 0), (1, 0)), constant_values=-1)
    prompt = (before < start) & (branches == 0)
    return (segments[:, :, None] == segments[:, None, :]) & prompt[:, None, :]


class XLoRA(nnx.Module):
    """The `xlora` router: PEFT's classifier on the final hidden states of a pass without experts, [B, T, D] -> logits [B, T, E]. Layer-wise
    its last product is huge and used slice by slice: each layer holds its own slice (`layer_router`), and this ends before it, at [B, T, H]
    (D for depth 1)."""

    def __init__(self, d: int, cfg: ExpertsConfig, rngs: nnx.Rngs):
        h, depth, e = cfg.router_hidden_size, cfg.xlora.depth, cfg.num_experts
        self.first = Linear(d, h, bias=True, rngs=rngs) if depth > 1 else None
        self.hidden = stack(depth - 2, lambda r: Linear(h, h, bias=True, rngs=r), rngs) if depth > 2 else None
        self.last = None if cfg.xlora.layerwise else Linear(d if depth == 1 else h, e, bias=True, rngs=rngs)

    def __call__(self, x: Float[Array, "*lead D"]) -> Float[Array, "*lead width"]:
        x = x.astype(jnp.float32)
        if self.first is not None:
            x = jax.nn.relu(self.first(x))
        if self.hidden is not None:
            x, _ = jax.lax.scan(lambda x, linear: (jax.nn.relu(linear(x)), None), x, self.hidden)
        return x if self.last is None else self.last(x)


def xlora_gate(logits: Float[Array, "*lead E"], cfg: ExpertsConfig) -> Float[Array, "*lead E"]:
    """Logits to gates in PEFT's order: softmax, top-k, softmax over what top-k left."""
    gate = jax.nn.softmax(logits / cfg.temperature, axis=-1) if cfg.xlora.softmax else logits
    if cfg.xlora.top_k is not None:
        top = jax.lax.top_k(gate, cfg.xlora.top_k)[1]
        gate = gate * jax.nn.one_hot(top, gate.shape[-1]).sum(-2)
    return jax.nn.softmax(gate, axis=-1, where=gate != 0) if cfg.xlora.softmax_topk else gate


def model_router(d: int, cfg: ExpertsConfig | None, rngs: nnx.Rngs) -> nnx.Module | None:
    """What the router has once in the model."""
    classes = {"prompt": PromptRouter, "xlora": XLoRA}
    return classes[cfg.router](d, cfg, rngs) if cfg and cfg.router in classes else None


def layer_router(d: int, cfg: ExpertsConfig | None, rngs: nnx.Rngs) -> nnx.Module | None:
    """What the router has in each layer."""
    if cfg and cfg.router == "layer":
        return Router(d, cfg, rngs)
    if cfg and cfg.router == "xlora" and cfg.xlora.layerwise:
        width = d if cfg.xlora.depth == 1 else cfg.router_hidden_size
        return Linear(width, len(PROJECTIONS) * cfg.num_experts, bias=True, rngs=rngs)
    return None


def label(layer, x, signal, cfg: ExpertsConfig):
    """One-hot of the expert that owns the sample's scale, which is the signal."""
    expert = jnp.array([cfg.expert_of(s) for s in SCALES])[signal]
    return jax.nn.one_hot(expert, cfg.num_experts, dtype=jnp.float32)


def layer(layer, x, signal, cfg: ExpertsConfig):
    """Each layer's own router, on that layer's input, per token: causal, and at home with a KV cache."""
    return layer.router(x)


def prompt(layer, x, signal, cfg: ExpertsConfig):
    """The same gate in every layer and for every token of a sample: it is the signal."""
    return signal


def xlora(layer, x, signal, cfg: ExpertsConfig):
    """The signal is what `XLoRA` made of the pass without experts."""
    if layer.router is not None:
        signal = layer.router(signal).reshape(*signal.shape[:-1], len(PROJECTIONS), cfg.num_experts)
    return xlora_gate(signal, cfg)


def uniform(layer, x, signal, cfg: ExpertsConfig):
    """1/E each: the ablation without routing."""
    return jnp.full((*x.shape[:-1], cfg.num_experts), 1.0 / cfg.num_experts, jnp.float32)


def everything(layer, x, signal, cfg: ExpertsConfig):
    """1 each: what the released evaluation makes of experts, there without knowing."""
    return jnp.ones((*x.shape[:-1], cfg.num_experts), jnp.float32)


ROUTER_FUNCTIONS = {"label": label, "layer": layer, "prompt": prompt, "xlora": xlora, "uniform": uniform, "sum": everything}
