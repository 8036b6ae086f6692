"""DINOv3 against transformers' `DINOv3ViTModel` on random weights, every one of them (zeros and ones hide what they multiply)."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from sv_jax.inputs.layout import VisionBuckets, vision_layout
from sv_jax.models.dinov3.config import DINOv3Config
from sv_jax.models.dinov3.modeling import DINOv3, patch_angles
from sv_jax.models.qwen2_5_vl.config import VisionConfig

ROPE = np.load(Path(__file__).parents[2] / "data" / "tower.npz")
SMALL = DINOv3Config(hidden_size=24, intermediate_size=40, num_hidden_layers=3, num_attention_heads=2, num_register_tokens=4)
VARIANTS = {
    "plain": SMALL,
    "gated": dataclasses.replace(SMALL, use_gated_mlp=True, hidden_act="silu"),
    "7b_like": dataclasses.replace(
        SMALL, hidden_size=32, use_gated_mlp=True, hidden_act="silu", query_bias=False, value_bias=False, num_register_tokens=2
    ),
    "other_biases": dataclasses.replace(
        SMALL, key_bias=True, proj_bias=False, mlp_bias=False, num_register_tokens=0, layer_norm_eps=1e-3, rope_theta=50.0, patch_size=4
    ),
}
GRIDS = [(1, 4, 6), (2, 6, 2), (1, 2, 2)]  # an image, a video of two slices, a small image
REAL = 52  # patches of these
EXACT = VisionBuckets((REAL,), (16,), (4,), (24,))  # padding in the shorter slices only
PADDED = VisionBuckets((80,), (16,), (6,), (32,))


def randomise(module, seed: int = 0) -> None:
    import torch

    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in module.named_parameters():
            centre = 1.0 if "norm" in name and name.endswith("weight") else 0.0
            p.copy_(centre + 0.3 * torch.randn(p.shape, generator=generator))


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
    """f32 [2, REAL, C]: each frame by itself through transformers, its patches picked by row and column."""
    import torch

    out = []
    for pixels, (_, h, w) in zip(frames, GRIDS, strict=True):
        with torch.no_grad():
            y = module(torch.tensor(pixels.reshape(-1, *pixels.shape[2:]))).last_hidden_state
        out.append(y[:, 1 + cfg.num_register_tokens :].numpy().reshape(-1, 2, h, w, cfg.hidden_size))
    return np.stack([out[m][t, :, r, c] for (r, c), (m, t) in zip(hw, owners(), strict=False)], axis=1)


@pytest.fixture(scope="module")
def small():
    module = oracle(SMALL)
    return module, from_torch(SMALL, module)


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("buckets", [EXACT, PADDED], ids=["exact", "padded"])
def test_features_equal_transformers_for_frames_of_different_sizes_in_one_list(name, buckets):
    cfg = VARIANTS[name]
    module, frames = oracle(cfg), media(cfg)
    args = inputs(cfg, frames, buckets)
    want = expected(cfg, module, frames, np.asarray(args[1]))
    got = np.asarray(jax.jit(from_torch(cfg, module))(*args))
    assert np.abs(want).max() > 1
    np.testing.assert_allclose(got[:, :REAL], want, atol=1e-5)
    assert np.isfinite(got).all()


@pytest.mark.parametrize("case", [0, 1])
def test_rope_equals_transformers(case):
    h, w = ROPE[f"dinov3/{case}/grid_hw"].tolist()
    cos, sin = ROPE[f"dinov3/{case}/cos"], ROPE[f"dinov3/{case}/sin"]
    hw = jnp.stack(jnp.meshgrid(jnp.arange(h), jnp.arange(w), indexing="ij"), axis=-1).reshape(-1, 2)
    angles = jnp.tile(patch_angles(hw, jnp.full_like(hw, jnp.array([h, w])), cos.shape[1], 100.0), (1, 2))
    np.testing.assert_allclose(jnp.cos(angles), cos, atol=1e-6)
    np.testing.assert_allclose(jnp.sin(angles), sin, atol=1e-6)


def test_what_stands_in_the_padding_changes_nothing(small):
    _, model = small
    want, got = (jax.jit(model)(*inputs(SMALL, media(SMALL), buckets, fill)) for buckets, fill in ((EXACT, 0.0), (PADDED, 1e3)))
    np.testing.assert_allclose(got[:, :REAL], want, atol=1e-6)


def test_a_frame_sees_itself_alone(small):
    """The gradient of one frame's features reaches the patches of that frame, all of them, and no other."""
    _, model = small
    patches, *rest = inputs(SMALL, media(SMALL), PADDED)
    second_slice = slice(24 + 12, 24 + 24)  # of the video
    grad = jax.jit(jax.grad(lambda patches: (model(patches, *rest)[1, second_slice] ** 3).sum()))(patches)
    reached = np.abs(np.asarray(grad)).max(axis=-1) > 0
    want = np.zeros_like(reached)
    want[1, second_slice] = True
    np.testing.assert_array_equal(reached, want)


def test_gradients_reach_every_parameter_and_ignore_the_padding(small):
    _, model = small
    grad = jax.jit(jax.grad(lambda m, args: (m(*args)[:, :REAL] ** 3).mean()))
    exact, padded = (grad(model, inputs(SMALL, media(SMALL), buckets, fill)) for buckets, fill in ((EXACT, 0.0), (PADDED, 9.0)))
    for (path, a), (_, b) in zip(*(nnx.to_flat_state(nnx.state(g)) for g in (exact, padded)), strict=True):
        a, b = np.asarray(a[...]), np.asarray(b[...])
        assert np.abs(a).reshape(len(a), -1).max(axis=1).min() > 0 or path[0] != "layers", path  # in every layer
        assert np.abs(a).max() > 0, path
        np.testing.assert_allclose(a, b, atol=1e-5 * np.abs(a).max(), err_msg=str(path))


@pytest.mark.parametrize("weights", [jnp.float32, jnp.bfloat16])
def test_the_compute_dtype_is_that_of_the_patches_or_the_one_asked_for(small, weights):
    _, model = small
    patches, *rest = inputs(SMALL, media(SMALL))
    want = np.asarray(jax.jit(model)(patches, *rest))
    stored = jax.tree.map(lambda a: a.astype(weights), model)
    assert jax.eval_shape(stored, patches, *rest).dtype == jnp.float32
    assert jax.eval_shape(lambda p: stored(p, *rest, dtype=jnp.bfloat16), patches).dtype == jnp.bfloat16
    got = jax.jit(stored)(patches.astype(jnp.bfloat16), *rest)
    assert got.dtype == jnp.bfloat16
    error = np.abs(np.asarray(got, np.float32) - want)
    assert error.mean() < 0.03 and error.max() < 0.3
