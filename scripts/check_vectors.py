"""Check our code against a folder of vectors that the reference libraries made: transformers, peft, trl and the released fusion code.

    python scripts/check_vectors.py DIR

A line per file: how many cases, the worst error, its tolerance; below it what missed. The exit status is 1 when a case misses or cannot be
run, or a file of the format is not there. Nothing depends on the names, number or sizes of the cases: any seed will do.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("JAX_PLATFORMS", "cpu")  # full f32 products, whatever accelerator there is

import jax  # noqa: E402  after the environment is set
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
from flax import nnx  # noqa: E402

from sv_jax.errors import UserError  # noqa: E402
from sv_jax.inputs.layout import vision_layout  # noqa: E402
from sv_jax.inputs.processor import TEMPORAL, pad_frames, qwen_patches, resize, smart_resize  # noqa: E402
from sv_jax.inputs.video import sample_frames, sampled_fps  # noqa: E402
from sv_jax.models.batch import Batch  # noqa: E402
from sv_jax.models.dinov3.config import DINOv3Config  # noqa: E402
from sv_jax.models.dinov3.modeling import patch_angles  # noqa: E402
from sv_jax.models.layers import rotate  # noqa: E402
from sv_jax.models.qwen2_5_vl.config import QwenConfig, TextConfig, VisionConfig  # noqa: E402
from sv_jax.models.qwen2_5_vl.mrope import position_ids  # noqa: E402
from sv_jax.models.qwen2_5_vl.text import mrope_angles  # noqa: E402
from sv_jax.models.spacevista.config import PROJECTIONS, ExpertsConfig, FusionConfig, SpaceVistaConfig, XLoRAConfig  # noqa: E402
from sv_jax.models.spacevista.experts import expert_lora  # noqa: E402
from sv_jax.models.spacevista.fusion import FUSION_CLASSES, DenseMerger  # noqa: E402
from sv_jax.models.spacevista.model import SpaceVista, forward, logits  # noqa: E402
from sv_jax.models.spacevista.routers import XLoRA, xlora_gate  # noqa: E402
from sv_jax.train import grpo_loss as rl  # noqa: E402
from sv_jax.weights.exports import merge  # noqa: E402
from sv_jax.weights.load import abstract_model  # noqa: E402
from sv_jax.weights.names import canonical, slots, to_leaf  # noqa: E402

Cases = Iterator[tuple[str, Callable[[], float]]]  # (name, what computes its error)
NAMES = SpaceVistaConfig(dino=DINOv3Config(), fusion=FusionConfig())  # whose table of tensor names has every part
TINY = VisionConfig(1, 8, 8, 1, out_hidden_size=16, fullatt_block_indexes=(0,))  # of models that see nothing


def difference(got, want) -> float:
    """Largest absolute difference; a wrong shape is an error of its own, a NaN is never near anything."""
    got, want = np.asarray(got), np.asarray(want)
    if got.shape != want.shape:
        raise ValueError(f"shape {list(got.shape)}, expected {list(want.shape)}")
    worst = np.abs(got.astype(np.float64) - want.astype(np.float64)).max(initial=0.0)
    return float(np.nan_to_num(worst, nan=np.inf))


def group(arrays, depth: int) -> dict[str, dict[str, np.ndarray]]:
    """{"a/b/c": x} -> {"a": {"b/c": x}} at depth 1, {"a/b": {"c": x}} at depth 2."""
    out: dict[str, dict[str, np.ndarray]] = {}
    for key in arrays:
        parts = key.split("/")
        out.setdefault("/".join(parts[:depth]), {})["/".join(parts[depth:])] = arrays[key]
    return out


# positions


def mrope_rule(version: str) -> tuple[str, bool]:
    """The rule of a transformers release ("v4.50.3") for text after a video, and whether it cut seconds per grid to whole ones."""
    major, minor = (int(n) for n in version.removeprefix("v").split(".")[:2])
    return "spatial" if (major, minor) >= (5, 3) else "max", (4, 52) <= (major, minor) < (5, 23)


def rope_index(folder: Path) -> Cases:
    arrays = np.load(folder / "rope_index.npz")
    inputs = {name.removeprefix("in/"): case for name, case in group(arrays, 2).items() if name.startswith("in/")}
    for name, case in group(arrays, 2).items():
        version, _, which = name.partition("/")
        if version != "in":
            yield name, partial(rope_index_case, inputs[which], case["position_ids"], *mrope_rule(version))


def rope_index_case(case: dict, want: np.ndarray, rule: str, whole_seconds: bool) -> float:
    start, image, video = 90, 91, 92  # the ids of the format
    vision = VisionConfig(tokens_per_second=int(case["tokens_per_second"]))
    cfg = QwenConfig(image_token_id=image, video_token_id=video, vision_start_token_id=start, vision=vision, mrope=rule)
    seconds = np.trunc(case["second_per_grid_ts"]) if whole_seconds else case["second_per_grid_ts"]
    images, videos, seconds = (iter(a.tolist()) for a in (case["image_grid_thw"], case["video_grid_thw"], seconds))
    got = np.zeros_like(want)
    for row, (tokens, mask) in enumerate(zip(case["input_ids"], case["attention_mask"].astype(bool), strict=True)):
        tokens = tokens[mask]
        kinds = tokens[np.flatnonzero(tokens == start) + 1]
        grids = [tuple(next(images if kind == image else videos)) for kind in kinds]
        times = [None if kind == image else next(seconds) for kind in kinds]
        got[:, row, mask] = position_ids(tokens, grids, times, cfg)
    return difference(got, want)


# images and videos


def smart_resize_sizes(folder: Path) -> Cases:
    for case in json.loads((folder / "smart_resize.json").read_text()):
        limits = {key: case[key] for key in ("factor", "min_pixels", "max_pixels")}
        call = partial(smart_resize, case["height"], case["width"], **limits)
        yield f"{case['height']}x{case['width']} {case['limits']}", partial(same_or_refused, call, case["transformers"])


def same_or_refused(call: Callable, want: list | str) -> float:
    """`want` is what the library answers, or the class name of its error: then ours must refuse too."""
    if not isinstance(want, str):
        return difference(call(), want)
    try:
        call()
    except UserError:
        return 0.0
    raise ValueError(f"accepted, expected an error ({want})")


def frame_sampling(folder: Path) -> Cases:
    for case in json.loads((folder / "frame_sampling.json").read_text()):
        asked = {key: case[key] for key in ("fps", "num_frames", "min_frames", "max_frames") if key in case}
        yield f"{case['total_num_frames']} at {case['video_fps']} {asked}", partial(frame_sampling_case, case, asked)


def frame_sampling_case(case: dict, asked: dict) -> float:
    total, rate, want = case["total_num_frames"], case["video_fps"], case["transformers"]
    call = partial(sample_frames, total, rate, **asked)
    if isinstance(want, str):
        return same_or_refused(call, want)
    # transformers asks for frame `total`, which does not exist, when its float step falls short: we leave that one out
    frames = [i for i in want if i < total]
    error = difference(call(), frames)
    if frames == want:
        fps = sampled_fps(len(frames), total, rate)
        error = max(error, abs(fps - case["sampled_fps"]), abs(TEMPORAL / fps - case["second_per_grid_ts"]))
    return error


def patches(folder: Path) -> Cases:
    arrays = np.load(folder / "patches.npz")
    for name in (key.removesuffix("_patches") for key in arrays if key.endswith("_patches")):
        yield name, partial(patches_case, arrays[name], arrays[f"{name}_patches"], arrays[f"{name}_grid_thw"][0])
    yield "resized_pil", lambda: difference(resize(arrays["to_resize"][None], *arrays["resized_pil"].shape[:2])[0], arrays["resized_pil"])


def patches_case(frames: np.ndarray, want: np.ndarray, grid: np.ndarray) -> float:
    got, got_grid = qwen_patches(pad_frames(frames if frames.ndim == 4 else frames[None]))
    return max(difference(got_grid, grid), difference(got, want))


# towers


def tower(folder: Path) -> Cases:
    parts = {"window": window_case, "mrope": mrope_case, "dinov3": dinov3_rope_case}
    for name, case in group(np.load(folder / "tower.npz"), 2).items():
        yield name, partial(parts[name.split("/")[0]], case)


def window_case(case: dict) -> float:
    layout = vision_layout([tuple(grid) for grid in case["grid_thw"].tolist()], VisionConfig())
    real = layout.windows < len(layout.hw)
    order = (case["window_index"][:, None] * 4 + np.arange(4)).ravel()  # their unit is the merged cell of four patches
    ends = np.cumsum([0, *real.sum(1)[real.any(1)]])
    errors = difference(layout.windows[real], order), difference(ends, case["cu_window_seqlens"])
    return max(*errors, difference(layout.hw[: len(order)], case["position_hw"]))


def mrope_case(case: dict) -> float:
    head = case["cos"].shape[-1]
    cfg = TextConfig(hidden_size=head, num_attention_heads=1, num_key_value_heads=1, mrope_section=tuple(case["section"].tolist()))
    angles = mrope_angles(jnp.asarray(case["position_ids"]), cfg)
    pairs = [(np.tile(f(angles), 2), case[name]) for f, name in ((jnp.cos, "cos"), (jnp.sin, "sin"))]
    for name in "qk":  # theirs are [B, heads, T, H]
        pairs.append((rotate(jnp.asarray(case[name]).swapaxes(1, 2), angles).swapaxes(1, 2), case[f"{name}_out"]))
    return max(difference(*pair) for pair in pairs)


def dinov3_rope_case(case: dict) -> float:
    h, w = case["grid_hw"].tolist()
    hw = jnp.stack(jnp.meshgrid(jnp.arange(h), jnp.arange(w), indexing="ij"), axis=-1).reshape(-1, 2)
    angles = patch_angles(hw, jnp.full_like(hw, jnp.array([h, w])), case["cos"].shape[1], DINOv3Config.rope_theta)
    return max(difference(np.tile(f(angles), 2), case[name]) for f, name in ((jnp.cos, "cos"), (jnp.sin, "sin")))


# fusion


def fusion(folder: Path) -> Cases:
    arrays = group(np.load(folder / "fusion.npz"), 1)
    for case in json.loads((folder / "fusion.json").read_text()):
        yield case["name"], partial(fusion_case, case, arrays[case["name"]])


def fusion_case(case: dict, arrays: dict) -> float:
    tensors = {name.removeprefix("weights/"): value for name, value in arrays.items() if name.startswith("weights/")}
    return (merger if "merger" in case else fuse)(case, arrays, tensors)


def filled(module: nnx.Module, ours: str, theirs: str, tensors: dict[str, np.ndarray]) -> nnx.Module:
    """The module at path `ours` of a model with the released tensors `theirs` + name: each parameter is set, each tensor used."""
    leaves = {f"{ours}.{'.'.join(path)}": leaf for path, leaf in nnx.to_flat_state(nnx.state(module))}
    wanted = slots(NAMES, {path: leaf.shape for path, leaf in leaves.items()})
    if odd := {slot.name.removeprefix(theirs) for slot in wanted} ^ set(tensors):
        raise ValueError(f"tensors {sorted(odd)} are on one side only")
    for slot in wanted:
        for path in slot.paths:
            value = to_leaf(slot, tensors[slot.name.removeprefix(theirs)], path)
            leaves[path][... if slot.layer is None else slot.layer] = jnp.asarray(value)
    return module


def fuse(case: dict, arrays: dict, tensors: dict) -> float:
    x, g = arrays["in/x"], arrays["in/g"]
    z, h, w, d = x.shape
    cfg = FusionConfig(num_heads=case["num_heads"], num_blocks=case["num_layers"], method=case["method"])
    module = filled(FUSION_CLASSES[cfg.method](cfg, d, nnx.Rngs(0)), "fusion", "model.feature_fusion.", tensors)
    index = np.arange(z * h * w, dtype=np.int32)
    hw, grid = np.stack([index // w % h, index % w], axis=1), np.tile(np.array([h, w], np.int32), (len(index), 1))
    args = (x.reshape(-1, d), g.reshape(-1, d), hw, grid, index.reshape(z, h * w), index)
    return difference(module(*map(jnp.asarray, args)), arrays["out"].reshape(-1, d))


def merger(case: dict, arrays: dict, tensors: dict) -> float:
    n, h, w, d = arrays["out"].shape
    x = arrays["in/x"][:, : 2 * h, : 2 * w]  # the released code drops an odd last row or column; our grids are even by construction
    x = x.reshape(n, h, 2, w, 2, -1).swapaxes(2, 3)  # the processor's order: 2x2 blocks, row by row
    cfg = FusionConfig(merger_hidden_size=case["hidden_dim"], merger=case["merger"])
    module = filled(DenseMerger(cfg, case["context_dim"], d, nnx.Rngs(0)), "dino_merger", "model.geometry_merger.", tensors)
    return difference(module(jnp.asarray(x.reshape(n * h * w * 4, -1))), arrays["out"].reshape(-1, d))


# adapters


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


CLASSIFIER, MODULE = "adapter/base_model.internal_xlora_classifier.", "adapter/base_model.lora_model.model."
HEAD_DIM = 4  # of the format's Qwen2: shapes do not tell


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
    values = {path: np.zeros(leaf.shape, np.float32) for path, leaf in leaves.items()}
    wanted = {slot.name: slot for slot in slots(cfg, {path: leaf.shape for path, leaf in leaves.items()})}
    for name, value in base.items():
        for path in wanted[name].paths:
            values[path][... if wanted[name].layer is None else wanted[name].layer] = to_leaf(wanted[name], value, path)
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


# reinforcement learning


def grpo_losses(folder: Path) -> Cases:
    """Values and gradients in f64. Losses that sv-jax does not offer are none of its cases."""
    arrays = dict(np.load(folder / "grpo_losses.npz"))
    for i, case in enumerate(json.loads((folder / "grpo_losses.json").read_text())):
        if case["loss_type"] in rl.LOSSES:
            yield grpo_name(case), partial(grpo_loss_case, case, arrays, arrays["loss"][i], arrays["grad_logps"][i])


def grpo_metrics(folder: Path) -> Cases:
    arrays = dict(np.load(folder / "grpo_losses.npz"))
    for case in json.loads((folder / "grpo_losses.json").read_text()):
        if case["loss_type"] in rl.LOSSES:
            yield grpo_name(case), partial(grpo_metrics_case, case, arrays)


def grpo_name(case: dict) -> str:
    return f"{case['loss_type']} {case['importance_sampling_level']} {case['variant']}"


def grpo_loss_case(case: dict, arrays: dict, loss: np.ndarray, grad: np.ndarray) -> float:
    with jax.enable_x64(True):
        (value, _), got = jax.value_and_grad(grpo_of(case, arrays), has_aux=True)(jnp.asarray(arrays["logps"], jnp.float64))
        return max(difference(value, loss), difference(got, grad))


def grpo_metrics_case(case: dict, arrays: dict) -> float:
    with jax.enable_x64(True):
        _, metrics = grpo_of(case, arrays)(jnp.asarray(arrays["logps"], jnp.float64))
        return max(abs(float(total) / float(count) - case["metrics"][key]) for key, (total, count) in metrics.items())


def grpo_of(case: dict, arrays: dict) -> Callable:
    """The loss of one case as a function of the policy's log-probabilities [B, R]."""
    names = ("old_logps", "ref_logps", "sampling_logps", "entropies", "advantages")
    old, ref, sampler, entropies, adv = (jnp.asarray(arrays[name], jnp.float64) for name in names)
    mask = jnp.asarray(arrays["completion_mask"], bool)
    names = ("loss_type", "importance_sampling_level", "epsilon_low", "epsilon_high", "delta", "beta", "use_bias_correction_kl")
    cfg = rl.LossConfig(*(case[name] for name in names))
    steps = case["gradient_accumulation_steps"]

    def weights(logps):
        if case["is_mode"]:
            return rl.importance_ratio(old, sampler, mask, case["is_mode"], case["is_clip_max"], case["is_clip_min"])
        if case["off_policy_mask_threshold"]:
            return rl.off_policy_mask(logps, sampler, adv, mask, case["off_policy_mask_threshold"])
        return rl.top_entropy_mask(entropies, mask, case["top_entropy_quantile"]) if case["top_entropy_quantile"] < 1 else None

    def loss(logps):
        return rl.grpo_loss(
            logps, old if case["uses_old_logps"] else None, ref, adv, mask, cfg, max_length=case["max_completion_length"],
            rows=steps * len(logps), tokens=steps * mask.sum(), weights=weights(logps),
        )  # fmt: skip

    return loss


def advantages_of(folder: Path) -> Cases:
    """The three scalings of a weighted sum; GDPO's `normalize_then_sum` is not offered."""
    for i, batch in enumerate(json.loads((folder / "advantages.json").read_text())):
        rewards = np.array(batch["rewards"], np.float64)  # null becomes NaN: that reward does not apply
        known = ~np.isnan(rewards)
        total = np.where(known.any(1), np.where(known, rewards * batch["reward_weights"], 0).sum(1), np.nan)
        total = total.reshape(-1, batch["num_generations"])
        for key in (key for key in batch if key.startswith("sum_then_normalize/")):
            yield f"{i} {key}", lambda t=total, k=key, b=batch: difference(rl.advantages(t, k.split("/")[1]).ravel(), b[k])


class Check(NamedTuple):
    cases: Callable[[Path], Cases]
    tolerance: float


# By the file that holds what is expected.
CHECKS = {
    "rope_index.npz": Check(rope_index, 0),  # integers
    "smart_resize.json": Check(smart_resize_sizes, 0),  # integers
    "frame_sampling.json": Check(frame_sampling, 1e-9),  # indices, and rates in f64
    "patches.npz": Check(patches, 1e-6),  # bytes; and pixels up to 2.7, where transformers may round once more: 2^-22
    "tower.npz": Check(tower, 5e-6),  # indices; and sines of the same f32 angles, times queries and keys of order 4: a few times 2^-22
    "fusion.npz": Check(fusion, 1e-5),  # f32 sums of a few hundred products of order 1, in another order
    "lora_merge.npz": Check(lora_merge, 1e-5),  # the same, of a few products
    "xlora.npz": Check(xlora, 1e-5),  # the same, through two layers
    "grpo_losses.npz": Check(grpo_losses, 1e-8),  # f64, from f32 inputs
    "grpo_losses.json": Check(grpo_metrics, 1e-6),  # the metrics, which the trainer keeps in f32
    "advantages.json": Check(advantages_of, 1e-6),  # f64, save that trl rounds n/(n-1) to f32; advantages are at most sqrt(n)
}


def run(check: Check, folder: Path) -> tuple[int, float, list[str]]:
    """-> (cases, worst error, a line for each case that missed)."""
    count, worst, missed = 0, 0.0, []
    for name, case in check.cases(folder):
        count += 1
        try:
            error = case()
        except Exception as problem:  # whatever stops a case is that case's miss, not the end of the check
            error, name = np.inf, f"{name}: {type(problem).__name__}: {problem}"
        worst = max(worst, error)
        if error > check.tolerance:
            missed.append(f"{name}: {error:.3g}" if np.isfinite(error) else name)
    return count, worst, missed if count else ["no cases"]


def main(folder: Path) -> int:
    status = 0
    for file, check in CHECKS.items():
        try:
            count, worst, missed = run(check, folder)
        except (OSError, KeyError, ValueError) as problem:  # no such file, or none of this format
            count, worst, missed = 0, np.inf, [f"{type(problem).__name__}: {problem}"]
        verdict = "MISS" if missed else "ok"
        print(f"{verdict:4}  {file:20} {count:4} cases  worst {worst:<8.2g} tolerance {check.tolerance:.0e}")
        print("".join(f"      {line}\n" for line in missed), end="")
        status |= bool(missed)
    return status


if __name__ == "__main__":
    if len(sys.argv) != 2 or not Path(sys.argv[1]).is_dir():
        sys.exit(f"usage: {sys.argv[0]} DIR, a folder of vectors")
    sys.exit(main(Path(sys.argv[1])))
