"""LoRA and X-LoRA, against peft."""

from __future__ import annotations

import dataclasses
import functools
import json
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from scripts.vectors.common import Cases, difference, group, leaves_of
from sv_jax.models.batch import Batch
from sv_jax.models.qwen2_5_vl.config import QwenConfig, TextConfig, VisionConfig
from sv_jax.models.spacevista.config import PROJECTIONS, ExpertsConfig, SpaceVistaConfig, XLoRAConfig
from sv_jax.models.spacevista.experts import expert_lora
from sv_jax.models.spacevista.model import SpaceVista, forward, logits
from sv_jax.models.spacevista.routers import XLoRA, xlora_gate
from sv_jax.weights.exports import merge
from sv_jax.weights.load import abstract_model
from sv_jax.weights.names import canonical, slots

CLASSIFIER, MODULE = "adapter/base_model.internal_xlora_classifier.", "adapter/base_model.lora_model.model."
HEAD_DIM = 4  # of the format's Qwen2: shapes do not tell
TINY = VisionConfig(1, 8, 8, 1, out_hidden_size=16, fullatt_block_indexes=(0,))  # of models that see nothing


def lora_merge(folder: Path) -> Cases:
    for name, case in group(np.load(folder / "lora_merge.npz"), 1).items():
        yield name, partial(lora_merge_case, case)


def lora_merge_case(case: dict) -> float:
    rank, alpha, rslora, scaling = case["rank_alpha_rslora_scaling"].tolist()
    a, b, one = case["A"].T[:, None], case["B"].T[None], np.ones((len(case["x"]), 1), np.float32)
    low_rank = np.asarray(expert_lora(*map(jnp.asarray, (case["x"], a, b, one)), scaling))
    errors = [difference(merge(case["weight"], case["A"], case["B"], scaling), case["merged"])]
    errors += [difference(case["x"] @ case["weight"].T + case["bias"] + low_rank, case["y"])]
    errors += [difference(merge(np.zeros_like(case["weight"]), case["A"], case["B"], scaling), case["delta"])]
    if not rslora:  # our own experts are not rank-stabilised; an adapter that is brings its scaling
        errors += [abs(ExpertsConfig(rank=int(rank), alpha=alpha).scaling - scaling)]
    return max(errors)


def xlora(folder: Path) -> Cases:
    arrays, meta = group(np.load(folder / "xlora.npz"), 1), json.loads((folder / "xlora.json").read_text())
    classifiers, whole = group(arrays["classifier"], 1), arrays["e2e"]
    for case in meta["classifier_cases"]:
        yield f"classifier {case['case']}", partial(classifier_case, case, classifiers[str(case["case"])])
    settings = meta["e2e"]["configs"]["adapter_config.json"]
    settings |= {"n_classes": len(settings["adapters"]), "n_layers": len(meta["e2e"]["layer_order"])}
    linears = {k.removeprefix(CLASSIFIER): whole[k] for k in whole if k.startswith(CLASSIFIER)}
    hidden = {"hidden": whole["base_last_hidden"], "scalings": whole["scalings"]}
    yield "whole model, scalings", partial(classifier_case, settings, linears | hidden)
    model = functools.cache(lambda: peft_model(whole, meta["e2e"], settings, linears))
    yield "whole model, logits", lambda: difference(run_text(model(), whole["input_ids"])[1], whole["logits"])
    yield "whole model, without experts", lambda: without_experts_case(model(), whole)


def classifier_case(case: dict, arrays: dict) -> float:
    cfg, hidden = xlora_config(case), jnp.asarray(arrays["hidden"])
    module = XLoRA(hidden.shape[-1], cfg, nnx.Rngs(0))
    last = fill_classifier(module, arrays)
    out, shape = np.asarray(module(hidden)), (*hidden.shape[:-1], case["n_layers"], case["n_classes"])
    out = np.broadcast_to(out[..., None, :], shape) if last is None else (out @ last[0].T + last[1]).reshape(shape)
    plain = dataclasses.replace(cfg, xlora=dataclasses.replace(cfg.xlora, top_k=None, softmax_topk=False))
    error = difference(xlora_gate(jnp.asarray(out), plain), arrays["scalings"])
    return max(error, difference(xlora_gate(jnp.asarray(out), cfg), arrays.get("effective", arrays["scalings"])))


def xlora_config(case: dict, **fields) -> ExpertsConfig:
    """Ours for the fields of PEFT's XLoraConfig; what is left out has its default there."""
    names = {"depth": "xlora_depth", "layerwise": "layerwise_scalings", "top_k": "top_k_lora", "softmax": "enable_softmax"}
    names["softmax_topk"] = "enable_softmax_topk"
    cfg = XLoRAConfig(**{"depth": 1, "layerwise": False} | {ours: case[theirs] for ours, theirs in names.items() if theirs in case})
    size, temperature = case.get("xlora_size", 2048), case.get("softmax_temperature", 1.0)
    return ExpertsConfig(case["n_classes"], router="xlora", router_hidden_size=size, temperature=temperature, xlora=cfg, **fields)


def fill_classifier(module: XLoRA, arrays: dict) -> tuple[np.ndarray, np.ndarray] | None:
    """Set the classifier from PEFT's linear layers, whose numbers count ReLU and dropout too; returns the last one when layers hold it."""
    numbers = sorted(int(k.split(".")[1]) for k in arrays if k.startswith("layers.") and k.endswith(".weight"))
    linears = [(arrays[f"layers.{k}.weight"], arrays[f"layers.{k}.bias"]) for k in numbers]
    last = linears.pop()
    targets = [module.first] if module.first is not None else []
    if module.last is not None:
        targets, linears, last = [*targets, module.last], [*linears, last], None
    if module.hidden is not None:
        targets.insert(1, module.hidden)
        linears[1 : len(numbers) - 1] = [tuple(np.stack(parts) for parts in zip(*linears[1 : len(numbers) - 1], strict=True))]
    for linear, (weight, bias) in zip(targets, linears, strict=True):
        linear.kernel[...], linear.bias[...] = jnp.asarray(weight.swapaxes(-1, -2)), jnp.asarray(bias)
    return last


def peft_model(arrays: dict, meta: dict, settings: dict, linears: dict) -> SpaceVista:
    """The Qwen2 of the vectors with its experts, of different ranks and on some projections: zeros fill the rest of ours."""
    base = {canonical(k.removeprefix("base/"), "qwen2_5_vl"): v for k, v in arrays.items() if k.startswith("base/")}
    adapters = [meta["configs"][f"{e}/adapter_config.json"] for e in range(settings["n_classes"])]
    layer = "model.language_model.layers.0"
    (v, d), f = base["model.language_model.embed_tokens.weight"].shape, len(base[f"{layer}.mlp.up_proj.weight"])
    n, k = (len(base[f"{layer}.self_attn.{name}_proj.weight"]) // HEAD_DIM for name in "qk")
    depth = sum(name.endswith("input_layernorm.weight") for name in base)
    text = TextConfig(v, d, f, depth, n, k, mrope_section=(0, 1, 1), rope_theta=1e4)
    rank = max(adapter["r"] for adapter in adapters)
    cfg = SpaceVistaConfig(QwenConfig(text, TINY), experts=xlora_config(settings, rank=rank, alpha=float(rank)))
    graph, leaves = abstract_model(cfg)
    shapes = {path: leaf.shape for path, leaf in leaves.items()}
    read = leaves_of([slot for slot in slots(cfg, shapes) if slot.name in base], base, shapes)
    values = {path: np.array(read.get(path, np.zeros(shape, np.float32))) for path, shape in shapes.items()}
    for name in (name.removeprefix("base_model.lora_model.model.") for name in meta["layer_order"]):
        block, i, path = name.split(".")[3], int(name.split(".")[2]), name.split(".")[-1].removesuffix("_proj")
        path = f"text.layers.{'mlp' if block == 'mlp' else 'attn'}.{path}"
        for e, adapter in enumerate(adapters):
            scale = adapter["lora_alpha"] / (adapter["r"] ** 0.5 if adapter["use_rslora"] else adapter["r"])
            a, b = (arrays[f"{MODULE}{name}.lora_{half}.{e}.weight"] for half in "AB")
            values[f"{path}.lora_a"][i, :, e, : len(a)] = a.T
            values[f"{path}.lora_b"][i, e, : len(a)] = scale * settings["global_scaling_weight"] * b.T
    model = nnx.merge(
        graph, nnx.from_flat_state([(tuple(path.split(".")), leaves[path].replace(jnp.asarray(values[path]))) for path in leaves])
    )
    if (last := fill_classifier(model.text.router, linears)) is not None:
        fill_layer_routers(model, meta["layer_order"], *last)
    return model


def fill_layer_routers(model: SpaceVista, order: list[str], weight: np.ndarray, bias: np.ndarray) -> None:
    """The rows of PEFT's last product go to the layer and projection that each is for; projections without experts keep zeros."""
    router, e = model.text.layers.router, model.cfg.experts.num_experts
    for i, name in enumerate(order):
        *_, layer, _, module = name.split(".")
        column = PROJECTIONS.index(module.removesuffix("_proj")) * e
        rows, columns = slice(i * e, (i + 1) * e), slice(column, column + e)
        router.kernel[...] = router.kernel[...].at[int(layer), :, columns].set(weight[rows].T)
        router.bias[...] = router.bias[...].at[int(layer), columns].set(bias[rows])


def run_text(model: SpaceVista, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """-> (final hidden states [B, T, D], logits [B, T, V]) of rows of text without padding."""
    b, t = ids.shape
    zeros, positions = np.zeros((b, t), np.int32), np.broadcast_to(np.arange(t, dtype=np.int32), (3, b, t))
    minus, weights = zeros - 1, np.zeros((b, t), np.float32)
    batch = Batch(ids.astype(np.int32), positions, zeros + 1, zeros, minus, zeros, zeros, weights, None)
    hidden, _ = jax.jit(forward)(model, batch)
    return hidden, logits(model, hidden)


def without_experts_case(model: SpaceVista, arrays: dict) -> float:
    plain = jax.tree.map_with_path(lambda path, x: x * 0 if "lora_b" in jax.tree_util.keystr(path) else x, model)
    hidden, out = run_text(plain, arrays["input_ids"])
    return max(difference(hidden, arrays["base_last_hidden"]), difference(out, arrays["base_logits"]))
