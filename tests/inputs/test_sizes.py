"""Images and videos of 60 sizes against transformers' PIL image processor: tokens, grids and pixel values, exactly."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from transformers import Qwen2VLImageProcessorPil

from sv_jax.errors import UserError
from sv_jax.inputs.chat import encode, render
from sv_jax.inputs.processor import resize, smart_resize
from tests.inputs.test_chat import ask, text

DATA = Path(__file__).parents[1] / "data"
RECORDED, VECTORS = json.loads((DATA / "smart_resize.json").read_text()), np.load(DATA / "patches.npz")
IMAGES = sorted({(case["height"], case["width"]) for case in RECORDED})
VIDEOS = [tuple(np.random.default_rng(seed).integers((1, 10, 10), (6, 260, 260))) for seed in range(60)]  # frames, height, width
LIMITS = ((784, 12544), (3136, 50176))  # small, so that the test is fast: most sizes shrink, some grow


def noise(count: int, height: int, width: int) -> np.ndarray:
    """Random frames u8 [count, height, width, 3]; a large one repeats itself."""
    tile = np.random.default_rng(height + width).integers(0, 256, (count, 97, 101, 3), dtype=np.uint8)
    return tile[:, np.arange(height)[:, None] % 97, np.arange(width) % 101]


def theirs(image: np.ndarray, limits: tuple[int, int]) -> tuple[np.ndarray, tuple[int, int, int]]:
    out = Qwen2VLImageProcessorPil(min_pixels=limits[0], max_pixels=limits[1])(Image.fromarray(image), return_tensors="np")
    return out["pixel_values"], tuple(out["image_grid_thw"][0].tolist())


def check_tokens(processor, sample, messages, grid) -> None:
    """Tokens are those of the rendered text with each placeholder written out once per merged token."""
    words = render(processor.tokenizer, messages)
    for pad in ("<|image_pad|>", "<|video_pad|>"):
        words = words.replace(pad, pad * (np.prod(grid) // 4))
    assert processor.tokenizer(words, add_special_tokens=False)["input_ids"] == sample.tokens.tolist()


def test_images_of_60_sizes(processor):
    assert len(IMAGES) == 60
    refused = []
    for i, (height, width) in enumerate(IMAGES):
        image, limits = noise(1, height, width)[0], LIMITS[i % 2]
        processor = dataclasses.replace(processor, image_pixels=limits)
        messages = ask({"type": "image", "image": image}, text("How tall is it?"))
        try:
            want, grid = theirs(image, limits)
        except ValueError:  # too long and thin
            refused.append((height, width))
            with pytest.raises(UserError, match="image: "):
                encode(processor, messages)
            continue
        sample = encode(processor, messages)
        assert sample.grids == (grid,)
        np.testing.assert_array_equal(sample.patches[0], want, err_msg=f"{height} x {width}")
        check_tokens(processor, sample, messages, grid)
    assert refused == [(12, 3428), (512, 2)]


def test_videos_of_60_sizes(processor):
    """A video's patch holds the two frames of a slice side by side, each as in the patch of an image of it."""
    for count, height, width in VIDEOS:
        limits = LIMITS[count % 2]
        video = noise(count, height, width)
        messages = ask({"type": "video", "video": video, "fps": 2.0}, text("How tall is it?"))
        sample = encode(dataclasses.replace(processor, video_pixels=limits), messages)
        images = [theirs(frame, limits) for frame in [*video, *video[-1:]]][: count + count % 2]
        grid = (len(images) // 2, *images[0][1][1:])
        frames = [patches.reshape(-1, 3, 2, 14 * 14)[:, :, 0] for patches, _ in images]
        want = [np.stack(pair, axis=2) for pair in zip(frames[::2], frames[1::2], strict=True)]
        assert sample.grids == (grid,)
        np.testing.assert_array_equal(sample.patches[0], np.concatenate(want).reshape(-1, 1176), err_msg=f"{count} x {height} x {width}")
        check_tokens(processor, sample, messages, grid)


@pytest.mark.parametrize("size", [(97, 75), (120, 160), (240, 135), (50, 200)])
def test_transformers_own_resampling_of_videos_is_a_level_or_two_away(size):
    """It resizes videos with torchvision, whose bicubic of bytes is torch's: equal to the recorded one, and near PIL's."""
    import torch

    def torchvision(frames, *target):
        x = torch.from_numpy(frames).permute(0, 3, 1, 2).contiguous()
        y = torch.nn.functional.interpolate(x, target, mode="bicubic", antialias=True, align_corners=False)
        return y.permute(0, 2, 3, 1).numpy().astype(int)

    recorded = VECTORS["resized_torchvision"]
    np.testing.assert_array_equal(torchvision(VECTORS["to_resize"][None], *recorded.shape[:2])[0], recorded)
    frames = (0.6 * resize(noise(2, 30, 40), *size) + 50).astype(np.uint8)  # nothing overshoots 0 or 255, where the two clip otherwise
    target = smart_resize(*size, min_pixels=LIMITS[0][0], max_pixels=LIMITS[0][1])
    difference = np.abs(torchvision(frames, *target) - resize(frames, *target))
    assert 0 < difference.max() <= 2


def test_nothing_needs_torch(model_folder, processor, tmp_path):
    """The same arrays come out of a process in which torch cannot be imported."""
    code = """
import sys
sys.modules["torch"] = None  # importing it is an error from here on
import numpy as np
from sv_jax.inputs.chat import Processor, encode
folder, here = sys.argv[1:]
frames = np.load(here + "/frames.npy")
parts = [{"type": "image", "image": frames[0]}, {"type": "video", "video": frames, "fps": 2.0}, {"type": "text", "text": "Where?"}]
sample = encode(Processor.from_folder(folder), [{"role": "user", "content": parts}])
np.savez(here + "/sample.npz", *sample.patches, tokens=sample.tokens, positions=sample.positions)
"""
    frames = noise(3, 70, 100)
    np.save(tmp_path / "frames.npy", frames)
    subprocess.run([sys.executable, "-c", code, model_folder, tmp_path], check=True, timeout=300)
    parts = {"type": "image", "image": frames[0]}, {"type": "video", "video": frames, "fps": 2.0}, text("Where?")
    sample, there = encode(processor, ask(*parts)), np.load(tmp_path / "sample.npz")
    for name, value in {
        "tokens": sample.tokens,
        "positions": sample.positions,
        "arr_0": sample.patches[0],
        "arr_1": sample.patches[1],
    }.items():
        np.testing.assert_array_equal(there[name], value)
