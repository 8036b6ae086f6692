"""Tiny Hugging Face folders with random weights (zeros included: a term that is zero cannot be tested), and prompts for both sides."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from sv_jax.inputs.media import prepare
from sv_jax.inputs.packing import Sample, pack_prompts
from sv_jax.inputs.processor import IMAGENET_MEAN, IMAGENET_STD, dino_patches, letterbox, qwen_patches
from sv_jax.models.qwen2_5_vl.mrope import position_ids
from sv_jax.models.spacevista.config import SCALES, ExpertsConfig, FusionConfig, SpaceVistaConfig
from sv_jax.models.spacevista.model import forward, logits
from sv_jax.weights.load import init_model, load_model, save_model

VISION_START, IMAGE, VIDEO, VISION_END, TEXT_IDS = 90, 91, 92, 93, 80
EXPERTS = ExpertsConfig(num_experts=4, rank=4, alpha=6.0, router="layer", router_hidden_size=6, temperature=0.7)


def randomise(module, seed: int) -> None:
    import torch

    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in module.named_parameters():
            centre = 1.0 if name.endswith("norm.weight") or ".norm" in name and p.ndim == 1 and "weight" in name else 0.0
            p.copy_(centre + 0.2 * torch.randn(p.shape, generator=generator))


def save_qwen(folder: Path, *, tied: bool = False, dtype: str = "float32", seed: int = 0, sizes=None, vision_sizes=None, **save) -> Path:
    import torch
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    text = dict(
        vocab_size=96, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        eos_token_id=1, bos_token_id=2, pad_token_id=0, max_position_embeddings=512, rms_norm_eps=1e-6,
        rope_parameters={"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 1e4},
    ) | (sizes or {})  # fmt: skip
    vision = dict(
        depth=2, hidden_size=32, intermediate_size=24, num_heads=2, out_hidden_size=32, fullatt_block_indexes=[1], window_size=56,
        tokens_per_second=2,
    ) | (vision_sizes or {})  # fmt: skip
    ids = dict(image_token_id=IMAGE, video_token_id=VIDEO, vision_start_token_id=VISION_START, vision_end_token_id=VISION_END)
    model = Qwen2_5_VLForConditionalGeneration(Qwen2_5_VLConfig(text_config=text, vision_config=vision, tie_word_embeddings=tied, **ids))
    randomise(model, seed)
    model.to(getattr(torch, dtype)).save_pretrained(folder, **save)
    return folder


def save_dino(folder: Path, *, gated: bool = False, seed: int = 1) -> Path:
    from transformers import DINOv3ViTConfig, DINOv3ViTModel

    config = DINOv3ViTConfig(
        hidden_size=24, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, num_register_tokens=4, use_gated_mlp=gated,
        hidden_act="silu" if gated else "gelu", query_bias=not gated, value_bias=not gated,
    )  # fmt: skip
    model = DINOv3ViTModel(config)
    randomise(model, seed)
    model.save_pretrained(folder)
    return folder


def fill_zeros(model, seed: int = 2) -> None:
    """Random values where our initialisation puts zeros or ones."""
    rng = np.random.default_rng(seed)
    for _, leaf in nnx.to_flat_state(nnx.state(model)):
        value = np.asarray(leaf[...])
        if np.ptp(value) == 0:
            leaf[...] = jnp.asarray(value + 0.2 * rng.standard_normal(value.shape), value.dtype)


@pytest.fixture(scope="session")
def qwen_folder(tmp_path_factory) -> Path:
    return save_qwen(tmp_path_factory.mktemp("qwen"))


@pytest.fixture(scope="session")
def dino_folder(tmp_path_factory) -> Path:
    return save_dino(tmp_path_factory.mktemp("dino"))


@pytest.fixture(scope="session")
def spacevista_folder(tmp_path_factory, qwen_folder, dino_folder) -> Path:
    """Video, fusion of two blocks, four experts and the layer router, every weight random."""
    folder = tmp_path_factory.mktemp("spacevista")
    init_model(qwen_folder, dino_folder, FusionConfig(merger_hidden_size=20, num_heads=4, num_blocks=2), EXPERTS, folder / "new", seed=3)
    model = load_model(folder / "new")
    fill_zeros(model)
    save_model(model, folder / "model", source=folder / "new")
    return folder / "model"


@dataclass(frozen=True)
class Prompt:
    sample: Sample
    torch_inputs: dict  # what the processor hands to transformers

    def batch(self, cfg: SpaceVistaConfig):
        return pack_prompts([self.sample], len(self.sample.tokens), cfg.qwen.vision)[0]


def make_prompt(
    cfg: SpaceVistaConfig, media=(("image", 1, 56, 84), ("video", 4, 84, 56)), scale: str = "indoor", seed: int = 5, words: int = 3
) -> Prompt:
    """Random text around random images and videos, media = (kind, frames, height, width[, seconds per grid, by default 1.5])."""
    import torch

    rng = np.random.default_rng(seed)
    text = lambda n: rng.integers(3, TEXT_IDS, n).tolist()  # noqa: E731
    official = cfg.fusion is not None and cfg.fusion.align == "official"
    tokens, grids, patches, dino, seconds, squares = text(words + 1), [], [], [], [], []
    for kind, count, height, width, *rate in media:
        frames = rng.integers(0, 256, (max(count, 1), height, width, 3), np.uint8)
        frames = np.repeat(frames, 2, axis=0) if kind == "image" else frames
        if official:
            squares.append((letterbox(frames, 420) / 255 - IMAGENET_MEAN) / IMAGENET_STD)
            got = prepare({"type": "video", "video": frames}, (0, 10**9), True, "official")
            p, grid, d = got.patches, got.grid, got.dino_patches
        else:
            (p, grid), d = qwen_patches(frames), dino_patches(frames)
        patches.append(p)
        dino.append(d)
        grids.append(grid)
        seconds.append(None if kind == "image" else rate[0] if rate else 1.5)
        tokens += [VISION_START] + [IMAGE if kind == "image" else VIDEO] * (int(np.prod(grid)) // 4) + [VISION_END] + text(words)
    tokens = np.array(tokens, np.int32)
    is_vision = (tokens == IMAGE) | (tokens == VIDEO)
    positions = position_ids(tokens, grids, seconds, cfg.qwen)
    sample = Sample(
        tokens, positions, is_vision, np.ones(len(tokens), np.float32), tuple(grids), tuple(patches),
        tuple(dino) if cfg.dino else None, SCALES.index(scale),
    )  # fmt: skip
    inputs = {"input_ids": torch.tensor(tokens[None]).long(), "attention_mask": torch.ones(1, len(tokens)).long()}
    inputs["mm_token_type_ids"] = torch.tensor(np.where(tokens == IMAGE, 1, np.where(tokens == VIDEO, 2, 0))[None])
    for kind, pixels, grid_name in (("image", "pixel_values", "image_grid_thw"), ("video", "pixel_values_videos", "video_grid_thw")):
        if which := [i for i, m in enumerate(media) if m[0] == kind]:
            inputs[pixels] = torch.tensor(np.concatenate([patches[i] for i in which]))
            inputs[grid_name] = torch.tensor([grids[i] for i in which])
            if official:
                inputs[f"dino_{pixels}"] = torch.tensor(np.concatenate([squares[i] for i in which])).permute(0, 3, 1, 2).float()
    if any(s is not None for s in seconds):
        inputs["second_per_grid_ts"] = torch.tensor([s for s in seconds if s is not None])
    return Prompt(sample, inputs)


def our_logits(model, prompt: Prompt, asked: int | None = None) -> np.ndarray:
    """f32 [T, V] of the whole prompt; where the token `asked` is the last of the prompt, the rest is its completion."""
    batch = prompt.batch(model.cfg)
    if asked is not None:
        batch.weights[0, asked] = 1
    return np.asarray(_logits(model, batch))[0]


@functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})  # it runs once: compiling is what takes time
def _logits(model, batch):
    return logits(model, forward(model, batch)[0])


def torch_logits(model, prompt: Prompt, **extra) -> np.ndarray:
    import torch

    with torch.no_grad():
        return model.eval()(**prompt.torch_inputs, **extra).logits[0].float().numpy()
