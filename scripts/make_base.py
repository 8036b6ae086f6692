"""Make the folder that the demo's base model is trained from: a small tokenizer and a randomly initialised Qwen2.5-VL.

    python scripts/make_base.py --data data/base --out runs/base/init

The tokenizer learns the words of the tasks from the texts of `--data` and of a few scenes of its own; the sizes are below.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from flax import nnx

from sv_jax.data.read import open_split
from sv_jax.inputs.tokenizer import train_tokenizer
from sv_jax.models.qwen2_5_vl.config import QwenConfig, TextConfig, VisionConfig
from sv_jax.models.spacevista.config import SCALES, SpaceVistaConfig
from sv_jax.models.spacevista.model import SpaceVista
from sv_jax.scenes import generate_many
from sv_jax.tasks import ask
from sv_jax.weights import save_model

VOCAB, WIDTH = 640, 192
TASKS = ("object_size", "absolute_distance", "counting", "position_comparison", "size_comparison", "depth")  # those of the demo
MAX_PIXELS = 128 * 128  # of a frame: the base learns from 112x112


def config(tokenizer) -> SpaceVistaConfig:
    ids = tokenizer.convert_tokens_to_ids
    text = TextConfig(
        vocab_size=VOCAB, hidden_size=WIDTH, intermediate_size=512, num_hidden_layers=4, num_attention_heads=6, num_key_value_heads=2,
        rope_theta=100.0, mrope_section=(1, 3, 12), tie_word_embeddings=True, max_position_embeddings=4096,
    )  # fmt: skip
    vision = VisionConfig(
        depth=4, hidden_size=192, intermediate_size=384, num_heads=6, tokens_per_second=2, window_size=56, out_hidden_size=WIDTH,
        fullatt_block_indexes=(1, 3),
    )  # fmt: skip
    names = {"image": "<|image_pad|>", "video": "<|video_pad|>", "vision_start": "<|vision_start|>", "vision_end": "<|vision_end|>"}
    return SpaceVistaConfig(
        QwenConfig(text, vision, **{f"{k}_token_id": ids(v) for k, v in names.items()}, vision_token_id=ids("<|vision_pad|>"))
    )


def texts(data: str) -> list[str]:
    """What the base reads and says, and what the tasks ask and answer on scenes that nothing else uses."""
    samples = open_split(data, "train")
    qas = [samples.qa(i) for i in range(0, len(samples), max(len(samples) // 500, 1))]
    specs = [(scale, 90_000_000 + i) for scale in SCALES for i in range(24)]
    for scene in generate_many(specs, kind="plain", frames=1, size=(112, 112)):
        qas += ask(scene, np.random.default_rng(0), 12, TASKS)
    return [text for qa in qas for text in (qa.user_text(), qa.target_text(), "You are a helpful assistant.\nsystem\nuser\nassistant\n")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="the base's dataset folder")
    parser.add_argument("--out", required=True, help="the model folder to make")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    from transformers import AutoTokenizer

    words = Path(args.out).with_name(f"{Path(args.out).name}-tokenizer")
    words.mkdir(parents=True, exist_ok=True)
    train_tokenizer(texts(args.data), words, VOCAB)
    cfg = config(AutoTokenizer.from_pretrained(words))
    (words / "config.json").write_text("{}")
    settings = words / "preprocessor_config.json"
    settings.write_text(json.dumps(json.loads(settings.read_text()) | {"max_pixels": MAX_PIXELS}, indent=2) + "\n")
    save_model(SpaceVista(cfg, nnx.Rngs(args.seed)), args.out, source=words)


if __name__ == "__main__":
    main()
