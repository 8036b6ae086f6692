"""The tensor names of the released SpaceVista code, in both directions.

Its checkpoint is a plain Qwen2.5-VL folder with three more modules at the top: `geometry_encoder.` (DINOv3 under its own repository's
names), `geometry_merger.` and `feature_fusion.`; its config.json says nothing of them. Experts are PEFT folders beside it, numbered, with
the X-LoRA classifier above them: here in the subfolder `experts`. What has no name there (the routers `layer` and `prompt`) is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from sv_jax.errors import UserError
from sv_jax.models.spacevista.config import SpaceVistaConfig
from sv_jax.weights.adapters import ADAPTER_WEIGHTS, read_adapters
from sv_jax.weights.names import Slot, released
from sv_jax.weights.safetensors_io import Tensor, open_file
from sv_jax.weights.xlora import from_classifier, joined, part

ENCODER, DINO = "geometry_encoder.", "model.dinov3."
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


ENCODER_NAMES = encoder_names(PLAIN_MLP, GATED_MLP)


def table_names(name: str) -> tuple[str | None, ...]:
    """What a tensor of a folder is called in the table (`names.py`): one name, or one for each of equal parts along its first axis, where
    None is not read; unknown ones keep theirs."""
    short = name.removeprefix(ENCODER)
    if name.startswith(("geometry_merger.", "feature_fusion.")):
        return (f"model.{name}",)
    if short == name:
        return (name,)
    if match := re.fullmatch(PACKED, short):
        block, leaf = match.groups()
        zero = ("k", "bias")  # which the encoder multiplies by zero
        return tuple(None if (p, leaf) == zero else f"{DINO}model.layer.{block}.attention.{p}_proj.{leaf}" for p in "qkv")
    if re.fullmatch(CONSTANTS, short):
        return (None,)
    renamed = _renamed(short, ENCODER_NAMES)
    return (DINO + renamed if renamed else name,)


def from_official(name: str, tensor: Tensor) -> dict[str, Tensor]:
    """A tensor of a folder, or the parts of it, under the names of the table."""
    names = table_names(name)
    return {key: part(tensor, i, len(names)) if len(names) > 1 else tensor for i, key in enumerate(names) if key}


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


def refuse_unnamed(cfg: SpaceVistaConfig) -> None:
    """`UserError` for a model with parts that have no name there."""
    if cfg.experts and cfg.experts.router in ("layer", "prompt"):
        raise UserError(f"names 'official': the released code has no router {cfg.experts.router!r}; expected xlora, label or uniform")
    if cfg.dino and (cfg.dino.key_bias or cfg.dino.query_bias != cfg.dino.value_bias):
        raise UserError("names 'official': DINOv3's queries and values have a bias there, or none has; expected that, and no key_bias")


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

    def shape(name: str) -> tuple[int, ...]:
        if name not in tensors:
            raise UserError(f"missing tensor {name!r}: config.json has no 'dinov3_config', and the sizes are read off the tensors")
        return tensors[name].shape

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


def expert_tensors(folder: Path, cfg: SpaceVistaConfig, wanted: Iterable[Slot]) -> dict[str, Tensor]:
    """The experts beside a model under the names of the table, where there are any: the LoRA folders `experts/0`, `experts/1`, … and the
    classifier above them."""
    top = folder / EXPERTS
    if not top.is_dir():
        return {}
    if cfg.experts is None:
        raise UserError(f"{folder}: there are {EXPERTS}/, but config.json says nothing of them; expected spacevista.experts there")
    loras = read_adapters([top / str(e) for e in range(cfg.experts.num_experts)], wanted)
    classifier = open_file(top / ADAPTER_WEIGHTS) if cfg.experts.router == "xlora" else {}
    return loras | from_classifier(classifier, cfg.experts, cfg.qwen.text.num_hidden_layers)


def constant(value: np.ndarray) -> Tensor:
    return Tensor(value.shape, value.dtype, lambda: value)


def _renamed(name: str, names: Mapping[str, str]) -> str | None:
    """Look a name up under `*` for the number of its block."""
    number = re.search(r"(?<=\.)\d+(?=\.)", name)
    found = names.get(name.replace(f".{number[0]}.", ".*.", 1) if number else name)
    return found and found.replace("*", number[0] if number else "")
