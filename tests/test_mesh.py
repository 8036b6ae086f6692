"""Shardings by path: every parameter has one row, moments and LoRA arrays follow their weight, a mesh changes no number."""

from __future__ import annotations

import functools
import logging
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from jax.sharding import PartitionSpec as P

from sv_jax import mesh as m
from sv_jax.errors import UserError
from sv_jax.models.batch import Batch, Vision
from sv_jax.models.dinov3.config import DINOv3Config
from sv_jax.models.layers import causal_attention
from sv_jax.models.qwen2_5_vl.config import QwenConfig, TextConfig
from sv_jax.models.qwen2_5_vl.text import TextModel, mrope_angles, packed_mask, run_layers
from sv_jax.models.spacevista.config import ExpertsConfig, FusionConfig, SpaceVistaConfig, XLoRAConfig
from sv_jax.models.spacevista.model import SpaceVista
from sv_jax.models.spacevista.routers import layer as layer_router
from sv_jax.train.loss import sft_loss
from sv_jax.train.state import OptimConfig, TrainState, init_state, make_optimizer

EXPERTS = ExpertsConfig(num_experts=4, rank=2, router_hidden_size=8)
TEXT = TextConfig(64, 32, 48, 2, 4, 2, mrope_section=(1, 1, 2))


class Holder(nnx.Module):
    def __init__(self):
        self.text = TextModel(TEXT, EXPERTS, nnx.Rngs(0))


@functools.cache
def text_state() -> tuple[nnx.GraphDef, nnx.State]:
    """Graph and random parameters on the host, none of them at the zeros or ones of initialisation."""
    graphdef, shapes = nnx.split(nnx.eval_shape(Holder))
    rng = np.random.default_rng(0)
    return graphdef, jax.tree.map(lambda x: (0.1 * rng.standard_normal(x.shape)).astype(np.float32), shapes)


def names(tree) -> dict[str, object]:
    return {".".join(m.path_names(path)): leaf for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]}


def test_weights_biases_and_lora_arrays_get_the_axes_of_their_kernel():
    state = nnx.state(nnx.eval_shape(Holder))
    specs = {name: s.spec for name, s in names(m.param_shardings(state, m.make_mesh("fsdp=2,tensor=4"))).items()}
    assert specs["text.embed.embedding"] == P("tensor", "fsdp")
    assert specs["text.layers.attn.q.kernel"] == P(None, "fsdp", "tensor")
    assert specs["text.layers.attn.q.bias"] == P(None, "tensor")
    assert specs["text.layers.attn.q.lora_a"] == P(None, "fsdp", None, None)
    assert specs["text.layers.attn.q.lora_b"] == P(None, None, None, "tensor")
    assert specs["text.layers.mlp.down.kernel"] == P(None, "tensor", "fsdp")
    assert specs["text.layers.mlp.down.lora_a"] == P(None, "tensor", None, None)
    assert specs["text.layers.mlp.down.lora_b"] == P(None, None, None, "fsdp")
    assert specs["text.layers.router.fc1.kernel"] == P(None, "fsdp", None)
    assert specs["text.norm.scale"] == P(None)


@pytest.mark.parametrize(
    "gated, fusion, experts",
    [
        (False, FusionConfig(), ExpertsConfig()),
        (True, FusionConfig(method="gated", merger="avg"), ExpertsConfig(router="prompt")),
        (False, FusionConfig(method="concat"), ExpertsConfig(router="xlora", router_hidden_size=2048, xlora=XLoRAConfig(depth=8))),
        (False, FusionConfig(method="weighted"), ExpertsConfig(router="xlora", xlora=XLoRAConfig(layerwise=False))),
    ],
)
def test_every_parameter_of_the_whole_model_has_a_row_and_little_of_it_is_on_every_device(gated, fusion, experts):
    dino = DINOv3Config(use_gated_mlp=gated, key_bias=gated)
    cfg = SpaceVistaConfig(QwenConfig(), dino, fusion, experts)
    state = nnx.state(nnx.eval_shape(lambda: SpaceVista(cfg, nnx.Rngs(0))))
    for spec, most in (("fsdp=8", 0.02), ("fsdp=2,tensor=4", 0.001)):
        shardings = m.param_shardings(state, m.make_mesh(spec))
        sizes = [
            (math.prod(x.shape), s.is_fully_replicated) for x, s in zip(jax.tree.leaves(state), jax.tree.leaves(shardings), strict=True)
        ]
        assert len(sizes) > 75 and sum(n for n, whole in sizes if whole) < most * sum(n for n, _ in sizes)


def test_no_path_has_two_rows_and_every_row_names_known_axes():
    for pattern, axes in m.AXES.items():
        assert set(axes) <= set(m.RULES), pattern
        example = re.sub(r"\(\?:([^|)]*)[^)]*\)", r"\1", pattern).replace(r"\w*", "").replace("\\", "")
        example = re.sub(r"\[(.).*?\]", r"\1", example)
        assert [p for p in m.AXES if re.fullmatch(p, example)] == [pattern], example


def test_a_leaf_without_a_row_or_with_another_rank_is_an_error():
    mesh = m.make_mesh("fsdp=8")
    with pytest.raises(ValueError, match="'text.layers.attn.qq.kernel' .* expected one row of AXES"):
        m.param_shardings({"text": {"layers": {"attn": {"qq": {"kernel": jnp.ones((2, 8, 8))}}}}}, mesh)
    with pytest.raises(ValueError, match="'text.layers.attn.q.kernel' of shape"):
        m.param_shardings({"text": {"layers": {"attn": {"q": {"kernel": jnp.ones((8, 8))}}}}}, mesh)
    with pytest.raises(ValueError, match="'momentum' of shape"):
        m.param_shardings({"momentum": jnp.ones(8)}, mesh)


def test_an_axis_that_does_not_divide_stays_whole_and_is_logged_once(caplog):
    mesh = m.make_mesh("fsdp=2,tensor=4")
    m._logged.clear()
    with caplog.at_level(logging.INFO, "sv_jax.mesh"):
        for _ in range(2):
            assert m.spec(("layer", "embed", "heads"), (2, 8, 6), mesh, "w") == P(None, "fsdp", None)
    assert [r.message for r in caplog.records] == ["w: heads of size 6 is not divisible by tensor = 4; kept whole on every device"]


def test_rows_of_a_batch_lie_over_data_and_fsdp():
    mesh = m.make_mesh("data=2,fsdp=2,tensor=2")
    rows = {name: np.zeros((4, 6), np.int32) for name in Batch._fields}
    vision = Vision(*(np.zeros(s) for s in [(8, 3), (2, 8, 3), (8, 2), (8, 2), (4, 4), (8,), (3, 4), (8,)]))
    got = m.batch_shardings(Batch(**{**rows, "positions": np.zeros((3, 4, 6), np.int32), "vision": vision}), mesh)
    over = ("data", "fsdp")
    assert got.tokens.spec == P(over, None) and got.positions.spec == P(None, over, None)
    assert got.vision.patches.spec == P(over, None) and got.vision.dino_patches.spec == P(None, over, None)
    assert got.vision.slices.spec == P(None, None)  # three slices on four devices
    assert m.batch_shardings(Batch(**{**rows, "vision": None}), mesh).vision is None


def test_no_mesh_is_one_device():
    assert m.make_mesh(None) is None
    assert m.param_shardings({"a": 1}, None) is None and m.batch_shardings({"a": 1}, None) is None and m.replicated(None) is None
    assert m.place({"a": np.ones(2)}, None)["a"].sharding.num_devices == 1


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("fdsp=8", "mesh axis 'fdsp' is not one of data, fsdp, tensor; did you mean 'fsdp'"),
        ("fsdp", "mesh 'fsdp': axis 'fsdp' has size ''; expected a positive integer"),
        ("fsdp=0", "size '0'; expected a positive integer"),
        ("fsdp=3", "mesh 'fsdp=3': needs 3 devices, found 8"),
    ],
)
def test_a_wrong_mesh_is_one_line(spec, message):
    with pytest.raises(UserError, match=message):
        m.make_mesh(spec)


def batch(rows: int = 8, length: int = 12) -> Batch:
    rng = np.random.default_rng(0)
    tokens = rng.integers(1, TEXT.vocab_size, (rows, length + 1), np.int32)
    ones = np.ones((rows, length), np.int32)
    positions = np.broadcast_to(np.arange(length, dtype=np.int32), (3, rows, length))
    return Batch(
        tokens[:, :-1], positions, ones, 0 * ones, 0 * ones - 1, 0 * ones, tokens[:, 1:], rng.random((rows, length), np.float32), None
    )


def train(spec: str | None, steps: int = 3) -> tuple[list[float], TrainState]:
    """A few AdamW steps on the text model with experts, placed and jitted as a mesh says."""
    mesh = m.make_mesh(spec)
    graphdef, params = text_state()
    tx = make_optimizer(OptimConfig(learning_rate=1e-2, weight_decay=0.01), steps)
    state = init_state(tx, m.place(params, m.param_shardings(params, mesh)), mesh)
    shardings = m.param_shardings(state, mesh)

    def step(state: TrainState, b: Batch):
        def loss_fn(params):
            text = nnx.merge(graphdef, params).text
            mask = packed_mask(b.segments, b.branches)
            attend = lambda q, k, v, _: (causal_attention(q, k, v, mask), None)  # noqa: E731
            route = lambda layer, x: layer_router(layer, x, None, EXPERTS)  # noqa: E731
            x, _, _ = run_layers(text.layers, text.embed(b.tokens), mrope_angles(b.positions, TEXT), attend, route)
            return sft_loss(text.norm(x), text.head_kernel(), b.targets, b.weights)[0]

        loss, grads = jax.value_and_grad(loss_fn)(state.trainable)
        updates, opt_state = tx.update(grads, state.opt_state, state.trainable)
        return TrainState(state.step + 1, optax.apply_updates(state.trainable, updates), opt_state), loss

    out = None if mesh is None else (shardings, m.replicated(mesh))
    step, b, losses = jax.jit(step, donate_argnums=0, out_shardings=out), batch(), []
    b = m.place(b, m.batch_shardings(b, mesh))
    for _ in range(steps):
        state, loss = step(state, b)
        losses.append(float(loss))
    return losses, state


@pytest.fixture(scope="module")
def alone() -> list[float]:
    return train(None)[0]


@pytest.mark.parametrize("spec", ["data=8", "fsdp=8", "fsdp=2,tensor=4"])
def test_losses_on_a_mesh_equal_those_on_one_device_and_moments_lie_with_their_weights(spec, alone):
    losses, state = train(spec)
    np.testing.assert_allclose(losses, alone, rtol=1e-5)
    assert losses[-1] < losses[0] - 0.03
    leaves = names(state)
    moments = {name: leaf for name, leaf in leaves.items() if re.search(r"\.(mu|nu)\.", name)}
    assert len(moments) == 2 * sum(name.startswith("trainable.") for name in leaves)
    for name, leaf in moments.items():
        weight = leaves["trainable." + re.split(r"\.(?:mu|nu)\.", name)[1]]
        assert leaf.sharding.is_equivalent_to(weight.sharding, leaf.ndim), name
    kernel = leaves["trainable.text.layers.mlp.up.kernel"]
    assert kernel.addressable_shards[0].data.size == kernel.size // (1 if spec == "data=8" else 8)
