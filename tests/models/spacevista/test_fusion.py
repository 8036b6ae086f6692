"""Fusion and dense merger against the released modules run on random weights (`tests/data/fusion.npz`), and what Eq. 1 promises."""

from __future__ import annotations

import math
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from sv_jax.errors import UserError
from sv_jax.inputs.layout import VisionBuckets, vision_layout
from sv_jax.models.batch import Vision
from sv_jax.models.qwen2_5_vl.config import VisionConfig
from sv_jax.models.spacevista.config import FusionConfig
from sv_jax.models.spacevista.fusion import FUSION_CLASSES, CrossAttentionFusion, DenseMerger, merged_layout

VECTORS = np.load(Path(__file__).parents[2] / "data" / "fusion.npz")
NORMS = {"norm_q": "norm1_query", "norm_k": "norm1_key", "norm_v": "norm1_value", "norm2": "norm2"}
GRIDS = [(1, 4, 6), (2, 6, 2), (1, 2, 2)]  # in patches: 6, 3 + 3 and 1 merged tokens
REAL, D, HEADS = 13, 16, 4
POINTWISE = ("add", "concat", "gated", "weighted")
run = jax.jit(lambda module, *args: module(*args))
EXACT = VisionBuckets((4 * REAL,), (16,), (4,), (24,))
PADDED = VisionBuckets((80,), (16,), (6,), (32,))


def weights(name: str) -> dict[str, np.ndarray]:
    top = f"{name}/weights/"
    return {key.removeprefix(top): VECTORS[key] for key in VECTORS if key.startswith(top)}


def fill(module: nnx.Module, values: dict[str, np.ndarray]) -> None:
    """Set every parameter from `values`, and use every value."""
    for path, leaf in nnx.to_flat_state(nnx.state(module)):
        value = jnp.asarray(values.pop(".".join(path)))
        assert value.shape == leaf.shape, path
        leaf[...] = value
    assert not values


def released_fusion(name: str, d: int, num_heads: int, num_blocks: int) -> CrossAttentionFusion:
    theirs = weights(name)

    def take(key):
        return np.stack([theirs.pop(f"cross_attn_blocks.{i}.{key}") for i in range(num_blocks)])

    values = {}
    for ours, key in NORMS.items():
        values |= {f"blocks.{ours}.scale": take(f"{key}.weight"), f"blocks.{ours}.bias": take(f"{key}.bias")}
    packed = np.split(take("cross_attention.in_proj_weight"), 3, axis=1), np.split(take("cross_attention.in_proj_bias"), 3, axis=1)
    for p, kernel, bias in zip("qkv", *packed, strict=True):
        values |= {f"blocks.attn.{p}.kernel": kernel.swapaxes(1, 2), f"blocks.attn.{p}.bias": bias}
    for ours, key in {"attn.o": "cross_attention.out_proj", "fc1": "mlp.0", "fc2": "mlp.3"}.items():
        values |= {f"blocks.{ours}.kernel": take(f"{key}.weight").swapaxes(1, 2), f"blocks.{ours}.bias": take(f"{key}.bias")}
    assert not theirs
    module = CrossAttentionFusion(FusionConfig(num_heads=num_heads, num_blocks=num_blocks), d, nnx.Rngs(0))
    fill(module, values)
    return module


def released_merger(name: str) -> DenseMerger:
    theirs = weights(name)
    (hidden, joined), (out, _) = theirs["mlp.0.weight"].shape, theirs["mlp.2.weight"].shape
    values = {"norm.scale": theirs["ln_q.weight"]} if "ln_q.weight" in theirs else {}
    for ours, key in {"fc1": "mlp.0", "fc2": "mlp.2"}.items():
        values |= {f"{ours}.kernel": theirs[f"{key}.weight"].T, f"{ours}.bias": theirs[f"{key}.bias"]}
    average = name == "merger_avg"
    cfg = FusionConfig(merger_hidden_size=hidden, merger="avg" if average else "mlp")
    module = DenseMerger(cfg, joined if average else joined // 4, out, nnx.Rngs(0))
    fill(module, values)
    return module


def released_pointwise(method: str, d: int) -> nnx.Module:
    theirs, values = weights(method), {}
    for key, value in theirs.items():
        name, _, part = key.replace(".0.", ".").partition(".")
        if not part:
            values[name] = value.reshape(1)
        elif name.startswith("norm"):
            values[f"{name}.{'scale' if part == 'weight' else part}"] = value
        else:
            values[f"{name}.{'kernel' if part == 'weight' else part}"] = value.T
    module = FUSION_CLASSES[method](FusionConfig(method=method), d, nnx.Rngs(0))
    fill(module, values)
    return module


def new(method: str) -> nnx.Module:
    return FUSION_CLASSES[method](FusionConfig(num_heads=HEADS, num_blocks=2, method=method), D, nnx.Rngs(0))


def randomised(method: str = "cross_attention") -> nnx.Module:
    """A fusion none of whose parameters is zero or one."""
    module = new(method)
    rng = np.random.default_rng(3)
    for _, leaf in nnx.to_flat_state(nnx.state(module)):
        leaf[...] = leaf[...] + 0.3 * rng.standard_normal(leaf.shape, np.float32)
    return module


def layout(buckets: VisionBuckets = EXACT, grids=GRIDS) -> tuple[jax.Array, ...]:
    arrays = vision_layout(grids, VisionConfig(), buckets)
    return merged_layout(Vision(None, None, *(jnp.asarray(a) for a in arrays)))


def tokens(size: int = REAL, padding: float = 0.0) -> tuple[jax.Array, jax.Array]:
    """Random Qwen tokens and dense features [size, D], the same ones whatever the padding."""
    rng = np.random.default_rng(4)
    out = np.full((2, size, D), padding, np.float32)
    out[:, :REAL] = rng.standard_normal((2, REAL, D))
    return jnp.asarray(out[0]), jnp.asarray(out[1])


@pytest.mark.parametrize(("name", "num_heads", "num_blocks"), [("cross_1", 4, 1), ("cross_2", 8, 2)])
def test_cross_attention_equals_the_released_code(name, num_heads, num_blocks):
    x, g, want = (VECTORS[f"{name}/{key}"] for key in ("in/x", "in/g", "out"))
    z, h, w, d = x.shape
    index = np.arange(z * h * w, dtype=np.int32)
    hw = np.stack([index // w % h, index % w], axis=1)
    grid = np.tile(np.array([h, w], np.int32), (len(index), 1))
    args = (x.reshape(-1, d), g.reshape(-1, d), hw, grid, index.reshape(z, h * w), index)
    got = jax.jit(released_fusion(name, d, num_heads, num_blocks))(*map(jnp.asarray, args))
    np.testing.assert_allclose(got, want.reshape(-1, d), atol=1e-5)


@pytest.mark.parametrize("method", POINTWISE)
def test_the_pointwise_methods_equal_the_released_code(method):
    x, g, want = (VECTORS[f"{method}/{key}"].reshape(-1, 32) for key in ("in/x", "in/g", "out"))
    np.testing.assert_allclose(run(released_pointwise(method, 32), x, g), want, atol=1e-5)


@pytest.mark.parametrize("name", ["merger_mlp", "merger_mlp_odd", "merger_avg"])
def test_merger_equals_the_released_code(name):
    """The released code drops an odd last row or column; our grids are even by construction, so the test cuts it off."""
    x, want = VECTORS[f"{name}/in/x"], VECTORS[f"{name}/out"]
    n, h, w, _ = want.shape
    x = x[:, : 2 * h, : 2 * w].reshape(n, h, 2, w, 2, -1).swapaxes(2, 3)  # the processor's order: 2x2 blocks, row by row
    got = released_merger(name)(jnp.asarray(x.reshape(n * h * w * 4, -1)))
    np.testing.assert_allclose(got, want.reshape(n * h * w, -1), atol=1e-5)


@pytest.mark.parametrize("buckets", [EXACT, PADDED], ids=["exact", "padded"])
def test_merged_layout_counts_cells_in_raster_order(buckets):
    hw, _, slices, slot = map(np.asarray, layout(buckets))
    s, m = buckets.patches[0] // 4, buckets.slice_patches[0] // 4
    assert hw.shape == (s, 2) and slices.shape == (buckets.slices[0], m)
    want_slices, want_hw = np.full_like(slices, s), []
    for z, (h, w) in enumerate((h, w) for t, h, w in GRIDS for _ in range(t)):
        cells = [(r, c) for r in range(h // 2) for c in range(w // 2)]
        want_slices[z, : len(cells)] = len(want_hw) + np.arange(len(cells))
        want_hw += cells
    np.testing.assert_array_equal(hw[:REAL], want_hw)
    np.testing.assert_array_equal(slices, want_slices)
    np.testing.assert_array_equal(slices.reshape(-1)[slot[:REAL]], np.arange(REAL))


@pytest.mark.parametrize("method", FUSION_CLASSES)
def test_a_new_fusion_changes_nothing_where_there_is_a_residual_and_a_trained_one_does(method):
    x, _ = tokens()
    patches = jnp.asarray(np.random.default_rng(5).standard_normal((4 * REAL, D), np.float32))
    merger = DenseMerger(FusionConfig(24, method=method), D, D, nnx.Rngs(1))
    started = run(new(method), x, run(merger, patches), *layout())
    if method in ("concat", "gated"):  # no residual: the tokens come out normalised
        assert np.abs(started - x).max() > 0.1
    else:
        np.testing.assert_array_equal(started, x)
    trained, g = randomised(method), tokens()[1]
    y = run(trained, x, g, *layout())
    assert y.shape == x.shape and np.abs(y - x).max(axis=1).min() > 0.05
    assert np.abs(run(trained, x, -g, *layout()) - y).max(axis=1).min() > 0.01  # the dense features are seen by every token


def test_a_token_sees_the_dense_features_of_its_own_slice_and_the_tokens_of_none():
    (x, g), fuse = tokens(), randomised()
    first = slice(6, 9)  # the video's first slice
    dx, dg = jax.jit(jax.grad(lambda x, g: (fuse(x, g, *layout())[first] ** 3).sum(), argnums=(0, 1)))(x, g)
    want = np.zeros(REAL, bool)
    want[first] = True
    for gradient in (dx, dg):
        np.testing.assert_array_equal(np.abs(np.asarray(gradient)).max(axis=1) > 0, want)
    dx = jax.jit(jax.grad(lambda x: (fuse(x, g, *layout())[6] ** 3).sum()))(x)
    assert np.flatnonzero(np.abs(np.asarray(dx)).max(axis=1)).tolist() == [6]


def test_one_list_of_media_equals_each_by_itself():
    (x, g), fuse, start = tokens(), randomised(), 0
    together = np.asarray(run(fuse, x, g, *layout()))
    for grid in GRIDS:
        n = math.prod(grid) // 4
        alone = VisionBuckets((4 * n,), (16,), (grid[0],), (grid[1] * grid[2],))
        got = run(fuse, x[start : start + n], g[start : start + n], *layout(alone, [grid]))
        np.testing.assert_allclose(got, together[start : start + n], atol=1e-5)
        start += n


def test_what_stands_in_the_padding_changes_nothing():
    fuse = randomised()

    def loss(fuse, args):
        y = fuse(*args)
        return (y[:REAL] ** 2).mean(), y

    value_and_grad = jax.jit(jax.value_and_grad(loss, has_aux=True))
    (_, want), exact = value_and_grad(fuse, (*tokens(), *layout()))
    (_, got), padded = value_and_grad(fuse, (*tokens(PADDED.patches[0] // 4, 1e3), *layout(PADDED)))
    np.testing.assert_allclose(got[:REAL], want, atol=1e-5)
    assert np.isfinite(got).all()
    for (path, a), (_, b) in zip(*(nnx.to_flat_state(nnx.state(g)) for g in (exact, padded)), strict=True):
        np.testing.assert_allclose(a[...], b[...], atol=1e-5, err_msg=str(path))


@pytest.mark.parametrize("method", FUSION_CLASSES)
def test_gradients_reach_every_parameter_and_both_inputs(method):
    x, _ = tokens()
    patches = jnp.asarray(np.random.default_rng(5).standard_normal((4 * REAL, D), np.float32))
    merger = DenseMerger(FusionConfig(24, method=method), D, D, nnx.Rngs(1))

    grad = jax.jit(jax.grad(lambda fuse, merger, x: (fuse(x, merger(patches), *layout()) ** 3).mean(), argnums=(0, 1, 2)))
    alive = lambda grads: {".".join(p) for p, leaf in nnx.to_flat_state(nnx.state(grads)) if np.abs(leaf[...]).max() > 1e-6}  # noqa: E731
    everything = lambda module: {".".join(path) for path, _ in nnx.to_flat_state(nnx.state(module))}  # noqa: E731
    at_fusion, at_merger, dx = grad(new(method), merger, x)
    opened = {"cross_attention": {"blocks.attn.o", "blocks.fc2"}, "weighted": {"weight_3d"}}.get(method)
    if opened:  # the first step opens the rest
        assert alive(at_fusion) == {p for p in everything(at_fusion) if p.startswith(tuple(opened))}
        assert not alive(at_merger)
    merger.fc2.kernel[...] = merger.fc2.kernel[...] + 0.1
    at_fusion, at_merger, dx = grad(randomised(method), merger, x)
    unseen = {"blocks.attn.k.bias", "blocks.norm_k.bias"}  # softmax does not see a constant added to every key
    assert alive(at_fusion) | unseen >= everything(at_fusion)
    assert alive(at_merger) == everything(at_merger)
    assert np.abs(dx).min(axis=1).max() > 0


@pytest.mark.parametrize("method", FUSION_CLASSES)
def test_bf16_tokens_stay_bf16_and_near_f32(method):
    (x, g), fuse = tokens(), randomised(method)
    got = run(fuse, x.astype(jnp.bfloat16), g.astype(jnp.bfloat16), *layout())
    assert got.dtype == jnp.bfloat16
    assert np.abs(np.asarray(got, np.float32) - run(fuse, x, g, *layout())).mean() < 0.05


def test_an_unknown_method_is_named():
    with pytest.raises(UserError, match="fusion method 'concatt' is not one of .*did you mean 'concat'"):
        FusionConfig(method="concatt")


@pytest.mark.parametrize(
    ("num_heads", "d", "message"), [(3, 16, "num_heads 3: .*hidden_size 16"), (2, 18, "hidden_size 18: .*multiple of 4")]
)
def test_sizes_that_do_not_fit_are_named(num_heads, d, message):
    with pytest.raises(UserError, match=message):
        CrossAttentionFusion(FusionConfig(num_heads=num_heads), d, nnx.Rngs(0))
