"""Trained weights back to Hugging Face: as a SpaceVista folder, as plain Qwen2.5-VL, or as PEFT adapters."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from sv_jax.errors import UserError, unknown
from sv_jax.files import write_json
from sv_jax.models.spacevista.config import SCALES, ExpertsConfig
from sv_jax.models.spacevista.model import SpaceVista
from sv_jax.weights.folders import find_folder, new_folder
from sv_jax.weights.load import load_model, model_tensors, save_model, write_model
from sv_jax.weights.names import released
from sv_jax.weights.official import EXPERTS
from sv_jax.weights.safetensors_io import Tensor, write_file
from sv_jax.weights.xlora import classifier_tensors, xlora_config

FORMATS, NAMES = ("spacevista", "qwen", "peft"), ("transformers", "official")
TARGETS = r".*language_model.*\.(q|k|v|o|gate|up|down)_proj"  # a list of suffixes would also hit the vision tower's MLPs
OLD_TARGETS = r"model\.layers\..*\.(q|k|v|o|gate|up|down)_proj"  # of the released code's transformers


def export(
    model: str | Path,
    out: str | Path,
    as_: str = "spacevista",
    scale: str | None = None,
    dtype: str | None = None,
    names: str = "transformers",
) -> None:
    """Write the model in a folder to the folder `out`, with its weights in `dtype` (None: as they are stored).

    `spacevista`: the whole model with its torch code. `qwen`: Qwen2.5-VL without DINOv3 and fusion, with the expert of `scale` merged into
    the weights ("none": no expert). `peft`: `out/base` (that Qwen2.5-VL, no expert), one LoRA folder per expert, named by its scale, and
    for the router `xlora` its folder. `names`: "official" are those of the released SpaceVista code, for `spacevista`; its experts are PEFT
    folders in `out/experts`.
    """
    if as_ not in FORMATS:
        raise unknown("export format", as_, FORMATS)
    if names not in NAMES:
        raise unknown("names", names, NAMES)
    if names == "official" and as_ != "spacevista":
        raise UserError(f"names 'official': expected `--as spacevista`, found `--as {as_}`")
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
        return save_model(model, out, source=source) if names == "transformers" else _write_official(model, out, source)
    if experts is None:
        raise UserError("--as peft: the model has no scale experts to export")
    with new_folder(out) as folder:
        (folder / "base").mkdir()
        _write_qwen(folder / "base", model, None, source)
        tensors, base = model_tensors(model), str(Path(out) / "base")
        for e, name in enumerate(experts.names):
            _write_adapter(folder / name, adapter_tensors(tensors, e), adapter_config(experts, base))
        if experts.router == "xlora":
            _write_classifier(folder / "xlora", model, base, [str(Path(out) / name) for name in experts.names])


def _write_official(model: SpaceVista, out: str | Path, source: Path) -> None:
    experts = model.cfg.experts
    if experts and experts.router in ("layer", "prompt"):
        raise UserError(f"names 'official': the released code has no router {experts.router!r}; expected xlora, label or uniform")
    if model.cfg.dino and model.cfg.dino.key_bias:
        raise UserError("names 'official': DINOv3's key bias has no name there; expected a model without")
    with new_folder(out) as folder:
        tensors, top = model_tensors(model), Path(out) / EXPERTS
        write_model(folder, model.cfg, tensors, source, official=True)
        for e in range(experts.num_experts if experts else 0):
            config = adapter_config(experts, str(out)) | {"target_modules": OLD_TARGETS}
            _write_adapter(folder / EXPERTS / str(e), adapter_tensors(tensors, e, released), config)
        if experts and experts.router == "xlora":
            _write_classifier(folder / EXPERTS, model, str(out), [str(top / str(e)) for e in range(experts.num_experts)])


def _write_adapter(folder: Path, tensors: Mapping[str, Tensor], config: dict) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    write_file(folder / "adapter_model.safetensors", tensors)
    write_json(folder / "adapter_config.json", config)


def _write_classifier(folder: Path, model: SpaceVista, base: str, adapters: Sequence[str]) -> None:
    experts, text = model.cfg.experts, model.cfg.qwen.text
    tensors = classifier_tensors(model_tensors(model), experts, text.num_hidden_layers)
    _write_adapter(folder, tensors, xlora_config(experts, text.hidden_size, base, adapters))


def adapter_config(experts: ExpertsConfig, base: str) -> dict:
    """`adapter_config.json` of one expert."""
    return {
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": base, "r": experts.rank, "lora_alpha": experts.alpha,
        "lora_dropout": 0.0, "use_rslora": False, "use_dora": False, "bias": "none", "fan_in_fan_out": False, "target_modules": TARGETS,
        "rank_pattern": {}, "alpha_pattern": {}, "modules_to_save": None, "inference_mode": True, "init_lora_weights": True,
    }  # fmt: skip


def adapter_tensors(tensors: Mapping[str, Tensor], expert: int, rename: Callable[[str], str] = str) -> dict[str, Tensor]:
    """One expert's low-rank pairs out of a model's tensors, under PEFT's names for transformers >= 4.52 modules, or older ones."""
    return {
        f"base_model.model.{rename(name)}.weight": Tensor(t.shape[1:], t.dtype, lambda t=t: t.read()[expert])
        for name, t in tensors.items()
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
