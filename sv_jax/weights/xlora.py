"""PEFT's X-LoRA folder: the classifier's tensors and config, and back. The experts' own LoRA folders are named in the config."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from sv_jax.models.spacevista.config import ExpertsConfig, SpaceVistaConfig
from sv_jax.weights.adapters import write_peft
from sv_jax.weights.safetensors_io import Tensor, cast, read_part

DROPOUT = 0.2  # PEFT's default. It has no part in evaluation, but a place in the list of modules that tensors are numbered by
STEP = 3  # linear, ReLU, dropout


def write_classifier(
    folder: Path, cfg: SpaceVistaConfig, base: str, tensors: Mapping[str, Tensor], adapters: Sequence[str], dtype: np.dtype | None
) -> None:
    """The X-LoRA folder out of the tensors of a model's file; `adapters` are the LoRA folders in the order of the experts."""
    text = cfg.qwen.text
    made = classifier_tensors(tensors, cfg.experts, text.num_hidden_layers)
    write_peft(folder, {name: cast(t, dtype) for name, t in made.items()}, xlora_config(cfg.experts, text.hidden_size, base, adapters))


def xlora_config(experts: ExpertsConfig, hidden_size: int, base: str, adapters: Sequence[str]) -> dict:
    """`adapter_config.json`. PEFT names the adapters "0", "1", …"""
    x = experts.xlora
    return {
        "peft_type": "XLORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": base, "hidden_size": hidden_size,
        "adapters": {str(e): path for e, path in enumerate(adapters)}, "xlora_depth": x.depth, "xlora_size": experts.router_hidden_size,
        "xlora_dropout_p": DROPOUT, "layerwise_scalings": x.layerwise, "enable_softmax": x.softmax, "enable_softmax_topk": x.softmax_topk,
        "softmax_temperature": experts.temperature, "top_k_lora": x.top_k, "scaling_pass_value": 0.0, "global_scaling_weight": 1.0,
        "use_trainable_adapters": False, "inference_mode": True,
    }  # fmt: skip


def classifier_rows(experts: ExpertsConfig, num_layers: int) -> list[tuple[str, list[str]]]:
    """(PEFT's linear layer, ours under the names of the table, on top of each other) in order. Layer-wise the last one is cut by layer."""
    top, depth = "model.language_model", experts.xlora.depth
    rows = [[f"{top}.router.first"]] if depth > 1 else []
    rows += [[f"{top}.router.hidden.{i}"] for i in range(depth - 2)]
    rows += [[f"{top}.layers.{i}.router" for i in range(num_layers)] if experts.xlora.layerwise else [f"{top}.router.last"]]
    return [(f"base_model.internal_xlora_classifier.layers.{STEP * k}", row) for k, row in enumerate(rows)]


def classifier_tensors(tensors: Mapping[str, Tensor], experts: ExpertsConfig, num_layers: int) -> dict[str, Tensor]:
    """PEFT's classifier out of the tensors of a model."""
    rows = classifier_rows(experts, num_layers)
    return {f"{theirs}.{x}": joined([tensors[f"{name}.{x}"] for name in ours]) for theirs, ours in rows for x in ("weight", "bias")}


def from_classifier(tensors: Mapping[str, Tensor], experts: ExpertsConfig, num_layers: int) -> dict[str, Tensor]:
    """The inverse; tensors that are no part of the classifier keep their names."""
    out = dict(tensors)
    for theirs, ours in classifier_rows(experts, num_layers):
        for leaf in ("weight", "bias"):
            if (tensor := out.pop(f"{theirs}.{leaf}", None)) is not None:
                out |= {f"{name}.{leaf}": part(tensor, i, len(ours)) for i, name in enumerate(ours)}
    return out


def joined(parts: Sequence[Tensor]) -> Tensor:
    """Tensors of equal shapes on top of each other, along the first axis."""
    rows, *rest = parts[0].shape
    dtype = np.result_type(*(one.dtype for one in parts))
    return Tensor((len(parts) * rows, *rest), dtype, lambda: np.concatenate([one.read() for one in parts]).astype(dtype))


def part(tensor: Tensor, i: int, n: int) -> Tensor:
    """The i-th of n equal parts along the first axis, where it lies in the file of the whole. What cannot be cut stays whole, and has a
    wrong shape for whoever asked."""
    if not tensor.shape or tensor.shape[0] % n:
        return tensor
    shape = (tensor.shape[0] // n, *tensor.shape[1:])
    rows, columns = slice(i * shape[0], (i + 1) * shape[0]), slice(0, math.prod(shape[1:]))
    offset = None if tensor.offset is None else tensor.offset + i * tensor.nbytes // n
    read = lambda: read_part(tensor, columns.stop, rows, columns).reshape(shape)  # noqa: E731
    return Tensor(shape, tensor.dtype, read, tensor.file, offset)
