"""The vision tower of Qwen2.5-VL on a flat list of patches: window attention, full attention in some layers, 2x2 merger.

P patches, d tower width, S = P/4 merged tokens, D model width, W windows of m patches, Z temporal slices of at most M patches.
Patches stay in the processor's order throughout; a layer gathers them into its blocks and back, which makes window attention a batch of
small blocks and full attention a batch of slices.
Oracle: huggingface/transformers:src/transformers/models/qwen2_5_vl/modeling_qwen2_5_vl.py
"""

from __future__ import annotations

from typing import NamedTuple

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
from sv_jax.models.qwen2_5_vl.config import VisionConfig

EPS = 1e-6  # of every norm in the tower, whatever config.json says


class Blocks(NamedTuple):
    """Groups of patches that see each other."""

    members: Int[Array, "W m"]
    slot: Int[Array, " P"]  # where a patch stands in the flattened members
    by: Rotation | None  # [W, m, H/2]


class VisionAttention(nnx.Module):
    def __init__(self, cfg: VisionConfig, rngs: nnx.Rngs):
        self.num_heads = cfg.num_heads
        self.qkv = Linear(cfg.hidden_size, 3 * cfg.hidden_size, bias=True, rngs=rngs)
        self.proj = Linear(cfg.hidden_size, cfg.hidden_size, bias=True, rngs=rngs)

    def __call__(self, x: Float[Array, "P d"], full: jax.Array | np.bool_, slices: Blocks, windows: Blocks) -> Float[Array, "P d"]:
        qkv = self.qkv(x)
        attend = lambda blocks: blocked_attention(qkv, self.num_heads, blocks)  # noqa: E731
        return self.proj(jax.lax.cond(full, lambda: attend(slices), lambda: attend(windows)))


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

    def __call__(self, x, full, slices: Blocks, windows: Blocks):
        x = x + self.attn(self.norm1(x), full, slices, windows)
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
        angles = grid_angles(v.hw, self.cfg.head_dim)
        slices, windows = (
            Blocks(members, slot, rotation(to_blocks(angles, members, slot)))
            for members, slot in ((v.slices, v.slice_slot), (v.windows, v.window_slot))
        )
        full = np.isin(np.arange(self.cfg.depth), self.cfg.fullatt_block_indexes)
        x, _ = run_stack(self.blocks, lambda x, block, full: (block(x, full, slices, windows), None), x, full, remat)
        return self.merger(x)


def grid_angles(hw: Int[Array, "P 2"], head_dim: int) -> Float[Array, "P half"]:
    """Rotary angles of (row, column): a quarter of the head each, base 10,000, f32."""
    return (hw[:, :, None].astype(jnp.float32) * rope_frequencies(head_dim // 2, 10000.0)).reshape(hw.shape[0], -1)


def blocked_attention(qkv: Float[Array, "P width"], num_heads: int, blocks: Blocks) -> Float[Array, "P d"]:
    """Attention inside each block of patches; `qkv` are queries, keys and values side by side. Whole rows are gathered, and only then cut
    into heads and rotated."""
    members, slot, by = blocks
    qkv = to_blocks(qkv, members, slot)
    q, k, v = (split_heads(x, x.shape[-1] // num_heads) for x in jnp.split(qkv, 3, axis=-1))
    if by is not None:
        q, k = rotate(q, by), rotate(k, by)
    mask = jnp.broadcast_to((members < slot.shape[0])[:, None, :], (*members.shape, members.shape[1]))
    return from_blocks(join_heads(attention(q, k, v, mask)), members, slot)
