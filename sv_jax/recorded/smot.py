"""SMOT's layout is not published. This is a plain layout of our own, to which a recording with depth is easily brought:

`<scene>/rgb/%06d.png`, `depth/%06d.png` (16-bit, millimetres, 0 unknown), `poses.txt` (a line for a frame: its number and its 4 x 4 pose
row by row, camera to world, OpenCV axes, metres), `intrinsics.txt` (3 x 3, pixels of the pictures), and where there are objects
`masks/%06d.png` (8- or 16-bit ids, 0 background) with `objects.json` ({"1": "red mug", …}). The ground is found.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from sv_jax.recorded import files
from sv_jax.recorded.faults import BadInput, Faults
from sv_jax.recorded.recording import Recording, folders, of_files


def scenes(root: Path) -> list[Path]:
    return folders(root, "poses.txt")


def read(folder: Path, faults: Faults) -> Recording:
    rgb, poses = files.numbered(folder / "rgb", faults), files.numbered_poses(folder / "poses.txt", faults)
    K = files.matrix(folder / "intrinsics.txt", "mismatched intrinsics")

    def depth(number: int) -> np.ndarray:
        return files.millimetres(folder / "depth" / f"{number:06d}.png")

    def ids(number: int) -> np.ndarray:
        return files.plane(folder / "masks" / f"{number:06d}.png", "missing mask")

    if not (folder / "masks").is_dir():
        return of_files(folder.name, rgb, poses, K, faults, depth)
    return of_files(folder.name, rgb, poses, K, faults, depth, ids, phrases=_phrases(folder / "objects.json"))


def _phrases(path: Path) -> dict[int, str]:
    try:
        return {int(number): str(phrase) for number, phrase in files.read_json(path).items()}
    except (AttributeError, ValueError):
        raise BadInput("broken file", path, 'expected {"1": "red mug", …}') from None
