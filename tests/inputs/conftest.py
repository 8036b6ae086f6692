"""A small model folder (tokenizer, processor settings, config) that the tests of `sv_jax.inputs` share."""

from __future__ import annotations

import json

import pytest

from sv_jax.inputs.chat import Processor
from sv_jax.inputs.tokenizer import train_tokenizer
from sv_jax.models.qwen2_5_vl.config import QwenConfig, VisionConfig

TEXTS = ["How tall is the red mug in centimetres? It is 12.5 cm.", "<think>The blue box is left of it.</think><answer>A</answer>"] * 8


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    train_tokenizer(TEXTS, folder, vocab_size=300)
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    names = {"image_token_id": "image_pad", "video_token_id": "video_pad", "vision_start_token_id": "vision_start"}
    names |= {"vision_end_token_id": "vision_end", "vision_token_id": "vision_pad"}
    ids = {field: tokenizer.convert_tokens_to_ids(f"<|{name}|>") for field, name in names.items()}
    (folder / "config.json").write_text(json.dumps(QwenConfig(**ids, vision=VisionConfig(tokens_per_second=2)).to_hf()))
    return folder


@pytest.fixture(scope="session")
def processor(model_folder):
    return Processor.from_folder(model_folder)
