"""Routers: X-LoRA against peft (`tests/data/xlora.npz`), any number of experts against merged weights, and what a gate depends on."""

from __future__ import annotations

import dataclasses
import functools
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from scripts.check_vectors import CHECKS
from scripts.check_vectors import run as run_check
from sv_jax.errors import UserError
from sv_jax.inputs.packing import Sample, pack, pack_groups, pack_prompts
from sv_jax.models.batch import Batch
from sv_jax.models.qwen2_5_vl.config import QwenConfig, TextConfig, VisionConfig
from sv_jax.models.spacevista.config import ExpertsConfig, SpaceVistaConfig, XLoRAConfig
from sv_jax.models.spacevista.model import SpaceVista, forward, with_router
from sv_jax.models.spacevista.routers import prompt_tokens
from sv_jax.train.state import PARTS
from sv_jax.weights.load import abstract_model
from tests.tiny import random_model

DATA = Path(__file__).parents[2] / "data"
VISION = VisionConfig(1, 8, 8, 1, out_hidden_size=16, fullatt_block_indexes=(0,))
QWEN = QwenConfig(TextConfig(24, 16, 20, 2, 2, 1, mrope_section=(1, 1, 2), rope_theta=100.0), VISION)
run = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})  # each runs once: compiling is what takes time


def with_experts(router: str, e: int = 3, **fields) -> SpaceVistaConfig:
    xlora = XLoRAConfig(**fields.pop("xlora", {}))
    return SpaceVistaConfig(QWEN, experts=ExpertsConfig(e, rank=2, alpha=3.0, router=router, router_hidden_size=5, xlora=xlora, **fields))


ROUTED = {
    "layer": with_experts("layer"),
    "prompt": with_experts("prompt", temperature=0.3),
    "xlora": with_experts("xlora", temperature=0.3),
    "xlora model-wise": with_experts("xlora", temperature=0.3, xlora={"depth": 4, "layerwise": False, "top_k": 2}),
}


@functools.cache
def model_of(name: str) -> SpaceVista:
    return random_model(ROUTED[name])


@run
def hidden(model: SpaceVista, batch: Batch):
    return forward(model, batch)


def sample(seed: int, length: int, answer: int = 0, scale: int = 2) -> Sample:
    """Random text, whose last `answer` tokens are to be learnt."""
    tokens = np.random.default_rng(seed).integers(0, 24, length).astype(np.int32)
    weights = (np.arange(length) >= length - answer).astype(np.float32)
    positions = np.broadcast_to(np.arange(length, dtype=np.int32), (3, length))
    return Sample(tokens, positions, np.zeros(length, bool), weights, (), (), None, scale)


# X-LoRA against peft


def test_classifier_gates_and_a_whole_xlora_model_are_those_of_peft():
    cases, _, missed = run_check(CHECKS["xlora.npz"], DATA)
    assert cases == 8 + 3 and not missed


# every number of experts


@pytest.mark.parametrize("e", [1, 2, 4, 6])
def test_experts_of_any_number_equal_weights_merged_by_hand(e):
    model = random_model(with_experts("uniform", e))
    batch = pack_prompts([sample(1, 9, scale=4), sample(2, 6, scale=1)], 9, VISION)[0]
    by_label = np.eye(e)[[min(4, e - 1), min(1, e - 1)]]
    for router, gate in (("uniform", np.full((2, e), 1 / e)), ("label", by_label), ("sum", np.ones((2, e))))[: None if e == 6 else 2]:
        got, gates = hidden(with_router(model, router), batch)
        for row, weights in enumerate(gate):
            want, none = hidden(merged(model, weights), batch)
            atol = 2e-5 * weights.sum()  # what rounds is the sum of the branches; a gate that sums to 6 makes six times of it
            np.testing.assert_allclose(got[row, :6], want[row, :6], atol=atol)  # beyond, the shorter row is padding
            np.testing.assert_allclose(gates[:, row, 0], np.broadcast_to(weights, (2, e)), atol=1e-6)
            assert none is None


def merged(model: SpaceVista, gate: np.ndarray) -> SpaceVista:
    """The plain Qwen2.5-VL whose weights are W + sum_e gate_e (alpha/R) A_e B_e."""
    leaves = {".".join(map(str, path)): leaf for path, leaf in nnx.to_flat_state(nnx.state(model))}
    for path in [p.removesuffix(".lora_a") for p in leaves if p.endswith("lora_a")]:
        a, b = leaves.pop(f"{path}.lora_a")[...], leaves.pop(f"{path}.lora_b")[...]
        delta = 1.5 * jnp.einsum("lder,lerf,e->ldf", a, b, jnp.asarray(gate, jnp.float32))
        leaves[f"{path}.kernel"] = leaves[f"{path}.kernel"].replace(leaves[f"{path}.kernel"][...] + delta)
    graph, _ = abstract_model(SpaceVistaConfig(QWEN))
    return nnx.merge(graph, nnx.from_flat_state([(tuple(p.split(".")), leaf) for p, leaf in leaves.items()]))


def test_no_experts_are_no_parameters():
    assert with_experts("layer", 0) == SpaceVistaConfig(QWEN)
    with pytest.raises(UserError, match="num_experts -1: expected 0"):
        ExpertsConfig(-1)
    with pytest.raises(UserError, match="xlora top_k 5: expected at most num_experts 4"):
        ExpertsConfig(4, xlora=XLoRAConfig(top_k=5))
    with pytest.raises(UserError, match="xlora depth 0"):
        XLoRAConfig(depth=0)


# what a gate depends on


def test_prompt_tokens_are_those_before_the_first_answer_token_of_the_sample():
    #                     two samples, the second's answer in two parts      a prompt and two completions, padding
    segments = jnp.array([[1, 1, 1, 2, 2, 2, 2, 2], [1, 1, 1, 1, 1, 0, 0, 0], [1, 1, 1, 2, 2, 3, 0, 0]])
    branches = jnp.array([[0, 0, 0, 0, 0, 0, 0, 0], [0, 0, 1, 1, 2, 0, 0, 0], [0, 0, 0, 0, 0, 0, 0, 0]])
    weights = jnp.array([[0, 1.0, 0, 0, 1, 0, 1, 0], [0, 0, 0, 0, 0, 0, 0, 0], [1, 1, 0, 1, 0, 0, 0, 0]])
    got = np.asarray(prompt_tokens(segments, branches, weights)).astype(int)
    first, second = [1, 1, 0, 0, 0, 0, 0, 0], [0, 0, 0, 1, 1, 0, 0, 0]
    np.testing.assert_array_equal(got[0], [first] * 3 + [second] * 5)
    np.testing.assert_array_equal(got[1, :5], [[1, 1, 0, 0, 0, 0, 0, 0]] * 5)
    one = np.eye(8, dtype=int)  # prompts of one token each: with two answer tokens, with one, alone
    np.testing.assert_array_equal(got[2, :6], one[[0, 0, 0, 3, 3, 5]])


def test_the_prompts_gate_is_one_mlp_of_the_mean_normalised_embedding():
    model, s = model_of("prompt"), sample(3, 8, answer=3)
    _, gates = hidden(model, pack([s], 1, 8, VISION))
    router = jax.tree.map(np.asarray, nnx.to_pure_dict(nnx.state(model.text.router)))
    x = np.asarray(model.text.embed.embedding[...])[s.tokens[:5]]
    x = (x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6) * router["norm"]["scale"]).mean(0) @ router["fc1"]["kernel"]
    x = x + router["fc1"]["bias"]
    out = (x / (1 + np.exp(-x))) @ router["fc2"]["kernel"] + router["fc2"]["bias"]
    want = np.exp(out / 0.3) / np.exp(out / 0.3).sum()
    np.testing.assert_allclose(gates, np.broadcast_to(want, (2, 1, 8, 3)), atol=1e-5)
    assert want.max() < 0.99


@pytest.mark.parametrize("name", ROUTED)
def test_packing_two_samples_equals_running_them_apart(name):
    model, samples = model_of(name), [sample(4, 7, answer=2), sample(5, 9, answer=4)]
    packed, gates = hidden(model, pack(samples, 1, 16, VISION))
    apart, apart_gates = hidden(model, pack(samples, 2, 9, VISION))  # the second fits only a row of its own
    for there, here in ((packed[0, :7], apart[0, :7]), (packed[0, 7:], apart[1]), (gates[:, 0, 7:], apart_gates[:, 1])):
        np.testing.assert_allclose(there, here, atol=2e-5)
    assert np.ptp(np.asarray(gates), axis=2).max() > 0.01


@pytest.mark.parametrize("name, n", [*((name, 5) for name in ROUTED), ("prompt", 1)])
def test_a_shared_prompt_equals_a_row_for_each_completion(name, n):
    model, prompt = model_of(name), sample(6, n)
    answers = [[3, 1, 4], [15, 9]]
    group = pack_groups([prompt], [answers], 16, 3, VISION)
    shared, _ = hidden(model, group.batch)
    rows = [dataclasses.replace(sample(0, n + len(a), answer=len(a)), tokens=np.array([*prompt.tokens, *a], np.int32)) for a in answers]
    plain, _ = hidden(model, pack(rows, 2, n + 4, VISION))  # a row holds one of them
    for g, answer in enumerate(answers):
        np.testing.assert_allclose(shared[0, group.index[0, g, : len(answer)]], plain[g, n - 1 : n - 1 + len(answer)], atol=2e-5)


@pytest.mark.parametrize("name", ROUTED)
def test_gradients_reach_router_and_experts_and_every_part_is_named_once(name):
    model, batch = model_of(name), pack([sample(7, 8, answer=3)], 1, 8, VISION)
    grads = run(jax.grad(lambda model, batch: (forward(model, batch, remat=True)[0] ** 3).mean()))(model, batch)
    for path, leaf in nnx.to_flat_state(nnx.state(grads)):
        path = ".".join(map(str, path))
        assert sum(re.fullmatch(pattern, path) is not None for pattern in PARTS.values()) == 1, path
        if "router" in path or "lora" in path:
            assert np.abs(leaf[...]).max() > 1e-7, path


def test_xloras_first_pass_has_no_gradients():
    batch = pack([sample(7, 8, answer=3)], 1, 8, VISION)
    grads = run(jax.grad(lambda model, batch: (forward(model, batch)[1] ** 2).mean()))(model_of("xlora"), batch)
    alive = {".".join(map(str, path)) for path, leaf in nnx.to_flat_state(nnx.state(grads)) if np.abs(leaf[...]).max() > 0}
    assert alive == {f"text.{name}.{leaf}" for name in ("layers.router", "router.first") for leaf in ("kernel", "bias")}


def test_a_model_cannot_be_gated_by_a_router_that_it_has_no_weights_of():
    with pytest.raises(UserError, match="router 'layer': the model was made for 'prompt'"):
        with_router(model_of("prompt"), "layer")
    assert with_router(model_of("prompt"), "label").cfg.experts.router == "label"
