"""DINOv3, a ViT with register tokens, axial RoPE, LayerScale and a plain or gated MLP, on a flat list of patches.

P patches of two frames each, C width, N heads, H head size, Z temporal slices of at most M patches, X = 1 + registers + M tokens of a frame
(CLS, registers, patches). A temporal slice is two frames, and a frame sees itself alone: the residual stream is a batch of 2Z frames from
the first layer to the last. Norms, softmax and RoPE are f32, the rest is in the compute dtype.
Oracle: huggingface/transformers:src/transformers/models/dinov3_vit/modeling_dinov3_vit.py (in evaluation mode)
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int

from sv_jax.models.dinov3.config import DINOv3Config
from sv_jax.models.layers import (
    LayerNorm,
    Linear,
    Rotation,
    attention,
    from_blocks,
    gelu,
    join_heads,
    rope_frequencies,
    rotate,
    rotation,
    run_stack,
    silu,
    split_heads,
    stack,
    to_blocks,
)

ACTIVATIONS = {"gelu": gelu, "silu": silu}
LAYER_SCALE = 1e-5  # at init, as in DINOv3's training
TOKEN_STD = 0.02  # of the CLS and register tokens at init


class DINOv3Attention(nnx.Module):
    def __init__(self, cfg: DINOv3Config, rngs: nnx.Rngs):
        c = cfg.hidden_size
        self.num_heads = cfg.num_attention_heads
        self.q = Linear(c, c, bias=cfg.query_bias, rngs=rngs)
        self.k = Linear(c, c, bias=cfg.key_bias, rngs=rngs)
        self.v = Linear(c, c, bias=cfg.value_bias, rngs=rngs)
        self.o = Linear(c, c, bias=cfg.proj_bias, rngs=rngs)

    def __call__(self, x: Float[Array, "frames X C"], by: Rotation, mask: Bool[Array, "frames X X"]) -> Float[Array, "frames X C"]:
        q, k, v = (split_heads(proj(x), x.shape[-1] // self.num_heads) for proj in (self.q, self.k, self.v))
        return self.o(join_heads(attention(rotate(q, by), rotate(k, by), v, mask)))


class DINOv3MLP(nnx.Module):
    """`down(act(up x))`, or gated: `down(act(gate x) * up x)`."""

    def __init__(self, cfg: DINOv3Config, rngs: nnx.Rngs):
        c, f = cfg.hidden_size, cfg.intermediate_size
        self.activation = cfg.hidden_act
        self.gate = Linear(c, f, bias=cfg.mlp_bias, rngs=rngs) if cfg.use_gated_mlp else None
        self.up = Linear(c, f, bias=cfg.mlp_bias, rngs=rngs)
        self.down = Linear(f, c, bias=cfg.mlp_bias, rngs=rngs)

    def __call__(self, x: Float[Array, "*lead C"]) -> Float[Array, "*lead C"]:
        act = ACTIVATIONS[self.activation]
        y = act(self.up(x)) if self.gate is None else act(self.gate(x)) * self.up(x)
        return self.down(y.astype(x.dtype))


class DINOv3Layer(nnx.Module):
    def __init__(self, cfg: DINOv3Config, rngs: nnx.Rngs):
        c, eps = cfg.hidden_size, cfg.layer_norm_eps
        self.norm1 = LayerNorm(c, eps)
        self.attn = DINOv3Attention(cfg, rngs)
        self.ls1 = nnx.Param(jnp.full(c, LAYER_SCALE))
        self.norm2 = LayerNorm(c, eps)
        self.mlp = DINOv3MLP(cfg, rngs)
        self.ls2 = nnx.Param(jnp.full(c, LAYER_SCALE))

    def __call__(self, x: Float[Array, "frames X C"], by: Rotation, mask: Bool[Array, "frames X X"]) -> Float[Array, "frames X C"]:
        x = x + self.ls1[...].astype(x.dtype) * self.attn(self.norm1(x), by, mask)
        return x + self.ls2[...].astype(x.dtype) * self.mlp(self.norm2(x))


class DINOv3(nnx.Module):
    def __init__(self, cfg: DINOv3Config, rngs: nnx.Rngs):
        c = cfg.hidden_size
        self.cfg = cfg
        self.patch_embed = Linear(cfg.num_channels * cfg.patch_size**2, c, bias=True, rngs=rngs)
        self.cls_token = nnx.Param(jax.random.normal(rngs.params(), (c,)) * TOKEN_STD)
        self.register_tokens = nnx.Param(jax.random.normal(rngs.params(), (cfg.num_register_tokens, c)) * TOKEN_STD)
        self.layers = stack(cfg.num_hidden_layers, lambda r: DINOv3Layer(cfg, r), rngs)
        self.norm = LayerNorm(c, cfg.layer_norm_eps)

    def __call__(
        self,
        patches: Float[Array, "2 P pixels"],
        hw: Int[Array, "P 2"],
        grid: Int[Array, "P 2"],
        slices: Int[Array, "Z M"],
        slice_slot: Int[Array, " P"],
        dtype: DTypeLike | None = None,
    ) -> Float[Array, "2 P C"]:
        """Patch features of both frames after the final norm; the index arrays are those of `sv_jax.models.batch.Vision`.

        `pixels` is (channel, row, column) of ImageNet-normalised values. Computes in `dtype`, by default that of the patches, whatever
        the weights are stored in. Padding patches get finite values."""
        x = self.patch_embed(patches if dtype is None else patches.astype(dtype))
        blocks = jax.vmap(to_blocks, (0, None, None))(x, slices, slice_slot)
        x = self.add_prefix(blocks.reshape(-1, *blocks.shape[2:]))
        prefix = x.shape[1] - slices.shape[1]
        angles = to_blocks(patch_angles(hw, grid, self.cfg.head_dim, self.cfg.rope_theta), slices, slice_slot)
        angles = jnp.tile(jnp.pad(angles, ((0, 0), (prefix, 0), (0, 0))), (2, 1, 1))  # CLS and registers are not rotated: angle 0
        by = rotation(angles)
        seen = jnp.tile(jnp.pad(slices < hw.shape[0], ((0, 0), (prefix, 0)), constant_values=True), (2, 1))
        mask = jnp.broadcast_to(seen[:, None, :], (*seen.shape, seen.shape[1]))
        x, _ = run_stack(self.layers, lambda x, layer, _: (layer(x, by, mask), None), x)
        x = self.norm(x[:, prefix:]).reshape(blocks.shape)
        return jax.vmap(from_blocks, (0, None, None))(x, slices, slice_slot)

    def add_prefix(self, x: Float[Array, "frames M C"]) -> Float[Array, "frames X C"]:
        """CLS and registers in front of every frame."""
        prefix = jnp.concatenate([self.cls_token[...][None], self.register_tokens[...]]).astype(x.dtype)
        return jnp.concatenate([jnp.broadcast_to(prefix, (x.shape[0], *prefix.shape)), x], axis=1)


def patch_angles(hw: Int[Array, "P 2"], grid: Int[Array, "P 2"], head_dim: int, theta: float) -> Float[Array, "P half"]:
    """f32 rotary angles of the patches' centres: a quarter of the head for the row, a quarter for the column.

    Each axis runs from -1 to 1 over its own length, whatever the aspect ratio of the frame."""
    centre = 2.0 * ((hw.astype(jnp.float32) + 0.5) / grid) - 1.0
    return (2.0 * jnp.pi * centre[:, :, None] * rope_frequencies(head_dim // 2, theta)).reshape(hw.shape[0], -1)
