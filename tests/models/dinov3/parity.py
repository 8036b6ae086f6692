"""DINOv3 in transformers and here with the same random weights: the released sizes at an eighth, and how far apart they are.

Shared by the tests and by `scripts/parity_table.py`.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from sv_jax.inputs.layout import VisionBuckets, vision_layout
from sv_jax.models.dinov3.config import DINOv3Config
from sv_jax.models.dinov3.modeling import DINOv3
from sv_jax.models.qwen2_5_vl.config import VisionConfig
from tests.parity import Error, error, randomise


def eighth(width: int, heads: int, mlp: int, *, gated: bool = False, biases: bool = True) -> DINOv3Config:
    """A released size with every width an eighth of it, and three layers."""
    return DINOv3Config(
        width // 8, mlp // 8, 3, heads, use_gated_mlp=gated, hidden_act="silu" if gated else "gelu", query_bias=biases, value_bias=biases
    )


SMALL = DINOv3Config(hidden_size=24, intermediate_size=40, num_hidden_layers=3, num_attention_heads=2)
VARIANTS = {
    "S": eighth(384, 6, 1536),
    "S+": eighth(384, 6, 1536, gated=True),
    "B": eighth(768, 12, 3072),
    "L": eighth(1024, 16, 4096),
    "H+": eighth(1280, 20, 5120, gated=True),
    "7B": eighth(4096, 32, 8192, gated=True, biases=False),
    "small, other biases, no registers": dataclasses.replace(
        SMALL, key_bias=True, proj_bias=False, mlp_bias=False, num_register_tokens=0, layer_norm_eps=1e-3, rope_theta=50.0, patch_size=4
    ),
}
GRIDS = [(1, 4, 6), (2, 6, 2), (1, 2, 2)]  # an image, a video of two slices, a small image
REAL = 52  # patches of these
EXACT = VisionBuckets((REAL,), (16,), (4,), (24,))  # padding in the shorter slices only
PADDED = VisionBuckets((80,), (16,), (6,), (32,))


def oracle(cfg: DINOv3Config):
    from transformers import DINOv3ViTConfig, DINOv3ViTModel

    model = DINOv3ViTModel(DINOv3ViTConfig(**dataclasses.asdict(cfg))).eval()
    randomise(model)
    return model


def our_name(name: str) -> str:
    """A parameter's path in ours, layers stacked, from its name in transformers' module."""
    name = re.sub(r"^model\.layer\.\d+", "layers", name).removeprefix("embeddings.")
    name = name.replace("patch_embeddings", "patch_embed").replace("attention.", "attn.").replace("_proj.", ".")
    name = re.sub(r"layer_scale([12])\.lambda1", r"ls\1", name)
    return re.sub(r"weight$", "scale" if "norm" in name else "kernel", name)


def from_torch(cfg: DINOv3Config, module) -> DINOv3:
    """Ours with the weights of transformers' module: every one of ours is set, every one of theirs but the mask token is used."""
    values: dict[str, list[np.ndarray]] = {}
    for name, p in module.named_parameters():
        if name != "embeddings.mask_token":
            value = p.detach().numpy()
            transposed = name.endswith("weight") and value.ndim > 1
            values.setdefault(our_name(name), []).append(value.reshape(len(value), -1).T if transposed else value)
    model = DINOv3(cfg, nnx.Rngs(0))
    for path, leaf in nnx.to_flat_state(nnx.state(model)):
        leaf[...] = jnp.asarray(np.stack(values.pop(".".join(path))).reshape(leaf.shape))
    assert not values
    return model


def media(cfg: DINOv3Config) -> list[np.ndarray]:
    """Random frames f32 [t, 2, 3, H, W] of each image and video; no two frames are alike."""
    rng, side = np.random.default_rng(1), cfg.patch_size
    return [rng.standard_normal((t, 2, 3, h * side, w * side), np.float32) for t, h, w in GRIDS]


def owners(grids=GRIDS) -> list[tuple[int, int]]:
    """(medium, temporal slice) of every patch of the flat list."""
    return [(m, t) for m, (slices, h, w) in enumerate(grids) for t in range(slices) for _ in range(h * w)]


def inputs(cfg: DINOv3Config, frames: list[np.ndarray], buckets: VisionBuckets = EXACT, fill: float = 0.0) -> tuple[jax.Array, ...]:
    """The arguments of the module: patches cut out of the frames by their row and column, `fill` in the padding."""
    layout, side = vision_layout(GRIDS, VisionConfig(), buckets), cfg.patch_size
    patches = np.full((2, len(layout.hw), 3 * side * side), fill, np.float32)
    for p, (medium, time) in enumerate(owners()):
        r, c = layout.hw[p] * side
        patches[:, p] = frames[medium][time, :, :, r : r + side, c : c + side].reshape(2, -1)
    return tuple(jnp.asarray(a) for a in (patches, layout.hw, layout.grid, layout.slices, layout.slice_slot))


def expected(cfg: DINOv3Config, module, frames: list[np.ndarray], hw: np.ndarray) -> np.ndarray:
    """f32 [2, REAL, C]: each frame by itself through transformers, in the dtype of its weights; patches picked by row and column."""
    import torch

    out = []
    for pixels, (_, h, w) in zip(frames, GRIDS, strict=True):
        with torch.no_grad():
            y = module(torch.tensor(pixels.reshape(-1, *pixels.shape[2:])).to(module.dtype)).last_hidden_state.float()
        out.append(y[:, 1 + cfg.num_register_tokens :].numpy().reshape(-1, 2, h, w, cfg.hidden_size))
    return np.stack([out[m][t, :, r, c] for (r, c), (m, t) in zip(hw, owners(), strict=False)], axis=1)


@functools.cache
def errors(name: str) -> dict[str, Error]:
    """Of the patch features against transformers in f32: ours in both dtypes, and transformers' own in bf16."""
    cfg = VARIANTS[name]
    module, frames = oracle(cfg), media(cfg)
    args = inputs(cfg, frames, PADDED)
    want = expected(cfg, module, frames, np.asarray(args[1]))
    assert np.abs(want).max() > 1
    run = jax.jit(from_torch(cfg, module), static_argnames="dtype", compiler_options={"xla_backend_optimization_level": 0})
    got = {dtype: np.asarray(run(*args, dtype=dtype), np.float32) for dtype in ("float32", "bfloat16")}
    assert all(np.isfinite(features).all() for features in got.values())  # in the padding too
    theirs = expected(cfg, copy.deepcopy(module).bfloat16(), frames, np.asarray(args[1]))
    return {d: error(f[:, :REAL], want) for d, f in got.items()} | {"transformers bfloat16": error(theirs, want)}
