"""Fusion of DINOv3's dense features into Qwen's vision tokens: F_V' = CA(query = F_V, key = value = MLP(merge(F_D))) + F_V (Eq. 1),
and four simpler ways, chosen by `FusionConfig.method`.

P patches, S = P/4 merged tokens, C DINOv3 width, D model width, Z temporal slices of at most m = M/4 merged tokens.
A fusion is `f(x, g, *merged_layout(vision)) -> [S, D]` of Qwen's tokens x [S, D] and the dense features g [S, D] of the same places. Names
and arithmetic are those of the released code, save where a method can start as Qwen2.5-VL: there the last product of each residual
branch, or the weight of g, starts at zero. `concat` and `gated` have no residual and normalise x: they cannot.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from sv_jax.errors import UserError
from sv_jax.models.batch import Vision
from sv_jax.models.layers import LayerNorm, Linear, RMSNorm, gelu, run_stack, stack
from sv_jax.models.qwen2_5_vl.vision import Blocks, blocked_attention
from sv_jax.models.spacevista.config import FusionConfig

CELLS = 4  # patches of a merged token: 2x2, consecutive in the flat list, row by row
MERGER_EPS = 1e-6
EPS = 1e-5


class DenseMerger(nnx.Module):
    """2x2 neighbouring DINOv3 patches -> one token of width D. Each patch is normalised by itself, before the four are joined; `avg`
    takes their mean instead."""

    def __init__(self, cfg: FusionConfig, width: int, out: int, rngs: nnx.Rngs):
        average = cfg.merger == "avg"
        self.norm = None if average else RMSNorm(width, MERGER_EPS)
        self.fc1 = Linear(width if average else CELLS * width, cfg.merger_hidden_size, bias=True, rngs=rngs)
        make = zero_linear if cfg.method == "add" else Linear  # what is simply added starts at zero
        self.fc2 = make(cfg.merger_hidden_size, out, bias=True, rngs=rngs)

    def __call__(self, x: Float[Array, "P C"]) -> Float[Array, "S D"]:
        s, c = x.shape[0] // CELLS, x.shape[1]
        x = x.reshape(s, CELLS, c).mean(1) if self.norm is None else self.norm(x).reshape(s, CELLS * c)
        return self.fc2(gelu(self.fc1(x)).astype(x.dtype))


class CrossAttention(nnx.Module):
    def __init__(self, d: int, num_heads: int, rngs: nnx.Rngs):
        self.num_heads = num_heads
        self.q = Linear(d, d, bias=True, rngs=rngs)
        self.k = Linear(d, d, bias=True, rngs=rngs)
        self.v = Linear(d, d, bias=True, rngs=rngs)
        self.o = zero_linear(d, d, bias=True, rngs=rngs)

    def __call__(
        self,
        q: Float[Array, "S D"],
        k: Float[Array, "S D"],
        v: Float[Array, "S D"],
        slices: Int[Array, "Z m"],
        slot: Int[Array, " S"],
    ) -> Float[Array, "S D"]:
        qkv = jnp.concatenate([self.q(q), self.k(k), self.v(v)], axis=-1)
        return self.o(blocked_attention(qkv, self.num_heads, Blocks(slices, slot, None)))


class FusionBlock(nnx.Module):
    """`x + MHA(LN x + P, LN g + P, LN g)`, then `x + MLP(LN x)`."""

    def __init__(self, d: int, num_heads: int, rngs: nnx.Rngs):
        self.norm_q, self.norm_k, self.norm_v, self.norm2 = (LayerNorm(d, EPS) for _ in range(4))
        self.attn = CrossAttention(d, num_heads, rngs)
        self.fc1 = Linear(d, 4 * d, bias=True, rngs=rngs)
        self.fc2 = zero_linear(4 * d, d, bias=True, rngs=rngs)

    def __call__(
        self,
        x: Float[Array, "S D"],
        g: Float[Array, "S D"],
        position: Float[Array, "S D"],
        slices: Int[Array, "Z m"],
        slot: Int[Array, " S"],
    ) -> Float[Array, "S D"]:
        x = x + self.attn(self.norm_q(x) + position, self.norm_k(g) + position, self.norm_v(g), slices, slot)
        return x + self.fc2(gelu(self.fc1(self.norm2(x))).astype(x.dtype))


class CrossAttentionFusion(nnx.Module):
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
        x, _ = run_stack(self.blocks, lambda x, block, _: (block(x, g, position, slices, slot), None), x)
        return x


class AddFusion(nnx.Module):
    """`x + g`. The dense merger starts at zero instead."""

    def __init__(self, cfg: FusionConfig, d: int, rngs: nnx.Rngs):
        pass

    def __call__(self, x: Float[Array, "S D"], g: Float[Array, "S D"], *layout: Array) -> Float[Array, "S D"]:
        return x + g


class ConcatFusion(nnx.Module):
    """`W [LN x; LN g] + b`."""

    def __init__(self, cfg: FusionConfig, d: int, rngs: nnx.Rngs):
        self.norm1, self.norm2 = LayerNorm(d, EPS), LayerNorm(d, EPS)
        self.projection = Linear(2 * d, d, bias=True, rngs=rngs)

    def __call__(self, x: Float[Array, "S D"], g: Float[Array, "S D"], *layout: Array) -> Float[Array, "S D"]:
        return self.projection(jnp.concatenate([self.norm1(x), self.norm2(g)], axis=-1))


class GatedFusion(nnx.Module):
    """`s LN x + (1 - s) LN g` with s = sigmoid(W [LN x; LN g] + b), channel by channel."""

    def __init__(self, cfg: FusionConfig, d: int, rngs: nnx.Rngs):
        self.norm1, self.norm2 = LayerNorm(d, EPS), LayerNorm(d, EPS)
        self.gate_projection = Linear(2 * d, d, bias=True, rngs=rngs)

    def __call__(self, x: Float[Array, "S D"], g: Float[Array, "S D"], *layout: Array) -> Float[Array, "S D"]:
        x, g = self.norm1(x), self.norm2(g)
        s = jax.nn.sigmoid(self.gate_projection(jnp.concatenate([x, g], axis=-1)))
        return s * x + (1 - s) * g


class WeightedFusion(nnx.Module):
    """`(a x + b g) / (a + b)`, two scalars. Both start at 0.5 in the released code, here b starts at 0."""

    def __init__(self, cfg: FusionConfig, d: int, rngs: nnx.Rngs):
        self.weight_2d, self.weight_3d = nnx.Param(jnp.full(1, 0.5)), nnx.Param(jnp.zeros(1))

    def __call__(self, x: Float[Array, "S D"], g: Float[Array, "S D"], *layout: Array) -> Float[Array, "S D"]:
        a, b = (w[...].astype(jnp.float32) for w in (self.weight_2d, self.weight_3d))
        return ((a * x + b * g) / (a + b)).astype(x.dtype)


FUSION_CLASSES = {
    "cross_attention": CrossAttentionFusion,
    "add": AddFusion,
    "concat": ConcatFusion,
    "gated": GatedFusion,
    "weighted": WeightedFusion,
}


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


def zero_linear(d_in: int, d_out: int, *, bias: bool, rngs: nnx.Rngs) -> Linear:
    """A linear layer whose output is zero until it is trained."""
    linear = Linear(d_in, d_out, bias=bias, rngs=rngs)
    linear.kernel[...] = jnp.zeros((d_in, d_out))
    return linear
