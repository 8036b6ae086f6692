"""A tiny dataset and tiny model folders, and configs that give every test of training the same few shapes."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from sv_jax.data.batches import DataConfig, ShapeConfig
from sv_jax.data.build import BuildConfig, SplitConfig, build
from sv_jax.data.read import open_split
from sv_jax.inputs.tokenizer import train_tokenizer
from sv_jax.models.dinov3.config import DINOv3Config
from sv_jax.models.qwen2_5_vl.config import QwenConfig, TextConfig, VisionConfig
from sv_jax.models.spacevista.config import ExpertsConfig, FusionConfig, SpaceVistaConfig
from sv_jax.models.spacevista.model import SpaceVista
from sv_jax.train.grpo import GRPOConfig
from sv_jax.train.sft import SFTConfig
from sv_jax.train.state import OptimConfig
from sv_jax.weights import load_model, save_model
from sv_jax.weights.load import abstract_model

VOCAB, WIDTH = 320, 32
TEXT = TextConfig(
    vocab_size=VOCAB, hidden_size=WIDTH, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
    rope_theta=100.0, mrope_section=(1, 1, 2), tie_word_embeddings=True,
)  # fmt: skip
VISION = VisionConfig(
    depth=2, hidden_size=32, intermediate_size=48, num_heads=4, tokens_per_second=2, window_size=56, out_hidden_size=WIDTH,
    fullatt_block_indexes=(1,),
)  # fmt: skip
DINO = DINOv3Config(hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2)
FUSION = FusionConfig(merger_hidden_size=48, num_heads=4)
EXPERTS = ExpertsConfig(num_experts=4, rank=4, alpha=8.0, router="layer", router_hidden_size=8)
TASKS = ("counting", "depth", "position_comparison")


@dataclass(frozen=True)
class Tiny:
    """Folders of a session."""

    data: str
    qwen: str  # a plain Qwen2.5-VL, tied head
    spacevista: str  # the same with DINOv3, fusion, four experts and the layer router; no weight is zero


@pytest.fixture(scope="session")
def tiny(tmp_path_factory) -> Tiny:
    root = tmp_path_factory.mktemp("tiny")
    splits = (SplitConfig("train", 2, 0, "plain"),)
    build(BuildConfig(str(root / "data"), splits, tasks=TASKS, questions=3, frames=2, size=(56, 56)))
    cfg = SpaceVistaConfig(make_tokenizer(root / "data", root / "words"))
    save_model(random_model(cfg), root / "qwen", source=root / "words")
    cfg = dataclasses.replace(cfg, dino=DINO, fusion=FUSION, experts=EXPERTS)
    save_model(random_model(cfg), root / "spacevista", source=root / "words")
    return Tiny(*(str(root / name) for name in ("data", "qwen", "spacevista")))


def make_tokenizer(data: Path, out: Path) -> QwenConfig:
    """Train a tokenizer on a dataset's words; returns the config with its ids."""
    from transformers import AutoTokenizer

    samples = open_split(data, "train")
    qas = [samples.qa(i) for i in range(len(samples))]
    train_tokenizer([text for qa in qas for text in (qa.user_text(), qa.target_text())], out, VOCAB)
    (out / "config.json").write_text("{}")
    ids = AutoTokenizer.from_pretrained(out).convert_tokens_to_ids
    names = {"image": "image_pad", "video": "video_pad", "vision_start": "vision_start", "vision_end": "vision_end", "vision": "vision_pad"}
    return QwenConfig(TEXT, VISION, **{f"{field}_token_id": ids(f"<|{token}|>") for field, token in names.items()})


def random_model(cfg: SpaceVistaConfig, seed: int = 0) -> SpaceVista:
    """A model of which no weight is zero (a branch that adds nothing cannot be tested), drawn by numpy: nothing is compiled."""
    rng = np.random.default_rng(seed)
    graph, leaves = abstract_model(cfg)

    def draw(path: str, shape: tuple[int, ...]) -> jax.Array:
        width = shape[-2] ** -0.5 if path.endswith("kernel") else 0.1
        return jnp.asarray(path.endswith("scale") + width * rng.standard_normal(shape), jnp.float32)

    return nnx.merge(graph, nnx.from_flat_state([(tuple(p.split(".")), leaf.replace(draw(p, leaf.shape))) for p, leaf in leaves.items()]))


def sft_config(tiny: Tiny, run, **changes) -> SFTConfig:
    """The fused model with experts; text and fusion are trained."""
    cfg = SFTConfig(
        tiny.spacevista, str(run), DataConfig(tiny.data), parts=("text", "fusion"), steps=6,
        shape=ShapeConfig(rows=8, length=256, patches=512, slice_patches=16),
        optim=OptimConfig(learning_rate=3e-3, weight_decay=0.01), log_every=1, save_every=2,
    )  # fmt: skip
    return dataclasses.replace(cfg, **changes)


def grpo_config(tiny: Tiny, run, **changes) -> GRPOConfig:
    """The fused model, eight prompts with four completions of eight tokens."""
    cfg = GRPOConfig(
        tiny.spacevista, str(run), DataConfig(tiny.data), steps=8, shape=ShapeConfig(rows=8, length=128, patches=256, slice_patches=16),
        parts=("text", "experts", "router"), group=4, max_new_tokens=8, optim=OptimConfig(learning_rate=3e-2), save_every=4,
    )  # fmt: skip
    return dataclasses.replace(cfg, **changes)


def leaves_of(folder) -> dict[str, np.ndarray]:
    """The parameters of a model folder by path."""
    return jax.device_get(by_path(nnx.state(load_model(folder))))


def by_path(state: nnx.State) -> dict[str, jax.Array]:
    return {".".join(map(str, path)): leaf[...] for path, leaf in nnx.to_flat_state(state)}
