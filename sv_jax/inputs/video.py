"""Videos to frames: decoding with PyAV, and the choice of frames as transformers' Qwen2-VL video processor makes it."""

from __future__ import annotations

import io
import math
import os

import numpy as np

from sv_jax.errors import UserError

DEFAULT_FPS = 2.0
MIN_FRAMES, MAX_FRAMES, FRAME_FACTOR = 4, 768, 2

VideoSource = str | os.PathLike | bytes


def sample_frames(
    total: int,
    video_fps: float | int | None,
    *,
    fps: float | int | None = None,
    num_frames: int | None = None,
    min_frames: int = MIN_FRAMES,
    max_frames: int = MAX_FRAMES,
) -> np.ndarray:
    """Indices of the frames to keep, i32 [n], evenly spread from the first frame on; the last frame is not one of them.

    total: frames in the video; video_fps: its frames per second. Give one of fps (frames to keep per second) and num_frames.
    Raises UserError when both or neither are given, when fps is asked of a video without a rate, or when num_frames exceeds total.
    """
    if (fps is None) == (num_frames is None):
        raise UserError("fps and num_frames: expected exactly one of the two")
    if num_frames is not None:
        n = round(num_frames / FRAME_FACTOR) * FRAME_FACTOR
        if not 0 < n <= total:
            raise UserError(f"num_frames {num_frames}: expected {FRAME_FACTOR} to {total}, the frames in the video")
    else:
        if not video_fps:
            raise UserError("fps: the video does not say its own frame rate; give num_frames instead")
        if not fps > 0:
            raise UserError(f"fps {fps}: expected a positive number")
        limit = math.floor(min(max_frames, total) / FRAME_FACTOR) * FRAME_FACTOR
        n = min(max(total / video_fps * fps, min_frames), limit, total)
        n = max(math.floor(n / FRAME_FACTOR) * FRAME_FACTOR, 1)  # a one-frame video keeps its frame
    # n indices exactly: torch.arange(0, total, total / n) sometimes has one more, `total`, which no video has
    return (np.arange(n) * (total / n)).astype(np.float32).astype(np.int32)


def sampled_fps(kept: int, total: int, video_fps: float | int) -> float:
    """Frames that stand for a second once `kept` of all `total` are left."""
    return kept / total * video_fps


def read_video(
    source: VideoSource,
    *,
    fps: float | int | None = None,
    num_frames: int | None = None,
    max_frames: int = MAX_FRAMES,
) -> tuple[np.ndarray, float]:
    """Decode the sampled frames of a video file or of its bytes: (frames u8 [n, H, W, 3], frames kept per second).

    Without fps and num_frames, DEFAULT_FPS. Raises UserError for a missing, empty, corrupt or truncated file.
    """
    import av  # the `data` extra; importing sv_jax.inputs must not need it

    name = "video (bytes)" if isinstance(source, bytes) else f"video {os.fspath(source)!r}"
    if not isinstance(source, bytes) and not os.path.isfile(source):
        raise UserError(f"{name}: no such file")
    try:
        total, rate = _count(av, source)
        if not total:
            raise UserError(f"{name}: no frames in it")
        if num_frames is None and fps is None:
            fps = DEFAULT_FPS
        indices = sample_frames(total, rate, fps=fps, num_frames=num_frames, max_frames=max_frames)
        frames = _decode(av, source, indices)
    except av.FFmpegError as error:
        raise UserError(f"{name}: cannot be decoded, {error.strerror or type(error).__name__}; expected a video file such as mp4") from None
    if len(frames) < len(indices):
        raise UserError(f"{name}: truncated, frame {indices[len(frames)]} of {total} cannot be decoded")
    return np.stack(frames), sampled_fps(len(indices), total, rate) if rate else DEFAULT_FPS


def _open(av, source: VideoSource):
    container = av.open(io.BytesIO(source) if isinstance(source, bytes) else os.fspath(source))
    if not container.streams.video:
        container.close()
        raise UserError(f"video {'(bytes)' if isinstance(source, bytes) else repr(os.fspath(source))}: holds no video stream")
    return container


def _count(av, source: VideoSource) -> tuple[int, float | None]:
    """Frames and frames per second of the first video stream; packets are counted when the header does not say."""
    with _open(av, source) as container:
        stream = container.streams.video[0]
        rate = stream.average_rate or stream.guessed_rate
        total = stream.frames or sum(packet.size > 0 for packet in container.demux(stream))
        return total, float(rate) if rate else None


def _decode(av, source: VideoSource, indices: np.ndarray) -> list[np.ndarray]:
    """The frames at the sorted indices, RGB; fewer when the stream ends early."""
    wanted, frames = set(indices.tolist()), []
    with _open(av, source) as container:
        container.streams.video[0].thread_type = "AUTO"
        for i, frame in enumerate(container.decode(video=0)):
            if i in wanted:
                frames.append(frame.to_ndarray(format="rgb24"))
            if i >= indices[-1]:
                break
    return frames
