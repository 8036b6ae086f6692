from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from sv_jax.data import codec
from sv_jax.errors import UserError


def clip(seed: int = 0) -> np.ndarray:
    """u8 [4, 112, 112, 3]: blocks that move."""
    rng = np.random.default_rng(seed)
    frame = np.kron(rng.integers(0, 256, (14, 14, 3)), np.ones((8, 8, 1))).astype(np.uint8)
    return np.stack([np.roll(frame, 3 * i, axis=1) for i in range(4)])


def test_clip_comes_back_nearly_the_same():
    frames = clip()
    back = codec.decode_clip(codec.encode_clip(frames, 2.0))
    assert back.shape == frames.shape and back.dtype == np.uint8
    interior = np.abs(back.astype(int) - frames)  # 4:2:0 halves the resolution of colour, at edges
    assert np.median(interior) <= 3


def test_the_same_frames_give_the_same_bytes_in_another_process():
    code = "import sys; sys.path.insert(0, sys.argv[1]); import test_codec; print(test_codec.fingerprint())"
    run = subprocess.run([sys.executable, "-c", code, str(Path(__file__).parent)], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == fingerprint() == fingerprint()


def fingerprint() -> str:
    """Hash of 60 encoded clips: x264's AVX-512 code gives other bytes for a few in a hundred, from run to run."""
    return hashlib.sha256(b"".join(codec.encode_clip(clip(seed), 2.0) for seed in range(60))).hexdigest()


@pytest.mark.parametrize("count, height, width", [(1, 56, 112), (4, 112, 112), (33, 38, 130)])
def test_the_size_of_a_clip_is_known_without_decoding_it(count, height, width):
    mp4 = codec.encode_clip(np.zeros((count, height, width, 3), np.uint8), 2.0)
    assert codec.clip_shape(mp4) == codec.decode_clip(mp4).shape[:3] == (count, height, width)


def test_bad_clips_are_one_line():
    with pytest.raises(UserError, match="size: found 111x112, expected even"):
        codec.encode_clip(clip()[:, :111], 2.0)
    with pytest.raises(UserError, match="11 bytes are not a video"):
        codec.decode_clip(b"not a video")
    whole = codec.encode_clip(clip(), 2.0)
    with pytest.raises(UserError, match="not a video"):
        codec.decode_clip(whole[: len(whole) // 2])


def test_depth_is_kept_from_a_millimetre_to_ten_kilometres():
    depth = np.exp(np.random.default_rng(0).uniform(np.log(1e-3), np.log(1e4), (2, 6, 8))).astype(np.float32)
    depth[0, :2] = np.inf
    back = codec.unpack_depth(codec.pack_depth(depth), depth.shape)
    assert np.array_equal(np.isinf(back), np.isinf(depth))
    np.testing.assert_allclose(back[np.isfinite(back)], depth[np.isfinite(depth)], rtol=1.3e-4)
