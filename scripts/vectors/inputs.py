"""Positions, sizes, frames and patches, against transformers."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from scripts.vectors.common import Cases, difference, group
from sv_jax.errors import UserError
from sv_jax.inputs.processor import TEMPORAL, pad_frames, qwen_patches, resize, smart_resize
from sv_jax.inputs.video import sample_frames, sampled_fps
from sv_jax.models.qwen2_5_vl.config import QwenConfig, VisionConfig
from sv_jax.models.qwen2_5_vl.mrope import position_ids


def mrope_rule(version: str) -> tuple[str, bool]:
    """The rule of a transformers release ("v4.50.3") for text after a video, and whether it cut seconds per grid to whole ones."""
    major, minor = (int(n) for n in version.removeprefix("v").split(".")[:2])
    return "spatial" if (major, minor) >= (5, 3) else "max", (4, 52) <= (major, minor) < (5, 23)


def rope_index(folder: Path) -> Cases:
    arrays = np.load(folder / "rope_index.npz")
    inputs = {name.removeprefix("in/"): case for name, case in group(arrays, 2).items() if name.startswith("in/")}
    for name, case in group(arrays, 2).items():
        version, _, which = name.partition("/")
        if version != "in":
            yield name, partial(rope_index_case, inputs[which], case["position_ids"], *mrope_rule(version))


def rope_index_case(case: dict, want: np.ndarray, rule: str, whole_seconds: bool) -> float:
    start, image, video = 90, 91, 92  # the ids of the format
    vision = VisionConfig(tokens_per_second=int(case["tokens_per_second"]))
    cfg = QwenConfig(image_token_id=image, video_token_id=video, vision_start_token_id=start, vision=vision, mrope=rule)
    seconds = np.trunc(case["second_per_grid_ts"]) if whole_seconds else case["second_per_grid_ts"]
    images, videos, seconds = (iter(a.tolist()) for a in (case["image_grid_thw"], case["video_grid_thw"], seconds))
    got = np.zeros_like(want)
    for row, (tokens, mask) in enumerate(zip(case["input_ids"], case["attention_mask"].astype(bool), strict=True)):
        tokens = tokens[mask]
        kinds = tokens[np.flatnonzero(tokens == start) + 1]
        grids = [tuple(next(images if kind == image else videos)) for kind in kinds]
        times = [None if kind == image else next(seconds) for kind in kinds]
        got[:, row, mask] = position_ids(tokens, grids, times, cfg)
    return difference(got, want)


def smart_resize_sizes(folder: Path) -> Cases:
    for case in json.loads((folder / "smart_resize.json").read_text()):
        limits = {key: case[key] for key in ("factor", "min_pixels", "max_pixels")}
        call = partial(smart_resize, case["height"], case["width"], **limits)
        yield f"{case['height']}x{case['width']} {case['limits']}", partial(same_or_refused, call, case["transformers"])


def same_or_refused(call: Callable, want: list | str) -> float:
    """`want` is what the library answers, or the class name of its error: then ours must refuse too."""
    if not isinstance(want, str):
        return difference(call(), want)
    try:
        call()
    except UserError:
        return 0.0
    raise ValueError(f"accepted, expected an error ({want})")


def frame_sampling(folder: Path) -> Cases:
    for case in json.loads((folder / "frame_sampling.json").read_text()):
        asked = {key: case[key] for key in ("fps", "num_frames", "min_frames", "max_frames") if key in case}
        yield f"{case['total_num_frames']} at {case['video_fps']} {asked}", partial(frame_sampling_case, case, asked)


def frame_sampling_case(case: dict, asked: dict) -> float:
    total, rate, want = case["total_num_frames"], case["video_fps"], case["transformers"]
    call = partial(sample_frames, total, rate, **asked)
    if isinstance(want, str):
        return same_or_refused(call, want)
    # transformers asks for frame `total`, which does not exist, when its float step falls short: we leave that one out
    frames = [i for i in want if i < total]
    error = difference(call(), frames)
    if frames == want:
        fps = sampled_fps(len(frames), total, rate)
        error = max(error, abs(fps - case["sampled_fps"]), abs(TEMPORAL / fps - case["second_per_grid_ts"]))
    return error


def patches(folder: Path) -> Cases:
    arrays = np.load(folder / "patches.npz")
    for name in (key.removesuffix("_patches") for key in arrays if key.endswith("_patches")):
        yield name, partial(patches_case, arrays[name], arrays[f"{name}_patches"], arrays[f"{name}_grid_thw"][0])
    yield "resized_pil", lambda: difference(resize(arrays["to_resize"][None], *arrays["resized_pil"].shape[:2])[0], arrays["resized_pil"])


def patches_case(frames: np.ndarray, want: np.ndarray, grid: np.ndarray) -> float:
    got, got_grid = qwen_patches(pad_frames(frames if frames.ndim == 4 else frames[None]))
    return max(difference(got_grid, grid), difference(got, want))
