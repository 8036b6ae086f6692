"""SpaceVista = Qwen vision + Qwen text + DINOv3 + fusion + scale experts, every part but Qwen optional by config.

B rows, T tokens, D width, V vocabulary, P patches, S = P/4 merged vision tokens, L layers, E experts.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from sv_jax.errors import UserError
from sv_jax.models.batch import Batch, Vision
from sv_jax.models.dinov3.modeling import DINOv3
from sv_jax.models.layers import causal_attention
from sv_jax.models.qwen2_5_vl.text import TextModel, mrope_angles, packed_mask, run_layers
from sv_jax.models.qwen2_5_vl.vision import VisionTower
from sv_jax.models.spacevista.config import SpaceVistaConfig
from sv_jax.models.spacevista.fusion import FUSION_CLASSES, DenseMerger, merged_layout
from sv_jax.models.spacevista.routers import ROUTER_FUNCTIONS, prompt_tokens


class SpaceVista(nnx.Module):
    def __init__(self, cfg: SpaceVistaConfig, rngs: nnx.Rngs):
        self.cfg = cfg
        width = cfg.qwen.text.hidden_size
        self.vision = VisionTower(cfg.qwen.vision, rngs)
        self.text = TextModel(cfg.qwen.text, cfg.experts, rngs)
        self.dino = DINOv3(cfg.dino, rngs) if cfg.dino else None
        self.dino_merger = DenseMerger(cfg.fusion, cfg.dino.hidden_size, width, rngs) if cfg.dino else None
        self.fusion = FUSION_CLASSES[cfg.fusion.method](cfg.fusion, width, rngs) if cfg.dino else None


def with_router(model: SpaceVista, router: str | None) -> SpaceVista:
    """The same arrays, gated by another router, which must have none of its own; None keeps the model's."""
    if router is None or model.cfg.experts is None or router == model.cfg.experts.router:
        return model
    if router not in ("label", "uniform", "sum"):
        raise UserError(f"router {router!r}: the model was made for {model.cfg.experts.router!r} and has no weights of another")
    graphdef, state = nnx.split(model)
    other = nnx.merge(graphdef, state)
    other.cfg = dataclasses.replace(model.cfg, experts=dataclasses.replace(model.cfg.experts, router=router))
    return other


def vision_features(model: SpaceVista, vision: Vision, dtype=jnp.float32, remat: bool = False) -> Float[Array, "S D"]:
    """Merged vision tokens, fused with DINOv3's dense features when the model has them (Eq. 1)."""
    x = model.vision(vision, dtype, remat)
    if model.dino is None:
        return x
    if vision.dino_patches is None:
        raise UserError("the model has DINOv3, the batch no frames for it: its config.json lacks dinov3_config (sv-jax export writes it)")
    dense = model.dino(vision.dino_patches.astype(dtype), vision.hw, vision.grid, vision.slices, vision.slice_slot)
    return model.fusion(x, model.dino_merger(dense.mean(axis=0)), *merged_layout(vision))


def embed(model: SpaceVista, batch: Batch, features: Float[Array, "S D"] | None, dtype=jnp.float32) -> Float[Array, "B T D"]:
    """Token embeddings with the vision tokens put in by index (never by token id: a sampled id must not claim a feature)."""
    x = model.text.embed(batch.tokens).astype(dtype)
    if features is None:
        return x
    index = batch.vision_index
    return jnp.where((index >= 0)[..., None], features[jnp.maximum(index, 0)], x)


def has_first_pass(model: SpaceVista) -> bool:
    """The router `xlora` reads the hidden states of a pass without experts, and decoding a KV cache of its own for it."""
    return model.cfg.experts is not None and model.cfg.experts.router == "xlora"


def signal(model: SpaceVista, batch: Batch, x: Float[Array, "B T D"], first: Float[Array, "B T D"] | None) -> Array | None:
    """What the router reads beside a layer's input: scales [B, T], a prompt's gate [B, T, E], X-LoRA's features [B, T, ·], or None.
    `x` are the embeddings, `first` the final hidden states of the first pass where there is one."""
    router = model.cfg.experts.router if model.cfg.experts else None
    if router == "prompt":
        return model.text.router(x, prompt_tokens(batch.segments, batch.branches, batch.weights))
    if router == "xlora":
        return model.text.router(first)
    return batch.scale if router == "label" else None


def route(model: SpaceVista, signal: Array | None):
    """The router of the config as the `route(layer, x)` that the layer stack calls; no experts, no gate."""
    experts = model.cfg.experts
    return no_route if experts is None else lambda layer, x: ROUTER_FUNCTIONS[experts.router](layer, x, signal, experts)


def no_route(layer, x) -> None:
    return None


def forward(model: SpaceVista, batch: Batch, dtype=jnp.float32, remat: bool = False) -> tuple[Float[Array, "B T D"], jax.Array | None]:
    """Hidden states after the final norm, and the gates [L, B, T, E] (None without experts) of packed rows."""
    features = None if batch.vision is None else vision_features(model, batch.vision, dtype, remat)
    mask = packed_mask(batch.segments, batch.branches)
    angles = mrope_angles(batch.positions, model.cfg.qwen.text)
    attend = lambda q, k, v, _: (causal_attention(q, k, v, mask), None)  # noqa: E731
    x, first = embed(model, batch, features, dtype), None
    if has_first_pass(model):  # without gradients, as PEFT has it
        layers, inputs = jax.lax.stop_gradient((model.text.layers, x))
        first = jax.lax.stop_gradient(model.text.norm(run_layers(layers, inputs, angles, attend, no_route)[0]))
    gate_by = route(model, signal(model, batch, x, first))
    x, _, gates = run_layers(model.text.layers, x, angles, attend, gate_by, remat=remat)
    return model.text.norm(x), gates


def logits(model: SpaceVista, hidden: Float[Array, "*lead D"]) -> Float[Array, "*lead V"]:
    """f32 logits. Training never calls this on whole rows: see `sv_jax.train.loss`."""
    return jnp.dot(hidden, model.text.head_kernel().astype(hidden.dtype), preferred_element_type=jnp.float32)
