"""Checkpoints that are not read are refused in one line that says what was found and what to do."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from sv_jax.errors import UserError
from sv_jax.weights.foreign import adapter_folders
from sv_jax.weights.inspect import inspect_weights
from sv_jax.weights.load import init_model, load_model
from sv_jax.weights.safetensors_io import Tensor, write_file

QUANTISED = "the weights are quantised; expected bfloat16, float16 or float32"
Q = "model.layers.0.self_attn.q_proj"


def refused(folder: Path, message: str) -> None:
    for call in (load_model, inspect_weights, lambda folder: init_model(folder, None, None, None, folder.parent / "out")):
        with pytest.raises(UserError, match=message) as error:
            call(folder)
        assert "\n" not in str(error.value)
    assert not (folder.parent / "out").exists()


def with_config(source: Path, folder: Path, **change) -> Path:
    shutil.copytree(source, folder)
    config = json.loads((source / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | change))
    return folder


@pytest.mark.parametrize(
    "change, message",
    [
        ({"quantization_config": {"quant_method": "awq", "bits": 4}}, rf"quantization_config \(awq\): {QUANTISED}"),
        ({"model_type": "llava"}, "model_type 'llava' is not one of qwen2_5_vl, spacevista; give a checkpoint of such a model"),
        (
            {"rope_scaling": {"type": "yarn", "factor": 4.0}, "rope_parameters": None, "text_config": {}},
            "rope type 'yarn' is not one of default, mrope",
        ),
        ({"vision_config": 3}, "config.json: not a qwen2_5_vl config"),
    ],
)
def test_a_config_of_something_else(tmp_path, qwen_folder, change, message):
    refused(with_config(qwen_folder, tmp_path / "model", **change), message)


@pytest.mark.parametrize(
    "name, message",
    [
        (f"{Q}.qweight", f"'{Q}.qweight': {QUANTISED}"),
        (f"{Q}.weight_scale_inv", QUANTISED),
        (f"{Q}.weight.quant_state.bitsandbytes__nf4", QUANTISED),
        (
            f"base_model.model.{Q}.weight",
            r"a LoRA-wrapped model; give what peft's merge_and_unload\(\) returns, or .* sv-jax init --adapters",
        ),
        (f"{Q}.base_layer.weight", "LoRA-wrapped"),
        (f"{Q}.lora_A.default.weight", "LoRA-wrapped"),
    ],
)
def test_tensors_of_quantised_and_of_wrapped_models(tmp_path, qwen_folder, name, message):
    folder = with_config(qwen_folder, tmp_path / "model")
    write_file(folder / "model.safetensors", {name: Tensor((2,), np.dtype(np.float32), lambda: np.ones(2, np.float32))})
    refused(folder, message)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "consolidated.pth", "model-q4.gguf"])
def test_pickles_and_other_formats(tmp_path, qwen_folder, name):
    folder = with_config(qwen_folder, tmp_path / "model")
    (folder / "model.safetensors").rename(folder / name)
    refused(folder, f"found {name}, expected model.safetensors .*save_pretrained")


def test_adapters_alone_are_answered_with_the_command_that_makes_a_model(tmp_path):
    (tmp_path / "peft" / "base").mkdir(parents=True)
    for name in ("mine", "outdoor", "indoor", "tiny"):
        (tmp_path / "peft" / name).mkdir()
        (tmp_path / "peft" / name / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    (tmp_path / "peft" / "xlora").mkdir()  # holds a classifier, no adapter
    (tmp_path / "peft" / "xlora" / "adapter_config.json").write_text('{"peft_type": "XLORA"}')
    folder = tmp_path / "peft"
    assert [f.name for f in adapter_folders(folder)] == ["tiny", "indoor", "outdoor", "mine"]
    refused(folder, f"found LoRA adapters, no model; make one: sv-jax init --qwen {folder}/base --adapters {folder}/tiny,{folder}/indoor,")
    refused(folder / "tiny", f"sv-jax init --qwen BASE --adapters {folder}/tiny --out")
