"""The tensor names of the released SpaceVista code, in both directions.

Its checkpoint is a plain Qwen2.5-VL folder with three more modules at the top: `geometry_encoder.` (DINOv3 under its own repository's
names), `geometry_merger.` and `feature_fusion.`; its config.json says nothing of them. Experts are PEFT folders beside it, numbered, with
the X-LoRA classifier above them: here in the subfolder `experts`. What has no name there (the routers `layer` and `prompt`) is refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from sv_jax.errors import UserError
from sv_jax.models.spacevista.config import SpaceVistaConfig
from sv_jax.weights.names import canonical, released
from sv_jax.weights.safetensors_io import Tensor, open_file
from sv_jax.weights.xlora import from_classifier, joined, part

ENCODER, DINO, LORA = "geometry_encoder.", "model.dinov3.", "adapter_model.safetensors"
EXPERTS = "experts"  # the subfolder
CONSTANTS = r"mask_token|rope_embed\.periods|blocks\.\d+\.attn\.qkv\.bias_mask"  # of the encoder: made anew, never read
PACKED, APART = r"blocks\.(\d+)\.attn\.qkv\.(weight|bias)", r"model\.layer\.(\d+)\.attention\.([qkv])_proj\.(weight|bias)"

# DINOv3's names in its own repository and in transformers; `*` is the block.
LINEARS = {"patch_embed.proj": "embeddings.patch_embeddings", "norm": "norm", "blocks.*.attn.proj": "model.layer.*.attention.o_proj"}
LINEARS |= {f"blocks.*.norm{i}": f"model.layer.*.norm{i}" for i in (1, 2)}
PLAIN_MLP = {"blocks.*.mlp.fc1": "model.layer.*.mlp.up_proj", "blocks.*.mlp.fc2": "model.layer.*.mlp.down_proj"}
GATED_MLP = {f"blocks.*.mlp.w{i}": f"model.layer.*.mlp.{name}_proj" for i, name in enumerate(("gate", "up", "down"), 1)}
VECTORS = {"cls_token": "embeddings.cls_token", "storage_tokens": "embeddings.register_tokens"}
VECTORS |= {f"blocks.*.ls{i}.gamma": f"model.layer.*.layer_scale{i}.lambda1" for i in (1, 2)}


def encoder_names(*mlps: dict[str, str]) -> dict[str, str]:
    linears = [pair for part in (LINEARS, *mlps) for pair in part.items()]
    return VECTORS | {f"{theirs}.{leaf}": f"{ours}.{leaf}" for theirs, ours in linears for leaf in ("weight", "bias")}


def from_official(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of a folder with those of the three modules under the names of the table (`names.py`); unknown ones keep theirs."""
    names, out = encoder_names(PLAIN_MLP, GATED_MLP), {}
    for name, tensor in tensors.items():
        short = name.removeprefix(ENCODER)
        if name.startswith(("geometry_merger.", "feature_fusion.")):
            out[f"model.{name}"] = tensor
        elif short == name:
            out[name] = tensor
        elif match := re.fullmatch(PACKED, short):
            for i, p in enumerate("qkv"):
                if (p, match[2]) != ("k", "bias"):  # which the encoder multiplies by zero
                    out[f"{DINO}model.layer.{match[1]}.attention.{p}_proj.{match[2]}"] = part(tensor, i, 3)
        elif not re.fullmatch(CONSTANTS, short):
            renamed = _renamed(short, names)
            out[DINO + renamed if renamed else name] = tensor
    return out


def to_official(tensors: Mapping[str, Tensor], cfg: SpaceVistaConfig) -> dict[str, Tensor]:
    """Tensors under the names of the table as the released code stores them; experts and routers are left out."""
    out, apart, tensors = {}, {}, {k: v for k, v in tensors.items() if ".lora_" not in k and ".router." not in k}
    if cfg.dino:
        names = {ours: theirs for theirs, ours in encoder_names(GATED_MLP if cfg.dino.use_gated_mlp else PLAIN_MLP).items()}
    for name, tensor in tensors.items():
        short = name.removeprefix(DINO)
        if short == name:
            out[re.sub(r"^model\.(?=geometry_merger\.|feature_fusion\.)", "", released(name))] = tensor
        elif match := re.fullmatch(APART, short):
            apart[match.groups()] = tensor
        else:
            out[ENCODER + _renamed(short, names)] = tensor
    for (block, _, leaf), q in [item for item in apart.items() if item[0][1] == "q"]:
        key = f"{ENCODER}blocks.{block}.attn.qkv.{leaf}"
        zeros = constant(np.zeros(q.shape, q.dtype))
        out[key] = joined([apart.get((block, p, leaf), zeros) for p in "qkv"])
        if leaf == "bias":
            mask = np.repeat(np.array([1, 0, 1]), q.shape[0]).astype(q.dtype)
            out[f"{key}_mask"] = constant(mask)
    if cfg.dino:
        quarter = cfg.dino.head_dim // 4
        periods = cfg.dino.rope_theta ** (np.arange(quarter, dtype=np.float32) / quarter)
        out[f"{ENCODER}rope_embed.periods"] = constant(periods.astype(np.float32))
        out[f"{ENCODER}mask_token"] = constant(np.zeros((1, cfg.dino.hidden_size), out[f"{ENCODER}cls_token"].dtype))
    return out


def official_config(config: dict, cfg: SpaceVistaConfig) -> dict:
    """config.json for `to_official`: what the released code reads, and our own keys, which it does not."""
    config = {k: v for k, v in config.items() if k != "auto_map"}
    config |= {"model_type": "qwen2_5_vl", "architectures": ["Qwen2_5_VLForConditionalGeneration"]}
    if cfg.fusion:
        config |= {"geometry_merger_hidden_dim": cfg.fusion.merger_hidden_size, "geometry_merger_type": cfg.fusion.merger}
        config |= {"fusion_attention_heads": cfg.fusion.num_heads, "fusion_num_layers": cfg.fusion.num_blocks, "fusion_dropout": 0.0}
    return config


def complete_config(config: dict, tensors: Mapping[str, Tensor]) -> dict:
    """config.json with the sizes of DINOv3 and the fusion, read off the tensors where it does not say them (as the released code's never
    does). A plain Qwen2.5-VL comes back as it is."""
    if "dinov3_config" in config or f"{ENCODER}cls_token" not in tensors:
        return config
    shape = lambda name: tensors[name].shape  # noqa: E731
    count = lambda top: len({name.split(".")[top.count(".")] for name in tensors if name.startswith(top)})  # noqa: E731
    width, gated = shape(f"{ENCODER}cls_token")[-1], f"{ENCODER}blocks.0.mlp.w1.weight" in tensors
    dino = {
        "hidden_size": width, "num_attention_heads": width // 64, "num_hidden_layers": count(f"{ENCODER}blocks."),
        "intermediate_size": shape(f"{ENCODER}blocks.0.mlp.{'w1' if gated else 'fc1'}.weight")[0], "use_gated_mlp": gated,
        "hidden_act": "silu" if gated else "gelu", "num_register_tokens": shape(f"{ENCODER}storage_tokens")[1],
    }  # fmt: skip
    marks = {"cross_attn_blocks.": "cross_attention", "projection.": "concat", "gate_projection.": "gated", "weight_2d": "weighted"}
    top = "feature_fusion."
    fusion = {
        "method": next((m for mark, m in marks.items() if any(name.startswith(top + mark) for name in tensors)), "add"),
        "merger_hidden_size": shape("geometry_merger.mlp.0.weight")[0],
        "merger": "mlp" if "geometry_merger.ln_q.weight" in tensors else "avg",
        "num_heads": config.get("fusion_attention_heads", 8),
        "num_blocks": count(f"{top}cross_attn_blocks.") or 1,
        "align": "official",
    }
    return config | {"dinov3_config": dino, "spacevista": {"fusion": fusion}}


def expert_tensors(folder: Path, cfg: SpaceVistaConfig) -> dict[str, Tensor]:
    """The experts of a folder under the names of the table: LoRA folders `0`, `1`, … and the classifier above them."""
    if cfg.experts is None:
        return {}
    loras = [open_file(folder / str(e) / LORA) for e in range(cfg.experts.num_experts)]
    top = open_file(folder / LORA) if cfg.experts.router == "xlora" else {}
    return stacked(loras, folder) | from_classifier(top, cfg.experts, cfg.qwen.text.num_hidden_layers)


def stacked(loras: Sequence[Mapping[str, Tensor]], where: Path) -> dict[str, Tensor]:
    """The low-rank matrices of PEFT folders, [R, in] and [out, R] of each, as [E, R, in] and [E, out, R] under the names of the table."""
    out = {}
    for name, first in loras[0].items():
        same = [lora.get(name) for lora in loras]
        if any(t is None or (t.shape, t.dtype) != (first.shape, first.dtype) for t in same):
            raise UserError(f"{where}: tensor {name!r} is not in all of {len(loras)} expert folders in one shape and dtype")
        key = canonical(name.removeprefix("base_model.model.").removesuffix(".weight"), "qwen2_5_vl")
        out[key] = Tensor((len(loras), *first.shape), first.dtype, lambda same=same: np.stack([t.read() for t in same]), first.file)
    return out


def constant(value: np.ndarray) -> Tensor:
    return Tensor(value.shape, value.dtype, lambda: value)


def _renamed(name: str, names: Mapping[str, str]) -> str | None:
    """Look a name up under `*` for the number of its block."""
    number = re.search(r"(?<=\.)\d+(?=\.)", name)
    found = names.get(name.replace(f".{number[0]}.", ".*.", 1) if number else name)
    return found and found.replace("*", number[0] if number else "")
