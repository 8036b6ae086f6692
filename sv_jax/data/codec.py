"""Clips and depth maps as bytes. Encoding is reproducible: the same frames give the same bytes on one version of the libraries."""

from __future__ import annotations

import io
import zlib
from fractions import Fraction

import numpy as np

from sv_jax.errors import UserError

NEAR, FAR = 1e-3, 1e4  # metres; log-u16 depth covers 1 mm to 10 km with a relative error below 1.3e-4
INVALID = 65535


def encode_clip(frames: np.ndarray, fps: float, *, crf: int = 12) -> bytes:
    """H.264 in MP4 from u8 [F, H, W, 3]; H and W must be even. Colours move by a few levels: draw marks after decoding."""
    import av

    height, width = frames.shape[1:3]
    if height % 2 or width % 2:
        raise UserError(f"size: found {height}x{width}, expected even numbers (H.264 4:2:0)")
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        # One thread, conversion before encoding, and plain C: anything else is not reproducible. x264's AVX-512 code gave other
        # bytes for some 3 % of the clips from one run to the next.
        options = {"threads": "1", "crf": str(crf), "preset": "veryfast", "x264-params": "asm=0"}
        stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1000), options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for rgb in frames:
            yuv = av.VideoFrame.from_ndarray(rgb, "rgb24").reformat(format="yuv420p").to_ndarray()
            container.mux(stream.encode(av.VideoFrame.from_ndarray(yuv, "yuv420p")))
        container.mux(stream.encode(None))
    return buffer.getvalue()


def decode_clip(mp4: bytes) -> np.ndarray:
    """u8 [F, H, W, 3] of an MP4. UserError where the bytes are not a video."""
    import av

    try:
        with av.open(io.BytesIO(mp4)) as container:
            container.streams.video[0].thread_type = "NONE"
            frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    except (av.FFmpegError, IndexError) as error:
        raise UserError(f"clip: {len(mp4)} bytes are not a video that can be decoded ({error})") from None
    return np.stack(frames)


def clip_shape(mp4: bytes) -> tuple[int, int, int]:
    """(F, H, W) of an MP4 by `encode_clip`, read off its tables: opening it with a library takes a hundred times as long.
    UserError where they are not there."""
    samples, entry = mp4.rfind(b"stsz"), mp4.rfind(b"avc1")  # the tables stand at the end
    if min(samples, entry) < 0 or len(mp4) < max(samples + 16, entry + 32):
        raise UserError(f"clip: {len(mp4)} bytes are not an MP4 with H.264 in it")
    places = (samples + 12, 4), (entry + 30, 2), (entry + 28, 2)
    return tuple(int.from_bytes(mp4[at : at + size], "big") for at, size in places)


def pack_depth(depth: np.ndarray) -> bytes:
    """zlib of log-u16 depth: f32 metres [F, H, W], inf allowed; horizontal differences compress better."""
    with np.errstate(divide="ignore", over="ignore"):
        log = np.round((INVALID - 1) * np.log(depth.astype(np.float64) / NEAR) / np.log(FAR / NEAR))
    code = np.where((log >= 0) & (log < INVALID), log, INVALID).astype(np.uint16)
    return zlib.compress(np.diff(code, axis=-1, prepend=np.uint16(0)).tobytes())


def unpack_depth(data: bytes, shape: tuple[int, int, int]) -> np.ndarray:
    """Inverse of `pack_depth` to f32 [F, H, W] metres; inf where nothing was hit."""
    code = np.cumsum(np.frombuffer(zlib.decompress(data), np.uint16).reshape(shape), axis=-1, dtype=np.uint16)
    depth = NEAR * np.exp(code / (INVALID - 1) * np.log(FAR / NEAR))
    return np.where(code == INVALID, np.inf, depth).astype(np.float32)
