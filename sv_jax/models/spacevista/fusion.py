"""Fusion of DINOv3's dense features into Qwen's vision tokens: F_V' = CA(query = F_V, key = value = MLP(merge(F_D))) + F_V (Eq. 1).

P patches, S = P/4 merged tokens, C DINOv3 width, D model width, Z temporal slices of at most m = M/4 merged tokens.
A token attends to the dense features of its own temporal slice. Names and arithmetic are those of the released code, save that the last
product of each branch starts at zero, which makes step 0 equal to Qwen2.5-VL.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from sv_jax.errors import UserError
from sv_jax.models.batch import Vision
from sv_jax.models.layers import LayerNorm, Linear, RMSNorm, stack
from sv_jax.models.qwen2_5_vl.vision import blocked_attention
from sv_jax.models.spacevista.config import FusionConfig

CELLS = 4  # patches of a merged token: 2x2, consecutive in the flat list, row by row
MERGER_EPS = 1e-6
EPS = 1e-5


class DenseMerger(nnx.Module):
    """2x2 neighbouring DINOv3 patches -> one token of width D. Each patch is normalised by itself, before the four are joined."""

    def __init__(self, width: int, hidden: int, out: int, rngs: nnx.Rngs):
        self.norm = RMSNorm(width, MERGER_EPS)
        self.fc1 = Linear(CELLS * width, hidden, bias=True, rngs=rngs)
        self.fc2 = Linear(hidden, out, bias=True, rngs=rngs)

    def __call__(self, x: Float[Array, "P C"]) -> Float[Array, "S D"]:
        x = self.norm(x).reshape(x.shape[0] // CELLS, -1)
        return self.fc2(jax.nn.gelu(self.fc1(x), approximate=False))


class CrossAttention(nnx.Module):
    def __init__(self, d: int, num_heads: int, rngs: nnx.Rngs):
        self.num_heads = num_heads
        self.q = Linear(d, d, bias=True, rngs=rngs)
        self.k = Linear(d, d, bias=True, rngs=rngs)
        self.v = Linear(d, d, bias=True, rngs=rngs)
        self.o = zero_linear(d, d, rngs)

    def __call__(
        self,
        q: Float[Array, "S D"],
        k: Float[Array, "S D"],
        v: Float[Array, "S D"],
        slices: Int[Array, "Z m"],
        slot: Int[Array, " S"],
    ) -> Float[Array, "S D"]:
        heads = (proj(y).reshape(y.shape[0], self.num_heads, -1) for proj, y in ((self.q, q), (self.k, k), (self.v, v)))
        return self.o(blocked_attention(*heads, slices, slot).reshape(q.shape))


class FusionBlock(nnx.Module):
    """`x + MHA(LN x + P, LN g + P, LN g)`, then `x + MLP(LN x)`."""

    def __init__(self, d: int, num_heads: int, rngs: nnx.Rngs):
        self.norm_q, self.norm_k, self.norm_v, self.norm2 = (LayerNorm(d, EPS) for _ in range(4))
        self.attn = CrossAttention(d, num_heads, rngs)
        self.fc1 = Linear(d, 4 * d, bias=True, rngs=rngs)
        self.fc2 = zero_linear(4 * d, d, rngs)

    def __call__(
        self,
        x: Float[Array, "S D"],
        g: Float[Array, "S D"],
        position: Float[Array, "S D"],
        slices: Int[Array, "Z m"],
        slot: Int[Array, " S"],
    ) -> Float[Array, "S D"]:
        x = x + self.attn(self.norm_q(x) + position, self.norm_k(g) + position, self.norm_v(g), slices, slot)
        return x + self.fc2(jax.nn.gelu(self.fc1(self.norm2(x)), approximate=False))


class Fusion(nnx.Module):
    """A stack of cross-attention blocks; the dense features `g` are the same for all."""

    def __init__(self, cfg: FusionConfig, d: int, rngs: nnx.Rngs):
        if d % cfg.num_heads:
            raise UserError(f"fusion num_heads {cfg.num_heads}: expected a divisor of the model's hidden_size {d}")
        if d % 4:
            raise UserError(f"hidden_size {d}: fusion expects a multiple of 4 (sines and cosines of rows and columns)")
        self.blocks = stack(cfg.num_blocks, lambda r: FusionBlock(d, cfg.num_heads, r), rngs)

    def __call__(
        self,
        x: Float[Array, "S D"],
        g: Float[Array, "S D"],
        hw: Int[Array, "S 2"],
        grid: Int[Array, "S 2"],
        slices: Int[Array, "Z m"],
        slot: Int[Array, " S"],
    ) -> Float[Array, "S D"]:
        """Qwen's merged tokens `x` fused with the dense features `g`; the rest is `merged_layout`.

        `grid` is not read: P counts cells from the frame's corner, so frames of every size share one table of positions."""
        position = cell_positions(hw, x.shape[-1]).astype(x.dtype)
        x, _ = jax.lax.scan(lambda x, block: (block(x, g, position, slices, slot), None), x, self.blocks)
        return x


def merged_layout(vision: Vision) -> tuple[Int[Array, "S 2"], Int[Array, "S 2"], Int[Array, "Z m"], Int[Array, " S"]]:
    """(hw, grid, slices, slot) of the merged tokens, from those of the patches: padding index P becomes S; grid is 0 on padding.

    Four consecutive patches are one token, in the flat list and in a slice (M is a multiple of 4): every fourth entry names the token."""
    hw, grid = vision.hw[::CELLS] // 2, vision.grid[::CELLS] // 2
    return hw, grid, vision.slices[:, ::CELLS] // CELLS, vision.slice_slot[::CELLS] // CELLS


def cell_positions(hw: Int[Array, "S 2"], d: int) -> Float[Array, "S D"]:
    """f32 P of Eq. 1's released form: the first half of the channels from the row, the second from the column, each sines then cosines."""
    frequency = 10000.0 ** (-jnp.arange(d // 4, dtype=jnp.float32) / (d // 4))
    angles = hw[:, :, None].astype(jnp.float32) * frequency
    return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1).reshape(hw.shape[0], d)


def zero_linear(d_in: int, d_out: int, rngs: nnx.Rngs) -> Linear:
    """A linear layer whose output is zero until it is trained."""
    linear = Linear(d_in, d_out, bias=True, rngs=rngs)
    linear.kernel[...] = jnp.zeros((d_in, d_out))
    return linear
