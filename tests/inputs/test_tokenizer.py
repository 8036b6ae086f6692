"""The small tokenizer: Qwen2's splitting, whole tags, exact round trips, files that transformers reads."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer
from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX

from sv_jax.errors import UserError
from sv_jax.inputs.tokenizer import SPECIAL_TOKENS, SPLIT, TAGS, train_tokenizer


def test_the_folder_is_what_transformers_calls_a_qwen2_5_vl_processor(model_folder):
    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    assert type(tokenizer).__name__ == "Qwen2Tokenizer" and len(tokenizer) == 300
    settings = json.loads((model_folder / "preprocessor_config.json").read_text())
    assert settings["processor_class"] == "Qwen2_5_VLProcessor" and settings["max_pixels"] == 12845056
    assert (tokenizer.eos_token, tokenizer.pad_token) == ("<|im_end|>", "<|endoftext|>")


def test_special_tokens_and_tags_are_single_tokens_at_the_end(processor):
    names = [*SPECIAL_TOKENS, *TAGS]
    assert processor.tokenizer.convert_tokens_to_ids(names) == list(range(300 - len(names), 300))
    for name in names:
        assert len(processor.tokenizer.encode(f"a{name}b")) == 3


def test_tags_survive_decoding_without_special_tokens(processor):
    text = "<think>12 cm</think><answer>A</answer>"
    ids = processor.tokenizer.encode(text + "<|im_end|>")
    assert processor.tokenizer.decode(ids, skip_special_tokens=True) == text


@settings(max_examples=50, deadline=None)
@given(st.text(st.characters(codec="ascii"), max_size=40))
def test_text_comes_back_exactly(processor, text):
    assert processor.tokenizer.decode(processor.tokenizer.encode(text)) == text


def test_digits_stay_single(processor):
    assert SPLIT == PRETOKENIZE_REGEX
    assert processor.tokenizer.tokenize("1250") == list("1250")


def test_training_is_deterministic(tmp_path):
    for name in "ab":
        train_tokenizer(["the red mug and the blue mug"] * 4, tmp_path / name, vocab_size=280)
    files = [sorted((p.name, p.read_bytes()) for p in (tmp_path / name).iterdir()) for name in "ab"]
    assert files[0] == files[1] and len(files[0]) == 4


def test_too_small_a_vocabulary_is_refused(tmp_path):
    with pytest.raises(UserError, match="vocab_size 100: expected at least 272"):
        train_tokenizer(["a"], tmp_path / "t", vocab_size=100)
    assert not (tmp_path / "t").exists()
