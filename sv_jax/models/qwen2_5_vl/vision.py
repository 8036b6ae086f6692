"""The vision tower of Qwen2.5-VL on a flat list of patches: window attention, full attention in some layers, 2x2 merger.

P patches, d tower width, S = P/4 merged tokens, D model width, W windows of m patches, Z temporal slices of at most M patches.
Patches stay in the processor's order throughout; a layer gathers them into its blocks and back, which makes window attention a batch of
small blocks and full attention a batch of slices.
Oracle: huggingface/transformers:src/transformers/models/qwen2_5_vl/modeling_qwen2_5_vl.py
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int

from sv_jax.models.batch import Vision
from sv_jax.models.layers import (
    Linear,
    RMSNorm,
    Rotation,
    attention,
    from_blocks,
    gelu,
    rope_frequencies,
    rotate,
    rotation,
    run_stack,
    silu,
    stack,
    to_blocks,
)
from sv_jax.models.qwen2_5_vl.config import VisionConfig

EPS = 1e-6  # of every norm in the tower, whatever config.json says


class VisionAttention(nnx.Module):
    def __init__(self, cfg: VisionConfig, rngs: nnx.Rngs):
        self.num_heads = cfg.num_heads
        self.qkv = Linear(cfg.hidden_size, 3 * cfg.hidden_size, bias=True, rngs=rngs)
        self.proj = Linear(cfg.hidden_size, cfg.hidden_size, bias=True, rngs=rngs)

    def __call__(self, x: Float[Array, "P d"], by: Rotation, full: jax.Array | np.bool_, v: Vision) -> Float[Array, "P d"]:
        q, k, val = jnp.moveaxis(self.qkv(x).reshape(x.shape[0], 3, self.num_heads, -1), 1, 0)
        q, k = rotate(q, by), rotate(k, by)
        out = jax.lax.cond(
            full,
            lambda: blocked_attention(q, k, val, v.slices, v.slice_slot),
            lambda: blocked_attention(q, k, val, v.windows, v.window_slot),
        )
        return self.proj(out.reshape(x.shape))


class VisionMLP(nnx.Module):
    def __init__(self, cfg: VisionConfig, rngs: nnx.Rngs):
        self.gate = Linear(cfg.hidden_size, cfg.intermediate_size, bias=True, rngs=rngs)
        self.up = Linear(cfg.hidden_size, cfg.intermediate_size, bias=True, rngs=rngs)
        self.down = Linear(cfg.intermediate_size, cfg.hidden_size, bias=True, rngs=rngs)

    def __call__(self, x):
        return self.down((silu(self.gate(x)) * self.up(x)).astype(x.dtype))


class VisionBlock(nnx.Module):
    def __init__(self, cfg: VisionConfig, rngs: nnx.Rngs):
        self.norm1 = RMSNorm(cfg.hidden_size, EPS)
        self.attn = VisionAttention(cfg, rngs)
        self.norm2 = RMSNorm(cfg.hidden_size, EPS)
        self.mlp = VisionMLP(cfg, rngs)

    def __call__(self, x, by, full, v):
        x = x + self.attn(self.norm1(x), by, full, v)
        return x + self.mlp(self.norm2(x))


class PatchMerger(nnx.Module):
    """Four neighbouring patches become one token of the language model."""

    def __init__(self, cfg: VisionConfig, rngs: nnx.Rngs):
        self.cells = cfg.spatial_merge_size**2
        self.norm = RMSNorm(cfg.hidden_size, EPS)
        self.fc1 = Linear(cfg.hidden_size * self.cells, cfg.hidden_size * self.cells, bias=True, rngs=rngs)
        self.fc2 = Linear(cfg.hidden_size * self.cells, cfg.out_hidden_size, bias=True, rngs=rngs)

    def __call__(self, x: Float[Array, "P d"]) -> Float[Array, "S D"]:
        x = self.norm(x).reshape(x.shape[0] // self.cells, -1)
        return self.fc2(gelu(self.fc1(x)).astype(x.dtype))


class VisionTower(nnx.Module):
    def __init__(self, cfg: VisionConfig, rngs: nnx.Rngs):
        self.cfg = cfg
        self.patch_embed = Linear(cfg.patch_dim, cfg.hidden_size, bias=False, rngs=rngs)
        self.blocks = stack(cfg.depth, lambda r: VisionBlock(cfg, r), rngs)
        self.merger = PatchMerger(cfg, rngs)

    def __call__(self, v: Vision, dtype=jnp.float32, remat: bool = False) -> Float[Array, "S D"]:
        x = self.patch_embed(v.patches.astype(dtype))
        by = rotation(grid_angles(v.hw, self.cfg.head_dim))
        full = np.isin(np.arange(self.cfg.depth), self.cfg.fullatt_block_indexes)
        x, _ = run_stack(self.blocks, lambda x, block, full: (block(x, by, full, v), None), x, full, remat)
        return self.merger(x)


def grid_angles(hw: Int[Array, "P 2"], head_dim: int) -> Float[Array, "P half"]:
    """Rotary angles of (row, column): a quarter of the head each, base 10,000, f32."""
    return (hw[:, :, None].astype(jnp.float32) * rope_frequencies(head_dim // 2, 10000.0)).reshape(hw.shape[0], -1)


def blocked_attention(q, k, v, blocks: Int[Array, "W m"], slot: Int[Array, " P"]):
    """Attention inside each block of patches: q, k, v [P, heads, H] -> [P, heads, H]."""
    q, k, v = to_blocks(jnp.stack([q, k, v], axis=1), blocks, slot).swapaxes(0, 2).swapaxes(1, 2)
    mask = jnp.broadcast_to((blocks < slot.shape[0])[:, None, :], (*blocks.shape, blocks.shape[1]))
    return from_blocks(attention(q, k, v, mask), blocks, slot)
