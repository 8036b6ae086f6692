"""DL3DV-10K: `<subset>/<hash>/{transforms.json, images_8|images_4/frame_%05d.png}`, as nerfstudio has it.

Poses are camera to world in OpenGL's axes (y up, z backward), in the arbitrary unit of the reconstruction; w, h and the intrinsics are
those of the full pictures, whatever folder is read, and the lens is undone. There is no depth and there are no objects: a clip with its
cameras.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from sv_jax.recorded import files
from sv_jax.recorded.faults import BadInput, Faults
from sv_jax.recorded.lens import pinhole, undistort
from sv_jax.recorded.recording import OPENGL, Recording, camera_matrix, folders, of_files, same_size

FOLDERS = ("images_4", "images_8", "images_2", "images")  # the first that is there; enough pixels, and not too many
PIXELS = 2  # by which a side may differ from the full one's share, as sizes are rounded


def scenes(root: Path) -> list[Path]:
    return folders(root, "transforms.json")


def read(folder: Path, faults: Faults) -> Recording:
    path = folder / "transforms.json"
    stored = files.read_json(path)
    shown = next((folder / name for name in FOLDERS if (folder / name).is_dir()), None)
    if shown is None:
        raise BadInput("missing file", folder, f"no folder {', '.join(FOLDERS)}")
    rgb = files.numbered(shown, faults)
    size = files.size_of(next(iter(rgb.values())))
    w, h, *numbers = (float(files.entry(stored, name, path)) for name in ("w", "h", "fl_x", "fl_y", "cx", "cy"))
    part = int((re.findall(r"\d+", shown.name) or ["1"])[0])
    if max(abs(size[1] - w / part), abs(size[0] - h / part)) > PIXELS:
        same_size(path, (round(h / part), round(w / part)), size)
    K = np.diag([size[1] / w, size[0] / h, 1.0]) @ camera_matrix(*numbers)
    lens = np.array([float(stored.get(name, 0)) for name in ("k1", "k2", "p1", "p2")])
    straight = pinhole(K, lens, size)
    poses: dict[int, np.ndarray] = {}
    for frame in files.entry(stored, "frames", path):
        number = int(re.findall(r"\d+", Path(files.entry(frame, "file_path", path)).stem)[-1])
        if number in poses:
            faults.add(BadInput("duplicate id", path, f"frame {number} has two poses; the first is taken"))
        else:
            poses[number] = np.array(files.entry(frame, "transform_matrix", path), np.float64) @ OPENGL
    found = of_files(folder.name, rgb, poses, straight, faults)
    return found.through(lambda picture: undistort(picture, K, lens, straight))
