"""The work that is timed, a function per case: the same shapes as the peer of that name in `scripts/peers`, with random weights."""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from sv_jax.errors import UserError, unknown
from sv_jax.inputs.layout import VisionBuckets, vision_layout
from sv_jax.inputs.packing import Sample, pack_prompts
from sv_jax.models.batch import Vision
from sv_jax.models.dinov3.config import DINOv3Config
from sv_jax.models.dinov3.modeling import DINOv3
from sv_jax.models.layers import one_by_one
from sv_jax.models.qwen2_5_vl.config import QwenConfig
from sv_jax.models.qwen2_5_vl.mrope import position_ids
from sv_jax.models.qwen2_5_vl.vision import VisionTower
from sv_jax.models.spacevista.config import SpaceVistaConfig
from sv_jax.models.spacevista.model import SpaceVista, forward, logits

PEERS = Path(__file__).parents[2] / "scripts" / "peers"
DTYPES = {"fp32": jnp.float32, "bf16": jnp.bfloat16}
WARMUP, REPEAT = 2, 7


class Work(NamedTuple):
    """`call` does the work once and returns its result; a call handles `tokens` tokens or patches (`unit`)."""

    call: Callable[[], jax.Array]
    tokens: int
    unit: str


def forward_video(spec: dict, dtype) -> Work:
    """Logits of every position of rows of a video and text."""
    cfg = QwenConfig.from_hf(spec["qwen"])
    model = _random(lambda rngs: SpaceVista(SpaceVistaConfig(cfg), rngs), dtype)
    prompts = [_prompt(spec, cfg, row) for row in range(spec["work"]["batch"])]
    length = len(prompts[0].tokens)
    batch = jax.device_put(pack_prompts(prompts, length, cfg.vision)[0])
    run = jax.jit(lambda model, batch: logits(model, forward(model, batch, dtype)[0]))
    return Work(lambda: run(model, batch), len(prompts) * length, "tokens")


def vision(spec: dict, dtype) -> Work:
    """The vision tower and its merger on a batch of videos."""
    cfg = QwenConfig.from_hf(spec["qwen"])
    tower = _random(lambda rngs: VisionTower(cfg.vision, rngs), dtype)
    prompts = [_prompt(spec, cfg, row) for row in range(spec["work"]["batch"])]
    inputs = jax.device_put(pack_prompts(prompts, len(prompts[0].tokens), cfg.vision)[0].vision)
    run = jax.jit(lambda tower, inputs: tower(inputs, dtype))
    return Work(lambda: run(tower, inputs), len(inputs.patches), "patches")


def dinov3(spec: dict, dtype) -> Work:
    """Dense features of a batch of frames, of which two make a temporal slice."""
    frames, height, width = spec["work"]["dinov3_images"]
    tower = _random(lambda rngs: DINOv3(DINOv3Config.from_hf(spec["dinov3"]), rngs), dtype)
    size = tower.cfg.patch_size
    grid = (frames // 2, height // size, width // size)
    count = grid[0] * grid[1] * grid[2]
    exact = VisionBuckets(patches=(count,), slice_patches=(grid[1] * grid[2],))
    layout = vision_layout([grid], QwenConfig.from_hf(spec["qwen"]).vision, exact)
    pixels = jax.random.normal(jax.random.key(1), (2, len(layout.hw), tower.cfg.num_channels * size**2), dtype)
    inputs = jax.device_put(Vision(None, pixels, *layout))
    run = jax.jit(lambda tower, v: tower(v.dino_patches, v.hw, v.grid, v.slices, v.slice_slot))
    return Work(lambda: run(tower, inputs), 2 * count, "patches")


CASES = {"forward_video": forward_video, "vision": vision, "dinov3": dinov3}
SUITES = {"models": tuple(CASES)}


def sizes(name: str) -> dict:
    """A size of `scripts/peers/configs.json`: the configs of the models and the shapes of the work."""
    file = PEERS / "configs.json"
    if not file.is_file():
        raise UserError(f"bench races the peers of a checkout of the repository: {file} does not exist")
    specs = json.loads(file.read_text())
    if name not in specs:
        raise unknown("--config", name, specs)
    return specs[name]


def run_case(case: str, config: str, dtype: str, serve: bool = False) -> None:
    """Warm up and print a JSON line of the time of a call; with `serve`, one for each line on stdin."""
    began = time.perf_counter()
    work = CASES[case](sizes(config), DTYPES[dtype])
    for _ in range(WARMUP):
        jax.block_until_ready(work.call())
    warm = time.perf_counter() - began

    def timed() -> float:
        began = time.perf_counter()
        jax.block_until_ready(work.call())
        return time.perf_counter() - began

    def line(times: list[float]) -> None:
        middle = statistics.median(times)
        out = {
            "case": case, "config": config, "dtype": dtype, "ours": f"jax {jax.__version__}", "device": jax.devices()[0].device_kind,
            "seconds_per_call": middle, "seconds_min": min(times), "seconds_max": max(times), "calls": len(times),
            "tokens_per_s": work.tokens / middle, "tokens_per_call": work.tokens, "unit": work.unit, "warmup_seconds": round(warm, 2),
        }  # fmt: skip
        print(json.dumps(out), flush=True)

    if not serve:
        line([timed() for _ in range(REPEAT)])
        return
    print(json.dumps({"ready": True, "case": case}), flush=True)
    for _ in sys.stdin:
        line([timed()])


def _random(make: Callable[[nnx.Rngs], nnx.Module], dtype) -> nnx.Module:
    """A model of random weights in `dtype`, made in one program."""
    return one_by_one(jax.jit(lambda: jax.tree.map(lambda x: x.astype(dtype), make(nnx.Rngs(0))))())


def _prompt(spec: dict, cfg: QwenConfig, seed: int) -> Sample:
    """A row [vision start, vision tokens, vision end, text] of random text and pixels."""
    rng, work, tower = np.random.default_rng(seed), spec["work"], cfg.vision
    frames, height, width = work["video"]
    grid = (frames // tower.temporal_patch_size, height // tower.patch_size, width // tower.patch_size)
    count = grid[0] * grid[1] * grid[2]
    placeholders = np.full(count // tower.spatial_merge_size**2, cfg.video_token_id)
    text = rng.integers(10, cfg.text.vocab_size, work["text_tokens"])
    tokens = np.concatenate([[cfg.vision_start_token_id], placeholders, [cfg.vision_end_token_id], text]).astype(np.int32)
    return Sample(
        tokens=tokens,
        positions=position_ids(tokens, [grid], [1.0], cfg),
        is_vision=tokens == cfg.video_token_id,
        weights=np.zeros(len(tokens), np.float32),
        grids=(grid,),
        patches=(rng.standard_normal((count, tower.patch_dim), np.float32),),
        dino_patches=None,
        scale=0,
    )
