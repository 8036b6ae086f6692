"""Trained weights back to Hugging Face: as a SpaceVista folder, as plain Qwen2.5-VL, or as PEFT adapters."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from sv_jax.errors import UserError, unknown
from sv_jax.files import write_json
from sv_jax.models.spacevista.config import SCALES, ExpertsConfig
from sv_jax.models.spacevista.model import SpaceVista
from sv_jax.weights.folders import find_folder, new_folder
from sv_jax.weights.load import load_model, model_tensors, save_model, write_model
from sv_jax.weights.safetensors_io import Tensor, write_file

FORMATS = ("spacevista", "qwen", "peft")
TARGETS = r".*language_model.*\.(q|k|v|o|gate|up|down)_proj"  # a list of suffixes would also hit the vision tower's MLPs


def export(model: str | Path, out: str | Path, as_: str = "spacevista", scale: str | None = None, dtype: str | None = None) -> None:
    """Write the model in a folder to the folder `out`, with its weights in `dtype` (None: as they are stored).

    `spacevista`: the whole model with its torch code. `qwen`: Qwen2.5-VL without DINOv3 and fusion, with the expert of `scale` merged into
    the weights ("none": no expert). `peft`: `out/base` (that Qwen2.5-VL, no expert) and one LoRA folder per expert, named by its scale.
    """
    if as_ not in FORMATS:
        raise unknown("export format", as_, FORMATS)
    source = find_folder(model)
    model = load_model(source, dtype=dtype)
    experts = model.cfg.experts
    if as_ == "qwen":
        expert = _expert_of(scale, experts)
        with new_folder(out) as folder:
            _write_qwen(folder, model, expert, source)
        return
    if scale is not None:
        raise UserError(f"scale {scale!r}: only `--as qwen` merges one scale's expert; leave it out for `--as {as_}`")
    if as_ == "spacevista":
        return save_model(model, out, source=source)
    if experts is None:
        raise UserError("--as peft: the model has no scale experts to export")
    with new_folder(out) as folder:
        (folder / "base").mkdir()
        _write_qwen(folder / "base", model, None, source)
        for e, name in enumerate(experts.names):
            (folder / name).mkdir()
            write_file(folder / name / "adapter_model.safetensors", adapter_tensors(model, e))
            write_json(folder / name / "adapter_config.json", adapter_config(experts, str(Path(out) / "base")))


def adapter_config(experts: ExpertsConfig, base: str) -> dict:
    """`adapter_config.json` of one expert."""
    return {
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": base, "r": experts.rank, "lora_alpha": experts.alpha,
        "lora_dropout": 0.0, "use_rslora": False, "use_dora": False, "bias": "none", "fan_in_fan_out": False, "target_modules": TARGETS,
        "rank_pattern": {}, "alpha_pattern": {}, "modules_to_save": None, "inference_mode": True, "init_lora_weights": True,
    }  # fmt: skip


def adapter_tensors(model: SpaceVista, expert: int) -> dict[str, Tensor]:
    """One expert's low-rank pairs under PEFT's names for transformers >= 4.52 modules."""
    return {
        f"base_model.model.{name}.weight": Tensor(t.shape[1:], t.dtype, lambda t=t: t.read()[expert])
        for name, t in model_tensors(model).items()
        if name.endswith((".lora_A", ".lora_B"))
    }


def merge(weight: np.ndarray, a: np.ndarray, b: np.ndarray, scaling: float) -> np.ndarray:
    """W [out, in] + scaling · B [out, R] · A [R, in], computed in f32 and rounded once to the dtype of W."""
    delta = scaling * (b.astype(np.float32) @ a.astype(np.float32))
    return (weight.astype(np.float32) + delta).astype(weight.dtype)


def _expert_of(scale: str | None, experts: ExpertsConfig | None) -> int | None:
    if scale == "none" or (scale is None and experts is None):
        return None
    if experts is None:
        raise UserError(f"scale {scale!r}: the model has no scale experts to merge; leave it out")
    if scale is None:
        raise UserError(f"--as qwen merges one scale's expert: give --scale, one of {', '.join(SCALES)}, or none for the plain base")
    if scale not in SCALES:
        raise unknown("scale", scale, (*SCALES, "none"))
    return experts.expert_of(scale)


def _write_qwen(folder: Path, model: SpaceVista, expert: int | None, source: Path) -> None:
    cfg = dataclasses.replace(model.cfg, dino=None, fusion=None, experts=None)
    write_model(folder, cfg, _merged(model_tensors(model), expert, model.cfg.experts), source)


def _merged(tensors: Mapping[str, Tensor], expert: int | None, experts: ExpertsConfig | None) -> dict[str, Tensor]:
    """The tensors of the plain Qwen2.5-VL inside, one expert's low-rank products added where there are any."""
    out = {}
    for name, w in tensors.items():
        if name.startswith(("model.dinov3.", "model.geometry_merger.", "model.feature_fusion.")) or ".lora_" in name or ".router." in name:
            continue
        module = name.removesuffix(".weight")
        if expert is not None and f"{module}.lora_A" in tensors:
            a, b = tensors[f"{module}.lora_A"], tensors[f"{module}.lora_B"]
            read = lambda w=w, a=a, b=b: merge(w.read(), a.read()[expert], b.read()[expert], experts.scaling)  # noqa: E731
            w = w._replace(read=read)
        out[name] = w
    return out
