"""Reading `config.json` in the forms that are in the wild, and refusing what would silently compute something else."""

from __future__ import annotations

import pytest

from sv_jax.errors import UserError
from sv_jax.models.qwen2_5_vl.config import QwenConfig, TextConfig, VisionConfig

TEXT = dict(
    vocab_size=96, hidden_size=64, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
    rms_norm_eps=1e-6, max_position_embeddings=512, hidden_act="silu", use_sliding_window=False, sliding_window=32768,
)  # fmt: skip
OLD_ROPE = {"rope_theta": 1e4, "rope_scaling": {"type": "mrope", "mrope_section": [2, 2, 4]}}
NEW_ROPE = {"rope_parameters": {"rope_type": "default", "type": "default", "mrope_section": [2, 2, 4], "rope_theta": 1e4}}
VISION = {"depth": 2, "hidden_size": 32, "num_heads": 2, "out_hidden_size": 64, "fullatt_block_indexes": [1]}


@pytest.mark.parametrize(
    "hf",
    [
        {**TEXT, **OLD_ROPE, "tie_word_embeddings": True, "vision_config": {**VISION, "in_chans": 3}},
        {"text_config": {**TEXT, **OLD_ROPE}, "tie_word_embeddings": True, "vision_config": {**VISION, "in_channels": 3}},
        {"text_config": {**TEXT, **NEW_ROPE}, "tie_word_embeddings": True, "vision_config": VISION},
    ],
    ids=["released", "4.52", "5"],
)
def test_every_form_of_the_file_says_the_same(hf):
    text = TextConfig(96, 64, 48, 2, 4, 2, 1e-6, 1e4, (2, 2, 4), True, 512)
    vision = VisionConfig(2, 32, num_heads=2, out_hidden_size=64, fullatt_block_indexes=(1,))
    assert QwenConfig.from_hf(hf) == QwenConfig(text, vision)
    assert QwenConfig.from_hf(QwenConfig.from_hf(hf).to_hf()) == QwenConfig(text, vision)


def test_what_the_file_leaves_out_is_transformers_default():
    """The released 3B file relies on it. Its vision class has 4 positions a second, not the 2 of the released files."""
    from transformers import Qwen2_5_VLConfig

    theirs, ours = Qwen2_5_VLConfig().vision_config, QwenConfig.from_hf({}).vision
    for name, value in vars(ours).items():
        if "hidden_size" not in name:  # every file gives the two
            assert value == (tuple(v) if isinstance(v := getattr(theirs, name), list) else v), name


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rope_scaling": {"type": "yarn", "factor": 4.0}}, "config.json: rope type 'yarn' is not one of default, mrope"),
        ({"rope_scaling": {"rope_type": "mropes"}}, "rope type 'mropes' .*did you mean 'mrope'"),
        ({"text_config": {"rope_parameters": {"rope_type": "dynamic"}}}, "config.json: rope type 'dynamic'"),
        (
            {"rope_scaling": {"type": "mrope", "mrope_section": [4, 4]}},
            r"mrope_section \(4, 4\): expected three numbers, half the head size 16",
        ),
        ({"rope_scaling": {"type": "mrope", "mrope_section": [4, 4, 4]}}, r"mrope_section \(4, 4, 4\): .*16"),
        ({"hidden_act": "gelu"}, "config.json: hidden_act 'gelu' is not supported, expected 'silu'"),
        ({"use_sliding_window": True}, "config.json: use_sliding_window True"),
        ({"mrope": "spacial"}, "mrope 'spacial' .*did you mean 'spatial'"),
        ({"num_key_value_heads": 3}, "num_attention_heads 4 is not a multiple of num_key_value_heads 3"),
    ],
)
def test_what_is_not_supported_is_one_line(change, message):
    with pytest.raises(UserError, match=message) as error:
        QwenConfig.from_hf({**TEXT, **OLD_ROPE, **change})
    assert "\n" not in str(error.value)
