"""Whether cameras fit the depth: what one frame shows, seen from a later one, must be what the later one shows. Where it is not, the
mistake that was probably made in reading or writing the cameras is found by undoing each of the usual ones."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from sv_jax.annotate.lift import FITS, check_intrinsics
from sv_jax.errors import UserError
from sv_jax.recorded.faults import BadInput
from sv_jax.recorded.recording import OPENGL, Recording
from sv_jax.tasks import geometry

PAIRS, COLUMNS = 6, 80  # pairs of frames that are compared, and columns and rows at most that are read of each
TURN, SHIFT = np.radians(10), 0.1  # between a pair: enough to tell, as an angle or a share of the depth; little enough to see the same
LEAST, TIMES = 0.005, 3.0  # an error below 2 % is a mistake, too, from this size on where undoing that leaves less than a third of it
SHARED = 0.05  # of a frame's pixels, at least, that show in the other
UNITS = 10.0 ** (np.arange(-35, 36) / 10)  # of translations in the unit of the depth; neighbours differ by 26 %


def fits(recording: Recording, size: tuple[int, int]) -> float:
    """The median relative difference between depths and those of other frames, seen from there; less than 2 %, otherwise BadInput that
    says which mistake explains it. `size` is (H, W) of the pictures."""
    pairs, K = _pairs(recording, size)

    def error(K: np.ndarray, change: Callable[[np.ndarray], np.ndarray] = lambda poses: poses) -> float:
        return float(np.median([difference(depth, K, change(recording.poses[list(pair)])) for pair, depth in pairs]))

    found = error(K)
    if found < LEAST:
        return found
    mistakes = {  # the fault's kind and what the cameras look like -> the error without that
        ("wrong poses", "inverted: world to camera"): error(K, np.linalg.inv),
        ("wrong poses", "of OpenGL's axes (y up, z backward)"): error(K, lambda p: p @ OPENGL),
        ("wrong poses", "inverted and of OpenGL's axes"): error(K, lambda p: np.linalg.inv(p) @ OPENGL),
        ("wrong poses", "of transposed rotations"): error(K, _transposed),
        ("mismatched intrinsics", "of frames turned by 90 degrees"): error(K[[1, 0, 2]][:, [1, 0, 2]]),
        ("mismatched intrinsics", "of frames of half the size"): error(np.diag([2.0, 2.0, 1.0]) @ K),
        ("mismatched intrinsics", "of frames of twice the size"): error(np.diag([0.5, 0.5, 1.0]) @ K),
    }
    if min(mistakes.values()) >= found / TIMES:
        for unit in UNITS:
            look = f"in another unit than the depth, which they fit with translations times {unit:.2g}"
            mistakes["non-metric poses", look] = error(K, lambda p, unit=unit: _scaled(p, unit))
    (kind, look), best = min(mistakes.items(), key=lambda item: item[1])
    said = f"seen from another frame, depths differ by {100 * found:.1f} %" if np.isfinite(found) else "frames do not overlap"
    if best < found / TIMES:
        raise BadInput(kind, recording.files[0], f"{said}; the cameras look {look} ({100 * best:.1f} % without that)")
    if found > FITS:
        raise BadInput("wrong poses", recording.files[0], f"{said}, expected less than {100 * FITS:g} %; no usual mistake explains it")
    return found


def difference(depth: np.ndarray, K: np.ndarray, poses: np.ndarray) -> float:
    """Median relative difference between the second depth of [2, h, w] and the first, seen from there; inf where they share too little.

    Inverse depth is interpolated, which planes are straight in; where a depth is unknown (inf) it says nothing."""
    from scipy import ndimage

    points = geometry.world_points(depth[:1], K, poses[:1])[0]
    points = points[np.isfinite(points).all(-1)]
    camera = (points - poses[1, :3, 3]) @ poses[1, :3, :3]
    camera = camera[camera[:, 2] > 0]
    u, v = (camera @ K.T)[:, :2].T / camera[:, 2]
    inverse = np.where(np.isfinite(depth[1]), 1 / depth[1], np.nan)
    there = ndimage.map_coordinates(inverse, [v - 0.5, u - 0.5], order=1, cval=np.nan)
    known = np.isfinite(there)
    if known.sum() < max(SHARED * len(points), 1):
        return np.inf
    return float(np.median(np.abs(there[known] * camera[known, 2] - 1)))


def plausible(K: np.ndarray, size: tuple[int, int], file: object) -> None:
    """BadInput where K [3, 3] cannot belong to pictures of (H, W)."""
    try:
        check_intrinsics(K, size)
    except UserError as error:
        transposed = np.shape(K) == (3, 3) and np.allclose(K[:, 2], [0, 0, 1]) and not np.allclose(K[2], [0, 0, 1])
        message = "the matrix is transposed: its centre stands in the last row" if transposed else str(error)
        raise BadInput("mismatched intrinsics", file, message.removeprefix("intrinsics: ")) from None


def own_intrinsics(recording: Recording, frame: int, size: tuple[int, int], shape: tuple[int, int]) -> np.ndarray:
    """K [3, 3] of a frame's depth of `shape` (h, w), beside pictures of `size` (H, W)."""
    if recording.depth_K is not None:
        return recording.depth_K
    return np.diag([shape[1] / size[1], shape[0] / size[0], 1.0]) @ recording.K[frame]


def _pairs(recording: Recording, size: tuple[int, int]) -> tuple[list[tuple[tuple[int, int], np.ndarray]], np.ndarray]:
    """Pairs of frames between which the camera moved enough to tell, each with its depths [2, h, w], unknown ones infinite, and their K."""
    count, found, K = len(recording.poses), [], None
    for i in np.unique(np.linspace(0, count - 2, PAIRS).astype(int)).tolist():
        try:
            first = recording.depth(i)
            seen = first[np.isfinite(first) & (first > 0)]
            j = _later(recording.poses, i, float(np.median(seen)) if len(seen) else np.inf)
            depth = np.stack([first, recording.depth(j)])
        except BadInput:  # counted where the frame is taken
            continue
        stride = -(-max(depth.shape[1:]) // COLUMNS)
        if K is None:
            K = own_intrinsics(recording, i, size, depth.shape[1:])
            K = np.diag([1 / stride, 1 / stride, 1.0]) @ K
            K[:2, 2] += 0.5 - 0.5 / stride  # the pixels that are kept are the first of each block, not its middle
        depth = depth[:, ::stride, ::stride].astype(np.float64)
        found.append(((i, j), np.where(np.isfinite(depth) & (depth > 0), depth, np.inf)))
    if not found:
        raise BadInput("missing depth", recording.files[0], "no two frames that are apart have depth")
    return found, K


def _later(poses: np.ndarray, i: int, depth: float) -> int:
    """The first frame after i from which the camera has turned or moved enough, else the last."""
    angle = np.arccos(np.clip((np.einsum("nij,ij->n", poses[i + 1 :, :3, :3], poses[i, :3, :3]) - 1) / 2, -1, 1))
    enough = (angle >= TURN) | (np.linalg.norm(poses[i + 1 :, :3, 3] - poses[i, :3, 3], axis=1) >= SHIFT * depth)
    return i + 1 + int(enough.argmax()) if enough.any() else len(poses) - 1


def _transposed(poses: np.ndarray) -> np.ndarray:
    out = poses.copy()
    out[:, :3, :3] = poses[:, :3, :3].swapaxes(1, 2)
    return out


def _scaled(poses: np.ndarray, unit: float) -> np.ndarray:
    out = poses.copy()
    out[:, :3, 3] *= unit
    return out
