"""What every tensor of a Hugging Face file is called in our model, as one table that is read in both directions.

A row is (their name, our path, axes, shape of theirs): ours = theirs, reshaped and with its axes permuted. `*` stands for the layer, which
is the leading axis of our stacked leaf. One of their tensors may hold several of ours side by side (a packed q, k, v). Their names are
those of transformers' modules (`model.language_model.…`); `ALIASES` brings the other spellings in the wild to that form.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import NamedTuple

import numpy as np

from sv_jax.models.spacevista.config import SpaceVistaConfig
from sv_jax.weights.safetensors_io import Tensor

SAME1, SAME2, TRANSPOSE = (0,), (0, 1), (1, 0)
LORA_A, LORA_B = (2, 0, 1), (0, 2, 1)  # theirs [E, R, in] -> ours [in, E, R]; theirs [E, out, R] -> ours [E, R, out]


class Row(NamedTuple):
    theirs: str
    ours: str | tuple[str, ...]
    axes: tuple[int, ...] = SAME1
    shape: tuple[int, ...] | None = None  # of theirs, where it has other axes than ours


class Slot(NamedTuple):
    """One tensor of a file and the place of its values in our leaves."""

    name: str
    shape: tuple[int, ...]  # in the file
    folded: tuple[int, ...]  # with as many axes as our leaf has
    axes: tuple[int, ...]  # of `folded`, in our order
    paths: tuple[str, ...]  # our leaves, side by side on axis 0 of the file's tensor
    layer: int | None  # index on the leading axis of our leaves, None where they are not stacked


def _linear(theirs: str, ours: str) -> tuple[Row, ...]:
    return Row(f"{theirs}.weight", f"{ours}.kernel", TRANSPOSE), Row(f"{theirs}.bias", f"{ours}.bias")


def _expert_linear(theirs: str, ours: str) -> tuple[Row, ...]:
    return *_linear(theirs, ours), Row(f"{theirs}.lora_A", f"{ours}.lora_a", LORA_A), Row(f"{theirs}.lora_B", f"{ours}.lora_b", LORA_B)


def _norm(theirs: str, ours: str) -> tuple[Row, ...]:
    return Row(f"{theirs}.weight", f"{ours}.scale"), Row(f"{theirs}.bias", f"{ours}.bias")


def _text() -> Iterator[Row]:
    top, layer = "model.language_model", "model.language_model.layers.*"
    yield Row(f"{top}.embed_tokens.weight", "text.embed.embedding", SAME2)
    yield from _norm(f"{top}.norm", "text.norm")
    yield Row("lm_head.weight", "text.head.kernel", TRANSPOSE)
    yield from _norm(f"{layer}.input_layernorm", "text.layers.input_norm")
    yield from _norm(f"{layer}.post_attention_layernorm", "text.layers.post_norm")
    for name in "qkvo":
        yield from _expert_linear(f"{layer}.self_attn.{name}_proj", f"text.layers.attn.{name}")
    for name in ("gate", "up", "down"):
        yield from _expert_linear(f"{layer}.mlp.{name}_proj", f"text.layers.mlp.{name}")
    yield from _linear(f"{layer}.router", "text.layers.router")
    yield from _linear(f"{top}.router.hidden.*", "text.router.hidden")
    yield from _norm(f"{top}.router.norm", "text.router.norm")
    for name in ("fc1", "fc2", "first", "last"):
        yield from _linear(f"{layer}.router.{name}", f"text.layers.router.{name}")
        yield from _linear(f"{top}.router.{name}", f"text.router.{name}")


def _vision(cfg: SpaceVistaConfig) -> Iterator[Row]:
    v = cfg.qwen.vision
    top, block = "model.visual", "model.visual.blocks.*"
    kernel = (v.hidden_size, v.in_channels, v.temporal_patch_size, v.patch_size, v.patch_size)
    yield Row(f"{top}.patch_embed.proj.weight", "vision.patch_embed.kernel", TRANSPOSE, kernel)
    for name in ("norm1", "norm2"):
        yield from _norm(f"{block}.{name}", f"vision.blocks.{name}")
    for name in ("qkv", "proj"):
        yield from _linear(f"{block}.attn.{name}", f"vision.blocks.attn.{name}")
    for name in ("gate", "up", "down"):
        yield from _linear(f"{block}.mlp.{name}_proj", f"vision.blocks.mlp.{name}")
    yield from _merger(f"{top}.merger", "vision.merger")


def _merger(theirs: str, ours: str) -> Iterator[Row]:
    yield from _norm(f"{theirs}.ln_q", f"{ours}.norm")
    yield from _linear(f"{theirs}.mlp.0", f"{ours}.fc1")
    yield from _linear(f"{theirs}.mlp.2", f"{ours}.fc2")


def _dino(cfg: SpaceVistaConfig) -> Iterator[Row]:
    d = cfg.dino
    top, layer = "model.dinov3", "model.dinov3.model.layer.*"
    kernel = (d.hidden_size, d.num_channels, d.patch_size, d.patch_size)
    yield Row(f"{top}.embeddings.patch_embeddings.weight", "dino.patch_embed.kernel", TRANSPOSE, kernel)
    yield Row(f"{top}.embeddings.patch_embeddings.bias", "dino.patch_embed.bias")
    yield Row(f"{top}.embeddings.cls_token", "dino.cls_token", SAME1, (1, 1, d.hidden_size))
    yield Row(f"{top}.embeddings.register_tokens", "dino.register_tokens", SAME2, (1, d.num_register_tokens, d.hidden_size))
    yield from _norm(f"{top}.norm", "dino.norm")
    for i in (1, 2):
        yield from _norm(f"{layer}.norm{i}", f"dino.layers.norm{i}")
        yield Row(f"{layer}.layer_scale{i}.lambda1", f"dino.layers.ls{i}")
    for name in "qkvo":
        yield from _linear(f"{layer}.attention.{name}_proj", f"dino.layers.attn.{name}")
    for name in ("gate", "up", "down"):
        yield from _linear(f"{layer}.mlp.{name}_proj", f"dino.layers.mlp.{name}")


def _fusion() -> Iterator[Row]:
    yield from _merger("model.geometry_merger", "dino_merger")
    top, block, attn = "model.feature_fusion", "model.feature_fusion.cross_attn_blocks.*", "fusion.blocks.attn"
    for name in ("norm1", "norm2"):
        yield from _norm(f"{top}.{name}", f"fusion.{name}")
    for name in ("weight_2d", "weight_3d"):
        yield Row(f"{top}.{name}", f"fusion.{name}", SAME1, ())
    yield from _linear(f"{top}.projection", "fusion.projection")
    yield from _linear(f"{top}.gate_projection.0", "fusion.gate_projection")
    for theirs, ours in (("norm1_query", "norm_q"), ("norm1_key", "norm_k"), ("norm1_value", "norm_v"), ("norm2", "norm2")):
        yield from _norm(f"{block}.{theirs}", f"fusion.blocks.{ours}")
    yield Row(f"{block}.cross_attention.in_proj_weight", tuple(f"{attn}.{p}.kernel" for p in "qkv"), TRANSPOSE)
    yield Row(f"{block}.cross_attention.in_proj_bias", tuple(f"{attn}.{p}.bias" for p in "qkv"))
    yield from _linear(f"{block}.cross_attention.out_proj", f"{attn}.o")
    yield from _linear(f"{block}.mlp.0", "fusion.blocks.fc1")
    yield from _linear(f"{block}.mlp.3", "fusion.blocks.fc2")


def table(cfg: SpaceVistaConfig) -> tuple[Row, ...]:
    """Every row that a model of this config may have; those whose parameters it lacks are skipped by `slots`."""
    return *_text(), *_vision(cfg), *((*_dino(cfg), *_fusion()) if cfg.dino else ())


ALIASES = {
    "qwen2_5_vl": (
        (r"(model\.)?visual\.", "model.visual."),
        (r"model\.(language_model\.)?(?=(embed_tokens|layers|norm)\.)", "model.language_model."),
    ),
    "dinov3_vit": ((r"(model\.)?layer\.", "model.dinov3.model.layer."), (r"(?=(embeddings|norm)\.)", "model.dinov3.")),
}
ALIASES["spacevista"] = (*ALIASES["qwen2_5_vl"], (r"model\.dinov3\.(model\.)?layer\.", "model.dinov3.model.layer."))
UNUSED = (r"model\.dinov3\.embeddings\.mask_token",)  # only pretraining reads it


def canonical(name: str, model_type: str) -> str:
    """A tensor's name in a file of `model_type`, in the form of the table."""
    for pattern, replacement in ALIASES[model_type]:
        if match := re.match(pattern, name):
            return replacement + name[match.end() :]
    return name


def released(name: str) -> str:
    """The name that plain Qwen2.5-VL files use for a tensor of the table."""
    return re.sub(r"^model\.(visual\.|language_model\.)", lambda m: "visual." if m[1] == "visual." else "model.", name)


def slots(cfg: SpaceVistaConfig, shapes: Mapping[str, tuple[int, ...]]) -> list[Slot]:
    """The tensors of a file that holds exactly the parameters `shapes` {path: shape}, each parameter filled exactly once."""
    out, filled = [], []
    for row in table(cfg):
        paths = (row.ours,) if isinstance(row.ours, str) else row.ours
        if paths[0] not in shapes:
            continue
        filled += paths
        stacked = "*" in row.theirs
        ours = shapes[paths[0]][stacked:]
        folded = [ours[i] for i in np.argsort(row.axes)]
        folded[0] *= len(paths)
        shape = tuple(folded) if row.shape is None else row.shape
        for layer in range(shapes[paths[0]][0]) if stacked else (None,):
            out.append(Slot(row.theirs.replace("*", str(layer)), shape, tuple(folded), row.axes, paths, layer))
    if sorted(filled) != sorted(shapes):
        raise AssertionError(f"the name table does not fill exactly once: {sorted(set(filled) ^ set(shapes))}")
    return out


def to_file(slot: Slot, leaves: Iterable[np.ndarray]) -> np.ndarray:
    """A tensor of the file out of the leaves (one layer of each) that it holds."""
    parts = [leaf.transpose(np.argsort(slot.axes)) for leaf in leaves]
    return (np.concatenate(parts) if len(parts) > 1 else parts[0]).reshape(slot.shape)


def name_faults(found: Mapping[str, Tensor], wanted: Iterable[Slot], lost: Collection[str] = ()) -> list[str]:
    """Every tensor used once, every parameter filled once, every shape and dtype right: what is not so. `lost` are reported elsewhere."""
    wanted = {slot.name: slot for slot in wanted}
    faults = []
    for name in sorted(set(found) - set(wanted)):
        near = difflib.get_close_matches(name, set(wanted) - set(found) or wanted, n=1)
        faults.append(f"unexpected tensor {name!r}" + (f" (did you mean {near[0]!r}?)" if near else ""))
    faults += [f"missing tensor {name!r} {list(slot.shape)}" for name, slot in wanted.items() if name not in found and name not in lost]
    for name, slot in wanted.items():
        if name in found and found[name].shape != slot.shape:
            faults.append(f"tensor {name!r} in {found[name].file} has shape {list(found[name].shape)}, expected {list(slot.shape)}")
        if name in found and found[name].dtype.kind in "iub":  # ml_dtypes' floats are of kind V
            faults.append(f"tensor {name!r} in {found[name].file} has dtype {found[name].dtype}, expected floating point")
    return faults
