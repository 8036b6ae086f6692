"""A recording to a `Scene`: frames chosen, pictures, depth and ids brought to one size, cameras checked, the world stood upright."""

from __future__ import annotations

import numpy as np

from sv_jax.annotate.lift import NEAR, measured, sharpen, standing, upright
from sv_jax.errors import UserError
from sv_jax.inputs.processor import resize
from sv_jax.inputs.video import DEFAULT_FPS, sample_frames, sampled_fps
from sv_jax.recorded.faults import BadInput, Faults
from sv_jax.recorded.fit import fits, own_intrinsics, plausible
from sv_jax.recorded.recording import Recording
from sv_jax.scenes.scene import Scene
from sv_jax.tasks import geometry

ZOOM = 0.01  # relative difference of focal lengths, or of the sides' ratios, up to which frames have one camera
IDS = 255  # objects of a scene, at most


def to_scene(recording: Recording, faults: Faults, frames: int, side: int, default: str, scale: str | None) -> Scene:
    """The scene of at most `frames` frames, evenly spread, whose longer side is at most `side` pixels.

    `scale` None is by the size of the objects, `default` where there are none. A frame that cannot be taken is a fault; BadInput where
    fewer than two are left, where the cameras do not fit the depth, and where no ground is found.
    The depth of a scene without depth is infinite, and its up is the cameras' mean up.
    """
    total = len(recording.files)
    if total < 2:
        raise BadInput("too few frames", recording.files[0] if total else recording.id, f"{total} can be taken, expected at least 2")
    chosen = sample_frames(total, None, num_frames=min(frames, total) // 2 * 2)
    size, taken = _pixels(recording, chosen, side, faults)
    pictures, depth, ids = (np.stack(column) for column in list(zip(*taken.values(), strict=True))[:3])
    kept = list(taken)
    zoom = np.diag([pictures.shape[2] / size[1], pictures.shape[1] / size[0], 1.0])
    K, poses = zoom @ np.median(recording.K[kept], axis=0), recording.poses[kept]
    phrases, ids = _dense(ids, recording.phrases)
    fps = DEFAULT_FPS if recording.fps is None else sampled_fps(len(chosen), total, recording.fps)
    if recording.depth is not None:
        fits(recording, size)
        depth = sharpen(depth, ids, len(phrases))
    try:
        poses = _world(recording, depth, ids, K, poses) @ poses
        if phrases:
            return measured(recording.id, pictures, fps, depth, ids, phrases, K, poses, scale)
    except UserError as error:
        raise BadInput("cannot be measured", recording.files[0], str(error)) from None
    return Scene(recording.id, scale or default, pictures, depth.astype(np.float32), ids, K, poses, fps, ())


def _pixels(recording: Recording, chosen: np.ndarray, side: int, faults: Faults) -> tuple[tuple[int, int], dict[int, tuple]]:
    """(H, W) of the pictures as recorded, and by frame its picture, depth and ids at the size that is kept."""
    size, usual, taken = None, np.median(recording.K, axis=0), {}
    for i, found in zip(chosen.tolist(), recording.rgb(chosen.tolist()), strict=True):
        try:
            if isinstance(found, BadInput):
                raise found
            if size is None:
                size = found.shape[:2]
                plausible(usual, size, recording.files[i])
            taken[i] = _frame(recording, i, found, size, usual, side)
        except BadInput as fault:
            faults.add(fault)
    if len(taken) < 2:
        raise BadInput("too few frames", recording.files[0], f"{len(taken)} of {len(chosen)} can be taken, expected at least 2")
    return size, taken


def _frame(recording: Recording, i: int, rgb: np.ndarray, size: tuple[int, int], usual: np.ndarray, side: int) -> tuple:
    file, K = recording.files[i], recording.K[i]
    if rgb.shape[:2] != size:
        raise BadInput("mismatched frames", file, f"found {rgb.shape[1]} x {rgb.shape[0]} pixels, the others have {size[1]} x {size[0]}")
    if not np.allclose(K, usual, rtol=ZOOM, atol=ZOOM * max(size)):
        raise BadInput("mismatched intrinsics", file, f"fx {K[0, 0]:.4g}, the others have {usual[0, 0]:.4g}")
    zoom = min(1.0, side / max(size))
    height, width = (max(2, 2 * round(length * zoom / 2)) for length in size)
    small = np.diag([width / size[1], height / size[0], 1.0]) @ K
    depth, shape = np.full((height, width), np.inf, np.float32), None
    if recording.depth is not None:
        found = recording.depth(i)
        found = np.where(np.isfinite(found) & (found > 0), found, np.inf)
        shape = found.shape
        if recording.depth_K is None and abs(shape[0] * size[1] / (shape[1] * size[0]) - 1) > ZOOM:
            raise BadInput("mismatched depth", file, f"{shape[1]} x {shape[0]} pixels do not fit frames of {size[1]} x {size[0]}")
        depth = resample(found, own_intrinsics(recording, i, size, shape), small, (height, width), np.inf)
        if not np.isfinite(depth).any():
            raise BadInput("missing depth", file, "its depth holds no value above 0")
    ids = np.zeros((height, width), np.int32)
    if recording.ids is not None:
        found = recording.ids(i)
        if found.shape not in (size, shape):
            raise BadInput("mask size", file, f"its mask has {found.shape[1]} x {found.shape[0]} pixels, the frame {size[1]} x {size[0]}")
        own = K if found.shape == size else own_intrinsics(recording, i, size, shape)
        ids = resample(found, own, small, (height, width), 0)
    return resize(rgb[None], height, width)[0], depth, ids


def resample(array: np.ndarray, own: np.ndarray, K: np.ndarray, size: tuple[int, int], fill: float | int) -> np.ndarray:
    """[H, W]: for each pixel of a camera K [3, 3] of `size` (H, W) the pixel of `array` [h, w], with intrinsics `own`, on the same ray.
    Nothing is mixed: depths and ids between two surfaces belong to neither."""
    places = []
    for axis, (length, have) in enumerate(zip(size, array.shape, strict=True)):
        a = 1 - axis  # rows are y
        ray = (np.arange(length) + 0.5 - K[a, 2]) / K[a, a]
        places.append(np.floor(ray * own[a, a] + own[a, 2] - 1e-6).astype(int))  # half-way is always the lower
        places[-1][(places[-1] < 0) | (places[-1] >= have)] = -1
    rows, columns = places
    out = array[rows][:, columns]
    out[rows < 0] = fill
    out[:, columns < 0] = fill
    return out


def _dense(ids: np.ndarray, phrases: dict[int, str]) -> tuple[tuple[str, ...], np.ndarray]:
    """Phrases and u8 ids [F, H, W] of the objects that show, numbered from 1; the largest IDS of them."""
    numbers, counts = np.unique(ids[np.isin(ids, list(phrases))], return_counts=True)
    kept = np.sort(numbers[np.argsort(-counts, kind="stable")[:IDS]])
    out = np.zeros(ids.shape, np.uint8)
    for k, number in enumerate(kept, 1):
        out[ids == number] = k
    return tuple(phrases[int(number)] for number in kept), out


def _world(recording: Recording, depth: np.ndarray, ids: np.ndarray, K: np.ndarray, poses: np.ndarray) -> np.ndarray:
    """f64 [4, 4] from the recording's world to one with z up and, where depth shows it, the ground at z = 0."""
    if recording.depth is None:
        up = np.array([0.0, 0.0, 1.0]) if recording.up else -poses[:, :3, 1].mean(0)
        up /= np.linalg.norm(up)
        return standing(np.append(up, -up @ poses[0, :3, 3]), poses[0])
    if not recording.up:
        return upright(depth, ids, K, poses)
    return standing(np.array([0.0, 0.0, 1.0, -_floor(depth, ids, K, poses)]), poses[0])


def _floor(depth: np.ndarray, ids: np.ndarray, K: np.ndarray, poses: np.ndarray) -> float:
    """The height below the first camera near which most of the background lies, in a world whose z axis points up."""
    free = (ids == 0) & np.isfinite(depth)
    height, near = geometry.world_points(depth, K, poses)[free][:, 2], NEAR * depth[free]
    below = height < poses[0, 2, 3]
    if not below.any():
        raise UserError("ground: the background shows nothing below the camera")
    chosen = np.random.default_rng(0).permutation(int(below.sum()))[:8000]
    height, near = height[below][chosen], near[below][chosen]
    best = max(height[:400], key=lambda level: (np.abs(height - level) <= near).sum())
    return float(np.median(height[np.abs(height - best) <= near]))
