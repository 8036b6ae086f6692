"""WildRGB-D: `<category>/scenes/scenes_<id>/{rgb,depth,masks}/%05d.png`, `metadata`, `cam_poses.txt`.

Depth in millimetres, which the authors read up to 5 m; `metadata` is JSON with w, h and K **column by column**; a line of
`cam_poses.txt` is the number of a frame and its 4 x 4 pose row by row, camera to world, OpenCV axes, metres. Masks show the one object
of the category. The direction of gravity is not stored: the ground is found.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from sv_jax.recorded import files
from sv_jax.recorded.faults import BadInput, Faults
from sv_jax.recorded.recording import Recording, folders, of_files, same_size

FAR = 5.0  # metres, from which the sensor's depth is not trusted


def scenes(root: Path) -> list[Path]:
    return folders(root, "cam_poses.txt")


def read(folder: Path, faults: Faults) -> Recording:
    category = folder.resolve().parent.parent.name
    rgb, metadata = files.numbered(folder / "rgb", faults), folder / "metadata"
    stored = files.read_json(metadata)
    K = np.asarray(files.entry(stored, "K", metadata), np.float64)
    if K.size != 9:
        raise BadInput("mismatched intrinsics", metadata, f"K holds {K.size} numbers, expected 9")
    stated = files.entry(stored, "h", metadata), files.entry(stored, "w", metadata)
    same_size(metadata, stated, files.size_of(next(iter(rgb.values()))))

    def depth(number: int) -> np.ndarray:
        found = files.millimetres(folder / "depth" / rgb[number].name)
        return np.where(found <= FAR, found, 0)

    def ids(number: int) -> np.ndarray:
        return (files.plane(folder / "masks" / rgb[number].name, "missing mask") > 0).astype(np.int32)

    poses = files.numbered_poses(folder / "cam_poses.txt", faults)
    masked = (folder / "masks").is_dir()
    return of_files(
        f"{category}/{folder.name}", rgb, poses, K.reshape(3, 3).T, faults, depth, ids if masked else None, phrases={1: category}
    )
