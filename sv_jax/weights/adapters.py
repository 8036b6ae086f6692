"""PEFT's LoRA folders: one for each expert, written from a model and read into a model."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from sv_jax.errors import UserError
from sv_jax.files import write_json
from sv_jax.models.spacevista.config import ExpertsConfig
from sv_jax.weights.folders import ADAPTER_CONFIG, read_json
from sv_jax.weights.names import Slot, canonical, name_faults, released
from sv_jax.weights.safetensors_io import Tensor, cast, open_file, raise_faults, write_file

ADAPTER_WEIGHTS = "adapter_model.safetensors"
PREFIX, PAIR = "base_model.model.", (".lora_A", ".lora_B")
TARGETS = r".*language_model.*\.(q|k|v|o|gate|up|down)_proj"  # a list of suffixes would also hit the vision tower's MLPs
OLD_TARGETS = r"model\.layers\..*\.(q|k|v|o|gate|up|down)_proj"  # of transformers <= 4.51
UNREAD = ("use_dora", "fan_in_fan_out", "rank_pattern", "alpha_pattern", "modules_to_save")  # change what a low-rank pair means


def write_adapter(
    folder: Path,
    experts: ExpertsConfig,
    base: str,
    tensors: Mapping[str, Tensor],
    expert: int,
    dtype: np.dtype | None,
    old_names: bool = False,
) -> None:
    """A LoRA folder of one expert out of the tensors of a model's file, under PEFT's names for the modules of transformers >= 4.52, or of
    older ones."""
    rename, targets = (released, OLD_TARGETS) if old_names else (str, TARGETS)
    pairs = {
        f"{PREFIX}{rename(name)}.weight": cast(Tensor(t.shape[1:], t.dtype, lambda t=t: t.read()[expert]), dtype)
        for name, t in tensors.items()
        if name.endswith(PAIR)
    }
    write_peft(folder, pairs, adapter_config(experts, base, targets))


def write_peft(folder: Path, tensors: Mapping[str, Tensor], config: dict) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    write_file(folder / ADAPTER_WEIGHTS, tensors)
    write_json(folder / ADAPTER_CONFIG, config)


def adapter_config(experts: ExpertsConfig, base: str, targets: str) -> dict:
    """`adapter_config.json` of one expert."""
    return {
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": base, "r": experts.rank, "lora_alpha": experts.alpha,
        "lora_dropout": 0.0, "use_rslora": False, "use_dora": False, "bias": "none", "fan_in_fan_out": False, "target_modules": targets,
        "rank_pattern": {}, "alpha_pattern": {}, "modules_to_save": None, "inference_mode": True, "init_lora_weights": True,
    }  # fmt: skip


def read_adapter_configs(folders: Sequence[Path], experts: ExpertsConfig) -> ExpertsConfig:
    """`experts` with the number, rank and alpha of the LoRA folders, which must agree in rank and scaling."""
    found = [_rank_and_alpha(folder / ADAPTER_CONFIG) for folder in folders]
    for folder, (rank, alpha) in zip(folders, found, strict=True):
        if (rank, alpha) != found[0]:
            raise UserError(f"{folder}: rank {rank} and alpha {alpha:g}; expected {found[0][0]} and {found[0][1]:g} as in {folders[0]}")
    return dataclasses.replace(experts, num_experts=len(folders), rank=found[0][0], alpha=found[0][1])


def _rank_and_alpha(file: Path) -> tuple[int, float]:
    config = read_json(file)
    if config.get("peft_type") != "LORA":
        raise UserError(f"{file}: peft_type {config.get('peft_type')!r}; expected 'LORA'")
    odd = [field for field in UNREAD if config.get(field)] + ["bias"] * (config.get("bias", "none") != "none")
    if odd:
        raise UserError(f"{file}: {odd[0]} {config[odd[0]]!r} is not supported; expected a plain LoRA without it")
    rank, alpha = config.get("r"), config.get("lora_alpha")
    if not isinstance(rank, int) or not isinstance(alpha, int | float) or rank < 1:
        raise UserError(f"{file}: r {rank!r} and lora_alpha {alpha!r}; expected a rank of at least 1 and a number")
    return rank, float(alpha * math.sqrt(rank) if config.get("use_rslora") else alpha)  # rslora divides by the root of the rank


def read_adapters(folders: Sequence[Path], wanted: Iterable[Slot]) -> dict[str, Tensor]:
    """The low-rank pairs of all LoRA folders, stacked over experts, under the names of the table; of `wanted` they are the pairs.
    `UserError` names what is wrong with any of the folders."""
    wanted, experts, faults = [slot for slot in wanted if slot.name.endswith(PAIR)], [], []
    for folder in folders:
        stored = open_file(folder / ADAPTER_WEIGHTS)
        found = {canonical(name.removeprefix(PREFIX), "qwen2_5_vl").removesuffix(".weight"): t for name, t in stored.items()}
        if wrong := name_faults(found, [slot._replace(shape=slot.shape[1:]) for slot in wanted]):
            faults.append(f"{folder}: {'; '.join(wrong)}")
        experts.append(found)
    raise_faults(faults, "LoRA folders")
    return {slot.name: _stacked([found[slot.name] for found in experts]) for slot in wanted}


def _stacked(tensors: Sequence[Tensor]) -> Tensor:
    dtype = np.result_type(*(t.dtype for t in tensors))
    return Tensor((len(tensors), *tensors[0].shape), dtype, lambda: np.stack([t.read() for t in tensors]).astype(dtype), tensors[0].file)
