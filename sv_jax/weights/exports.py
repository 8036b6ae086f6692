"""Trained weights back to Hugging Face: as a SpaceVista folder, as plain Qwen2.5-VL, or as PEFT adapters; from file to file."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from sv_jax.errors import UserError, unknown
from sv_jax.models.spacevista.config import SCALES, ExpertsConfig, SpaceVistaConfig
from sv_jax.weights.adapters import write_adapter
from sv_jax.weights.folders import find_folder, model_folder
from sv_jax.weights.load import as_dtype, open_model, write_model
from sv_jax.weights.official import EXPERTS, refuse_unnamed
from sv_jax.weights.safetensors_io import Tensor, cast, num_bytes
from sv_jax.weights.xlora import write_classifier

FORMATS, NAMES = ("spacevista", "qwen", "peft"), ("transformers", "official")


def export(
    model: str | Path,
    out: str | Path,
    as_: str = "spacevista",
    scale: str | None = None,
    dtype: str | None = None,
    weights: Mapping[str, float] | None = None,
    max_shard_size: int | str = "5GB",
    names: str = "transformers",
) -> None:
    """Write the model in a folder to the folder `out`, one tensor at a time, with its weights in `dtype` (None: as they are stored).

    `spacevista`: the whole model with its torch code. `qwen`: Qwen2.5-VL without DINOv3 and fusion, and merged into it the expert of
    `scale` ("none": no expert) or the sum of experts by `weights` {scale: weight}. `peft`: `out/base` (that Qwen2.5-VL, no expert), one
    LoRA folder per expert, named by its scale, and for the router `xlora` its folder. `names`: "official" are those of the released
    SpaceVista code, for `spacevista`; its experts are PEFT folders in `out/experts`.
    """
    if as_ not in FORMATS:
        raise unknown("export format", as_, FORMATS)
    if names not in NAMES:
        raise unknown("names", names, NAMES)
    if (official := names == "official") and as_ != "spacevista":
        raise UserError(f"names 'official': expected `--as spacevista`, found `--as {as_}`")
    if as_ != "qwen" and (scale, weights) != (None, None):
        given = f"weights {dict(weights)}" if scale is None else f"scale {scale!r}"
        raise UserError(f"{given}: only `--as qwen` merges experts; leave it out for `--as {as_}`")
    source, limit, dtype = find_folder(model), num_bytes(max_shard_size), None if dtype is None else as_dtype(dtype)
    cfg, tensors = open_model(source)
    if as_ == "peft" and cfg.experts is None:
        raise UserError("--as peft: the model has no scale experts to export")
    if official:
        refuse_unnamed(cfg)
    gate, out = gates(scale, weights, cfg.experts) if as_ == "qwen" else None, Path(out)
    with model_folder(out) as folder:
        if as_ == "spacevista":
            write_model(folder, cfg, {name: cast(tensor, dtype) for name, tensor in tensors.items()}, source, limit, official)
            if official and cfg.experts:
                write_experts(folder / EXPERTS, out / EXPERTS, out, cfg, tensors, dtype, official)
            return
        base = folder / "base" if as_ == "peft" else folder
        base.mkdir(exist_ok=True)
        plain = dataclasses.replace(cfg, dino=None, fusion=None, experts=None)
        write_model(base, plain, merged(tensors, gate, cfg, dtype), source, limit)
        if as_ == "peft":
            write_experts(folder, out, out / "base", cfg, tensors, dtype)


def write_experts(
    folder: Path,
    final: Path,
    base: Path,
    cfg: SpaceVistaConfig,
    tensors: Mapping[str, Tensor],
    dtype: np.dtype | None,
    official: bool = False,
) -> None:
    """PEFT's folders of all experts of a model in `folder`, which will be called `final`. The released code numbers them, and has the
    classifier of `xlora` above them."""
    names = [str(e) for e in range(cfg.experts.num_experts)] if official else cfg.experts.names
    for e, name in enumerate(names):
        write_adapter(folder / name, cfg.experts, str(base), tensors, e, dtype, old_names=official)
    if cfg.experts.router == "xlora":
        top = folder if official else folder / "xlora"
        write_classifier(top, cfg, str(base), tensors, [str(final / name) for name in names], dtype)


def gates(scale: str | None, weights: Mapping[str, float] | None, experts: ExpertsConfig | None) -> np.ndarray | None:
    """The weight of each expert, f32 [E]; None for no expert at all."""
    if scale is not None and weights is not None:
        raise UserError(f"scale {scale!r} and weights {dict(weights)}: give one of them")
    if scale == "none" or (scale is None and weights is None and experts is None):
        return None
    if experts is None:
        raise UserError(f"scale {scale or ', '.join(weights)!r}: the model has no scale experts to merge; leave it out")
    if scale is None and weights is None:
        raise UserError(f"--as qwen merges experts: give --scale, one of {', '.join(SCALES)}, or none for the base, or give --weights")
    out = np.zeros(experts.num_experts, np.float32)
    for name, weight in (weights or {scale: 1.0}).items():
        if name not in SCALES:
            raise unknown("scale", name, SCALES if weights else (*SCALES, "none"))
        out[experts.expert_of(name)] += weight
    return out


def merged(tensors: Mapping[str, Tensor], gate: np.ndarray | None, cfg: SpaceVistaConfig, dtype: np.dtype | None) -> dict[str, Tensor]:
    """The tensors of the plain Qwen2.5-VL inside, plus the experts' low-rank products times `gate` [E]."""
    out = {}
    for name, w in tensors.items():
        if name.startswith(("model.dinov3.", "model.geometry_merger.", "model.feature_fusion.")) or ".lora_" in name or ".router." in name:
            continue
        module = name.removesuffix(".weight")
        out[name] = cast(w, dtype)
        if gate is not None and f"{module}.lora_A" in tensors:
            a, b = tensors[f"{module}.lora_A"], tensors[f"{module}.lora_B"]
            make = lambda w=w, a=a, b=b, to=out[name].dtype: _merge_all(w.read(), a.read(), b.read(), gate, cfg.experts.scaling, to)  # noqa: E731
            out[name] = Tensor(w.shape, out[name].dtype, make)
    return out


def _merge_all(weight: np.ndarray, a: np.ndarray, b: np.ndarray, gate: np.ndarray, scaling: float, dtype: np.dtype) -> np.ndarray:
    """W [out, in] + the experts A [E, R, in] and B [E, out, R] times gate [E], as one pair of rank E*R."""
    on = np.flatnonzero(gate)
    b = gate[on, None, None] * b[on].astype(np.float32)
    return merge(weight, np.concatenate(a[on]), np.concatenate(b, axis=1), scaling, dtype)


def merge(weight: np.ndarray, a: np.ndarray, b: np.ndarray, scaling: float, dtype: np.dtype | None = None) -> np.ndarray:
    """W [out, in] + scaling · B [out, R] · A [R, in], computed in f32 and rounded once, to `dtype` or to that of W."""
    delta = scaling * (b.astype(np.float32) @ a.astype(np.float32))
    return (weight.astype(np.float32) + delta).astype(dtype or weight.dtype)
