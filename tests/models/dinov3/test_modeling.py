"""DINOv3 against transformers' `DINOv3ViTModel` on random weights, every one of them (zeros and ones hide what they multiply)."""

from __future__ import annotations

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from sv_jax.models.dinov3.modeling import patch_angles
from tests.models.dinov3.parity import EXACT, PADDED, REAL, SMALL, VARIANTS, errors, from_torch, inputs, media, oracle
from tests.parity import check

ROPE = np.load(Path(__file__).parents[2] / "data" / "tower.npz")


@pytest.fixture(scope="module")
def small():
    module = oracle(SMALL)
    return module, from_torch(SMALL, module)


@pytest.mark.parametrize("name", VARIANTS)
def test_features_equal_transformers_for_frames_of_different_sizes_in_one_list(name):
    check(errors(name), exact=2e-5)


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
    np.testing.assert_allclose(got[:, :REAL], want, atol=1e-5)  # sums of other lengths are rounded otherwise


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
