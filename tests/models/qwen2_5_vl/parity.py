"""Tiny Qwen2.5-VL models of every structural variant, in transformers and here, and how far apart they are.

Shared by the parity tests and by `scripts/parity_table.py`.
"""

from __future__ import annotations

import copy
import functools
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from sv_jax.inputs.layout import VisionBuckets
from sv_jax.inputs.packing import pack
from sv_jax.models.spacevista.model import forward, logits
from sv_jax.weights.load import load_model
from tests.parity import Error, error, randomise
from tests.weights.conftest import IMAGE, VIDEO, VISION_END, VISION_START, Prompt, make_prompt

HEAD, SECTION = 16, (2, 3, 3)  # a head of 128 with its sections 16, 24, 24, an eighth of it
LENGTH, BUCKETS = 256, VisionBuckets((512,), (48,), (16,), (64,))  # one shape for all prompts: a model is compiled once


def sizes(heads: int, kv_heads: int, *, tied: bool = False, mlp: int = 96, **vision) -> dict:
    text = dict(
        vocab_size=96, hidden_size=heads * HEAD, intermediate_size=mlp, num_hidden_layers=2, num_attention_heads=heads,
        num_key_value_heads=kv_heads, rms_norm_eps=1e-6, max_position_embeddings=8192, bos_token_id=2, eos_token_id=1, pad_token_id=0,
        rope_parameters={"rope_type": "default", "mrope_section": list(SECTION), "rope_theta": 1e6},
    )  # fmt: skip
    vision = dict(
        depth=3, hidden_size=40, intermediate_size=50, num_heads=2, out_hidden_size=heads * HEAD, fullatt_block_indexes=[1],
        window_size=112, tokens_per_second=2,
    ) | vision  # fmt: skip
    return {"text_config": text, "vision_config": vision, "tie_word_embeddings": tied}


VARIANTS = {  # the released sizes have 16/2, 28/4, 40/8 and 64/8 heads
    "3B": sizes(16, 2, tied=True),
    "7B": sizes(28, 4),
    "32B": sizes(40, 8, intermediate_size=54),
    "72B": sizes(64, 8, intermediate_size=54),
    "small": sizes(4, 2),
    "small, one KV head, tied, full attention only": sizes(4, 1, tied=True, fullatt_block_indexes=[0, 1, 2]),
    "small, a KV head a head, windows only": sizes(4, 4, fullatt_block_indexes=[]),
}
MIXED = (("image", 1, 28, 140), ("video", 6, 84, 56), ("image", 1, 140, 84), ("video", 2, 56, 56, 1.0))


class Pair(NamedTuple):
    ours: object
    theirs: object


@functools.cache
def pair(name: str) -> Pair:
    """The same random weights on both sides; positions by transformers' rule."""
    import torch
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    ids = dict(image_token_id=IMAGE, video_token_id=VIDEO, vision_start_token_id=VISION_START, vision_end_token_id=VISION_END)
    theirs = Qwen2_5_VLForConditionalGeneration(Qwen2_5_VLConfig(**VARIANTS[name], **ids)).eval()
    randomise(theirs)
    with tempfile.TemporaryDirectory() as folder:
        theirs.save_pretrained(folder)
        config = Path(folder) / "config.json"
        config.write_text(json.dumps(json.loads(config.read_text()) | {"mrope": "spatial"}))
        ours = load_model(folder)
    assert all(p.dtype == torch.float32 for p in theirs.parameters())
    return Pair(ours, theirs)


def prompt(name: str, media: Sequence[tuple] = MIXED, **options) -> Prompt:
    return make_prompt(pair(name).ours.cfg, media, **options)


@functools.partial(jax.jit, static_argnums=2, compiler_options={"xla_backend_optimization_level": 0})
def _logits(model, batch, dtype):
    return logits(model, forward(model, batch, jnp.dtype(dtype))[0])


def our_logits(model, prompts: Sequence[Prompt], dtype: str = "float32", length: int = LENGTH, buckets: VisionBuckets = BUCKETS):
    """f32 [T, V] of each prompt, all of them in one packed row."""
    batch = pack([p.sample for p in prompts], 1, length, model.cfg.qwen.vision, buckets)
    out = np.asarray(_logits(model, batch, dtype))[0]
    return [out[batch.segments[0] == i + 1] for i in range(len(prompts))]


def their_logits(model, prompts: Sequence[Prompt], side: str = "right"):
    """f32 [T, V] of each prompt, in one batch padded on one side."""
    import torch

    longest = max(len(p.sample.tokens) for p in prompts)
    batch: dict[str, list] = {}
    for p in prompts:
        for key, value in p.torch_inputs.items():
            if value.shape == p.torch_inputs["input_ids"].shape:
                room = longest - value.shape[1]
                value = torch.nn.functional.pad(value, (room, 0) if side == "left" else (0, room))
            batch.setdefault(key, []).append(value)
    with torch.no_grad():
        out = model(**{key: torch.cat(values) for key, values in batch.items()}).logits.float().numpy()
    lengths = [len(p.sample.tokens) for p in prompts]
    return [row[longest - n :] if side == "left" else row[:n] for row, n in zip(out, lengths, strict=True)]


@functools.cache
def errors(name: str) -> dict[str, Error]:
    """Of the logits of a mixed prompt against transformers in f32: ours in both dtypes, and transformers' own in bf16."""
    model, mixed = pair(name), prompt(name)
    (want,) = their_logits(model.theirs, [mixed])
    assert np.abs(want).max() > 2
    out = {dtype: error(our_logits(model.ours, [mixed], dtype)[0], want) for dtype in ("float32", "bfloat16")}
    return out | {"transformers bfloat16": error(their_logits(copy.deepcopy(model.theirs).bfloat16(), [mixed])[0], want)}
