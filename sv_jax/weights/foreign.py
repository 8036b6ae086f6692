"""Folders that are no plain checkpoint: quantised, LoRA-wrapped, pickled, of another model. Refused in a line that says what to do."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from sv_jax.errors import UserError, unknown
from sv_jax.models.spacevista.config import SCALES
from sv_jax.weights.folders import ADAPTER_CONFIG, INDEX, SINGLE, read_json

PICKLES = (".bin", ".pth", ".pt", ".ckpt", ".pkl", ".gguf", ".h5", ".msgpack")
# AWQ and GPTQ; fp8; bitsandbytes
QUANTISED = r".*\.(qweight|qzeros|scales|g_idx|weight_packed|(weight|input|activation)_scale(_inv)?|absmax|quant_map|SCB|weight\..+)"
QUANTISED_HINT = "the weights are quantised; expected bfloat16, float16 or float32: give the checkpoint that they were made from"
WRAPPED_HINT = "a LoRA-wrapped model; give what peft's merge_and_unload() returns, or its adapters alone to sv-jax init --adapters"
WRAPPED = r"base_model\.model\.|.*\.(base_layer|lora_[AB])\.|.*\.modules_to_save\."


def refuse_folder(folder: str | Path) -> None:
    """`UserError` when the folder holds adapters or pickles and no safetensors of a model."""
    folder = Path(folder)
    if (folder / SINGLE).is_file() or (folder / INDEX).is_file():
        return
    if adapters := [folder] if (folder / ADAPTER_CONFIG).is_file() else adapter_folders(folder):
        base = folder / "base" if (folder / "base").is_dir() else "BASE"
        names = ",".join(map(str, adapters))
        raise UserError(f"{folder}: found LoRA adapters, no model; make one: sv-jax init --qwen {base} --adapters {names} --out MODEL")
    if pickles := sorted(f.name for f in folder.iterdir() if f.suffix in PICKLES):
        raise UserError(
            f"{folder}: found {pickles[0]}, expected {SINGLE} or {INDEX}: load it in transformers and write it again with save_pretrained"
        )


def adapter_folders(folder: Path) -> list[Path]:
    """The LoRA folders inside, those named after a scale first and in the scales' order."""
    rank = {name: i for i, name in enumerate(SCALES)}
    found = (f.parent for f in folder.glob(f"*/{ADAPTER_CONFIG}") if read_json(f).get("peft_type") == "LORA")
    return sorted(found, key=lambda f: (rank.get(f.name, len(rank)), f.name))


def refuse_config(file: str | Path, hf: dict, known: Iterable[str]) -> None:
    """`UserError` for the `config.json` of another model, or of quantised weights."""
    if hf.get("model_type") not in known:
        raise UserError(f"{unknown(f'{file}: model_type', hf.get('model_type'), known)}; give a checkpoint of such a model")
    if quantised := hf.get("quantization_config"):
        method = quantised.get("quant_method", "method unknown") if isinstance(quantised, dict) else quantised
        raise UserError(f"{file}: quantization_config ({method}): {QUANTISED_HINT}")


def refuse_tensors(folder: str | Path, names: Iterable[str]) -> None:
    """`UserError` for a checkpoint whose tensors' names show that it is quantised or wrapped in adapters."""
    for name in names:
        if re.fullmatch(QUANTISED, name):
            raise UserError(f"{folder}: tensor {name!r}: {QUANTISED_HINT}")
        if re.match(WRAPPED, name):
            raise UserError(f"{folder}: tensor {name!r}: {WRAPPED_HINT}")
