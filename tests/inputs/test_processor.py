"""Resizing and patches against transformers: recorded vectors, and its PIL image processor at work."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from transformers import Qwen2VLImageProcessorPil

from sv_jax.errors import UserError
from sv_jax.inputs.processor import IMAGENET_MEAN, IMAGENET_STD, dino_patches, pad_frames, qwen_patches, resize, smart_resize

DATA = Path(__file__).parents[1] / "data"
VECTORS = np.load(DATA / "patches.npz")
RELEASED = {"min_pixels": 3136, "max_pixels": 12845056}


def test_smart_resize_equals_transformers():
    for case in json.loads((DATA / "smart_resize.json").read_text()):
        limits = {k: case[k] for k in ("factor", "min_pixels", "max_pixels")}
        if case["transformers"] == "ValueError":
            with pytest.raises(UserError, match="200-fold"):
                smart_resize(case["height"], case["width"], **limits)
        else:
            assert list(smart_resize(case["height"], case["width"], **limits)) == case["transformers"], case


def test_recorded_patches_of_an_image_and_of_an_odd_video():
    for name, frames in (("image", VECTORS["image"][None]), ("video", VECTORS["video"])):
        patches, grid = qwen_patches(pad_frames(frames))
        assert grid == tuple(VECTORS[f"{name}_grid_thw"][0])
        np.testing.assert_allclose(patches, VECTORS[f"{name}_patches"], atol=1e-6)


def test_recorded_resize():
    np.testing.assert_array_equal(resize(VECTORS["to_resize"][None], 56, 84)[0], VECTORS["resized_pil"])


@pytest.mark.parametrize(("height", "width"), [(112, 112), (90, 101), (60, 300), (29, 43)])
def test_image_patches_equal_transformers_exactly(height, width):
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    expected = Qwen2VLImageProcessorPil(**RELEASED)(image, return_tensors="np")
    resized = resize(image[None], *smart_resize(height, width, **RELEASED))
    patches, grid = qwen_patches(pad_frames(resized))
    np.testing.assert_array_equal(grid, expected["image_grid_thw"][0])
    np.testing.assert_array_equal(patches, expected["pixel_values"])


@pytest.mark.parametrize(("count", "height", "width"), [(2, 28, 56), (4, 84, 56)])
def test_dino_patches_are_the_frames_resized_by_16_over_14(count, height, width):
    import torch

    frames = np.random.default_rng(1).integers(0, 256, (count, height, width, 3), dtype=np.uint8)
    x = torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 255
    h, w = height // 14, width // 14
    x = torch.nn.functional.interpolate(x, size=(16 * h, 16 * w), mode="bilinear", align_corners=False)
    x = ((x - torch.tensor(IMAGENET_MEAN)[:, None, None]) / torch.tensor(IMAGENET_STD)[:, None, None]).numpy()
    got = dino_patches(frames)
    _, (t, _, _) = qwen_patches(frames)
    assert got.shape == (2, t * h * w, 768)
    order = [(s, 2 * i + a, 2 * j + b) for s in range(t) for i in range(h // 2) for j in range(w // 2) for a in (0, 1) for b in (0, 1)]
    for p, (s, row, col) in enumerate(order):
        for frame in (0, 1):
            expected = x[2 * s + frame, :, 16 * row : 16 * row + 16, 16 * col : 16 * col + 16].ravel()
            np.testing.assert_allclose(got[frame, p], expected, atol=2e-6)
