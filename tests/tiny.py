"""A whole model in a tiny folder: tokenizer, processor settings, every part of SpaceVista, every weight random."""

from __future__ import annotations

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from sv_jax.inputs.tokenizer import train_tokenizer
from sv_jax.models.dinov3.config import DINOv3Config
from sv_jax.models.qwen2_5_vl.config import QwenConfig, TextConfig, VisionConfig
from sv_jax.models.spacevista.config import ExpertsConfig, FusionConfig, SpaceVistaConfig
from sv_jax.models.spacevista.model import SpaceVista
from sv_jax.weights import save_model

VOCAB = 300
TEXTS = ["How tall is the red mug in centimetres? It is 12.5 cm.", "<think>The blue box is left of it.</think><answer>A</answer>"] * 8
TOKENS = ("image_pad", "video_pad", "vision_start", "vision_end", "vision_pad")


def save_tiny(folder: Path) -> Path:
    """A SpaceVista model of two layers, with DINOv3, fusion and four experts; a frame of 16:9 becomes 56 x 84 pixels."""
    from transformers import AutoTokenizer

    words = folder / "tokenizer"
    train_tokenizer(TEXTS, words, VOCAB)
    settings = json.loads((words / "preprocessor_config.json").read_text())
    (words / "preprocessor_config.json").write_text(json.dumps(settings | {"min_pixels": 28 * 28, "max_pixels": 56 * 112}))
    tokenizer = AutoTokenizer.from_pretrained(words)
    stop = {"bos_token_id": None, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    (words / "config.json").write_text(json.dumps(stop))
    save_model(random_model(config(tokenizer)), folder / "model", source=words)
    return folder / "model"


def config(tokenizer) -> SpaceVistaConfig:
    image, video, start, end, pad = tokenizer.convert_tokens_to_ids([f"<|{name}|>" for name in TOKENS])
    return SpaceVistaConfig(
        QwenConfig(
            TextConfig(VOCAB, 32, 48, 2, 4, 2, mrope_section=(1, 1, 2), rope_theta=1000.0),
            VisionConfig(2, 16, 24, 2, out_hidden_size=32, fullatt_block_indexes=(1,), window_size=56, tokens_per_second=2),
            image_token_id=image,
            video_token_id=video,
            vision_start_token_id=start,
            vision_end_token_id=end,
            vision_token_id=pad,
        ),
        DINOv3Config(hidden_size=24, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2),
        FusionConfig(merger_hidden_size=20, num_heads=4),
        ExpertsConfig(num_experts=4, rank=4, alpha=6.0, router_hidden_size=6),
    )


def random_model(cfg: SpaceVistaConfig, seed: int = 0) -> SpaceVista:
    """Biases, norms and arrays that start at zero are random too: a term that is zero cannot be tested."""
    rng = np.random.default_rng(seed)
    graph, state = nnx.split(nnx.eval_shape(lambda: SpaceVista(cfg, nnx.Rngs(0))))

    def fill(path, leaf):
        spread = 0.7 * leaf.shape[-2] ** -0.5 if len(leaf.shape) > 1 else 0.2
        return jnp.asarray((path[-2].key == "scale") + spread * rng.normal(size=leaf.shape), jnp.float32)

    return nnx.merge(graph, jax.tree.map_with_path(fill, state))
