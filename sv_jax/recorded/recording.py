"""A recording as its files describe it. Pixels are read once frames are chosen."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from sv_jax.recorded.faults import BadInput, Faults
from sv_jax.recorded.files import pictures

OPENGL = np.diag([1.0, -1.0, -1.0, 1.0])  # OpenGL's camera (y up, z backward) to OpenCV's, and back


@dataclass(frozen=True, eq=False)
class Recording:
    """N frames in the order of their numbers, each with its cameras. Functions raise BadInput for what is missing or broken."""

    id: str
    files: Sequence[str]  # [N], of the frames
    poses: np.ndarray  # f64 [N, 4, 4]: camera to world, OpenCV axes
    K: np.ndarray  # f64 [N, 3, 3], in the pixels of the pictures
    rgb: Callable[[Sequence[int]], list[np.ndarray | BadInput]]  # pictures u8 [H, W, 3] of frames, in order
    depth: Callable[[int], np.ndarray] | None = None  # f32 [h, w]: z-depth in the unit of the poses, 0 or not finite where unknown
    ids: Callable[[int], np.ndarray] | None = None  # integers [h, w], keys of `phrases`
    phrases: dict[int, str] = field(default_factory=dict)  # "mug" or "red mug"; other ids are background
    depth_K: np.ndarray | None = None  # f64 [3, 3] of the depth's own camera; None: it sees what the pictures see
    fps: float | None = None  # of all N frames, None where nothing says it
    up: bool = False  # the world's z axis points up

    def through(self, change: Callable[[np.ndarray], np.ndarray]) -> Recording:
        """The recording whose pictures are changed so."""
        return dataclasses.replace(self, rgb=lambda chosen: [p if isinstance(p, BadInput) else change(p) for p in self.rgb(chosen)])


def of_files(
    id: str,
    rgb: dict[int, Path],
    poses: dict[int, np.ndarray],
    K: np.ndarray | dict[int, np.ndarray],
    faults: Faults,
    depth: Callable[[int], np.ndarray] | None = None,
    ids: Callable[[int], np.ndarray] | None = None,
    **more,
) -> Recording:
    """The recording of picture files that have poses; K [3, 3], or one a frame. `rgb`, `poses`, `depth` and `ids` go by a frame's
    number."""
    names = {number: str(path) for number, path in rgb.items()}
    posed = finite({k: poses[k] for k in rgb if k in poses}, names, faults)
    numbers = list(posed)
    if not numbers:
        raise BadInput("too few frames", next(iter(names.values())), f"none of {len(rgb)} frames has a pose")
    return Recording(
        id,
        [names[k] for k in numbers],
        np.stack(list(posed.values())),
        np.stack([K[k] if isinstance(K, dict) else K for k in numbers]),
        pictures([rgb[k] for k in numbers]),
        depth and (lambda i: depth(numbers[i])),
        ids and (lambda i: ids(numbers[i])),
        **more,
    )


def finite(poses: dict[int, np.ndarray], files: dict[int, str], faults: Faults) -> dict[int, np.ndarray]:
    """The poses [4, 4] of frames in the order of their numbers, made exact rotations; others are faults."""
    good = {}
    for number in sorted(poses):
        pose = np.asarray(poses[number], np.float64)
        wrong = None
        if pose.shape != (4, 4):
            wrong = f"found {list(pose.shape)}, expected 4 x 4 numbers"
        elif not np.isfinite(pose).all():
            wrong = "not finite, as where tracking was lost; the frame is left out"
        elif not np.allclose(pose[3], [0, 0, 0, 1], atol=1e-4):
            wrong = "the last row is not 0 0 0 1; " + ("it is transposed" if np.allclose(pose[:, 3], [0, 0, 0, 1]) else "no rigid motion")
        elif np.abs(pose[:3, :3] @ pose[:3, :3].T - np.eye(3)).max() > 1e-2 or np.linalg.det(pose[:3, :3]) < 0:
            wrong = "its 3 x 3 part is no rotation"
        if wrong:
            faults.add(BadInput("bad pose", files[number], wrong))
            continue
        u, _, v = np.linalg.svd(pose[:3, :3])
        good[number] = np.block([[u @ v, pose[:3, 3:]], [np.zeros((1, 3)), np.ones((1, 1))]])
    return good


def same_size(file: object, stated: tuple[int, int], found: tuple[int, int]) -> None:
    """BadInput where intrinsics are `stated` for (H, W) and the frames are of another size."""
    if tuple(stated) != tuple(found):
        said, have = (f"{size[1]} x {size[0]}" for size in (stated, found))
        raise BadInput("mismatched intrinsics", file, f"they are for frames of {said} pixels (width x height), the frames have {have}")


def camera_matrix(fx: float, fy: float, cx: float, cy: float) -> np.ndarray:
    return np.array([[fx, 0.0, cx], [0.0, fy, cy], [0.0, 0.0, 1.0]])


def folders(root: Path, marker: str, depth: int = 4) -> list[Path]:
    """`root` or the folders up to `depth` levels below it that hold `marker`, sorted."""
    return sorted({found.parent if "/" not in marker else found.parents[marker.count("/")]
                   for level in range(depth + 1) for found in root.glob("*/" * level + marker)})  # fmt: skip
