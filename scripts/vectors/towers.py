"""Windows and rotary angles of the towers, against transformers; fusion and dense merger, against the released code."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from flax import nnx

from scripts.vectors.common import Cases, difference, group, leaves_of
from sv_jax.inputs.layout import vision_layout
from sv_jax.models.dinov3.config import DINOv3Config
from sv_jax.models.dinov3.modeling import patch_angles
from sv_jax.models.layers import rotate, rotation
from sv_jax.models.qwen2_5_vl.config import TextConfig, VisionConfig
from sv_jax.models.qwen2_5_vl.text import mrope_angles
from sv_jax.models.spacevista.config import FusionConfig, SpaceVistaConfig
from sv_jax.models.spacevista.fusion import FUSION_CLASSES, DenseMerger
from sv_jax.weights.names import slots

NAMES = SpaceVistaConfig(dino=DINOv3Config(), fusion=FusionConfig())  # whose table of tensor names has every part


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
    for name in "qk":
        pairs.append((rotate(jnp.asarray(case[name]), rotation(angles)), case[f"{name}_out"]))
    return max(difference(*pair) for pair in pairs)


def dinov3_rope_case(case: dict) -> float:
    h, w = case["grid_hw"].tolist()
    hw = jnp.stack(jnp.meshgrid(jnp.arange(h), jnp.arange(w), indexing="ij"), axis=-1).reshape(-1, 2)
    angles = patch_angles(hw, jnp.full_like(hw, jnp.array([h, w])), case["cos"].shape[1], DINOv3Config.rope_theta)
    return max(difference(np.tile(f(angles), 2), case[name]) for f, name in ((jnp.cos, "cos"), (jnp.sin, "sin")))


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
    shapes = {path: leaf.shape for path, leaf in leaves.items()}
    for path, value in leaves_of(slots(NAMES, shapes), {theirs + name: value for name, value in tensors.items()}, shapes).items():
        leaves[path][...] = value
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
