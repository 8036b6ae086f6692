"""ScanNet++, its iPhone part: `data/<id>/iphone/{rgb.mkv, depth.bin, pose_intrinsic_imu.json}`.

`pose_intrinsic_imu.json` has for `frame_%06d` an `intrinsic` (3 x 3, pixels of the video) and an `aligned_pose` (4 x 4, camera to world,
OpenCV axes, metres, the world's z axis up). `depth.bin` is 192 x 256 pixels a frame: all frames as one raw deflate stream of f32 metres,
or, in other scenes, frame by frame a 32-bit length and an lz4 block of u16 millimetres or a raw deflate stream of f32 metres. The
toolkit's `rgb/frame_%06d.jpg` are taken in place of the video where they are. Objects are annotated on the mesh only: there are none
here.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import numpy as np

from sv_jax.recorded import files
from sv_jax.recorded.faults import BadInput, Faults
from sv_jax.recorded.recording import Recording, finite, folders

FPS = 60.0
SHAPE = (192, 256)


def scenes(root: Path) -> list[Path]:
    return [folder.parent for folder in folders(root, "pose_intrinsic_imu.json")]


def read(folder: Path, faults: Faults) -> Recording:
    phone = folder / "iphone"
    path = phone / "pose_intrinsic_imu.json"
    stored = {int(name.split("_")[-1]): (f"{path}:{name}", frame) for name, frame in files.read_json(path).items()}
    if (phone / "rgb").is_dir():
        rgb = files.numbered(phone / "rgb", faults)
        stored = {k: frame for k, frame in stored.items() if k in rgb}
    poses = finite(
        {k: np.array(files.entry(frame, "aligned_pose", path)) for k, (_, frame) in stored.items()},
        {k: name for k, (name, _) in stored.items()},
        faults,
    )
    if not poses:
        raise BadInput("too few frames", path, "no frame has a pose")
    numbers = list(poses)
    depth = depths(phone / "depth.bin")

    def film(chosen: Sequence[int]) -> list[np.ndarray]:
        return files.video_frames(phone / "rgb.mkv", [numbers[i] for i in chosen])

    return Recording(
        folder.name,
        [stored[k][0] for k in numbers],
        np.stack(list(poses.values())),
        np.stack([np.array(files.entry(stored[k][1], "intrinsic", path), np.float64) for k in numbers]),
        files.pictures([rgb[k] for k in numbers]) if (phone / "rgb").is_dir() else film,
        lambda i: depth(numbers[i]),
        fps=FPS * len(numbers) / (numbers[-1] - numbers[0] + 1),
        up=True,
    )


def depths(path: Path) -> Callable[[int], np.ndarray]:
    """Depth f32 [192, 256] in metres by the number of its frame."""
    if not path.is_file():
        raise BadInput("missing depth", path, "no such file")

    @cache
    def whole() -> np.ndarray | list[bytes]:
        data = path.read_bytes()
        try:
            return np.frombuffer(zlib.decompress(data, wbits=-zlib.MAX_WBITS), np.float32).reshape(-1, *SHAPE)
        except (zlib.error, ValueError):
            return _blocks(data)

    def depth(number: int) -> np.ndarray:
        found = whole()
        if number >= len(found):
            raise BadInput("missing depth", path, f"holds {len(found)} frames, none for frame {number}")
        return found[number] if isinstance(found, np.ndarray) else _block(found[number], path, number)

    return depth


def _blocks(data: bytes) -> list[bytes]:
    out, at = [], 0
    while at + 4 <= len(data):
        size = int.from_bytes(data[at : at + 4], "little")
        out.append(data[at + 4 : at + 4 + size])
        at += 4 + size
    return out


def _block(data: bytes, path: Path, number: int) -> np.ndarray:
    try:
        return np.frombuffer(zlib.decompress(data, wbits=-zlib.MAX_WBITS), np.float32).reshape(SHAPE)
    except (zlib.error, ValueError):
        pass
    try:
        import lz4.block
    except ImportError:
        raise BadInput("missing library", path, "its depth is lz4; pip install lz4") from None
    try:
        raw = lz4.block.decompress(data, uncompressed_size=2 * SHAPE[0] * SHAPE[1])
        return np.frombuffer(raw, np.uint16).reshape(SHAPE).astype(np.float32) / 1000
    except (lz4.block.LZ4BlockError, ValueError) as error:
        raise BadInput("broken depth", path, f"frame {number} cannot be decompressed ({error})") from None
