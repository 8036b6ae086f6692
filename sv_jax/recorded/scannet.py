"""ScanNet, exported: `<scan>/{color/%d.jpg, depth/%d.png, pose/%d.txt, intrinsic/intrinsic_{color,depth}.txt}`, `<scan>.txt`,
`<scan>.aggregation.json`, `instance-filt/%d.png`.

Depth in millimetres with a camera of its own (640 x 480 beside pictures of 1296 x 968, another ratio of sides); poses 4 x 4, camera to
world, OpenCV axes, metres, -inf where tracking was lost; `<scan>.txt` has the axisAlignment. The world's z axis points up. Pixels of
`instance-filt` hold 1 + `id` of the aggregation's `segGroups`, at the pictures' size.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from sv_jax.recorded import files
from sv_jax.recorded.faults import BadInput, Faults
from sv_jax.recorded.recording import Recording, folders, of_files, same_size

FPS = 30.0
SURFACES = {"wall", "floor", "ceiling", "unknown", "object", "room"}  # labels that are no object to ask about


def scenes(root: Path) -> list[Path]:
    return folders(root, "intrinsic/intrinsic_color.txt")


def read(folder: Path, faults: Faults) -> Recording:
    rgb, about = files.numbered(folder / "color", faults), _about(folder / f"{folder.name}.txt")
    K = files.matrix(folder / "intrinsic/intrinsic_color.txt", "mismatched intrinsics")[:3, :3]
    depth_K = files.matrix(folder / "intrinsic/intrinsic_depth.txt", "mismatched intrinsics")[:3, :3]
    if {"colorHeight", "colorWidth"} <= set(about):
        stated = int(about["colorHeight"][0]), int(about["colorWidth"][0])
        same_size(folder / f"{folder.name}.txt", stated, files.size_of(next(iter(rgb.values()))))
    axes = about.get("axisAlignment", np.eye(4)).reshape(4, 4)
    with np.errstate(invalid="ignore"):  # -inf times 0
        poses = {k: axes @ files.matrix(path, "bad pose") for k, path in files.numbered(folder / "pose", faults, (".txt",)).items()}

    def depth(number: int) -> np.ndarray:
        return files.millimetres(folder / "depth" / f"{number}.png")

    def ids(number: int) -> np.ndarray:
        return files.plane(folder / "instance-filt" / f"{number}.png", "missing mask")

    rate = FPS * len(rgb) / (max(rgb) - min(rgb) + 1)  # exports often keep every so-manieth frame
    more = {"depth_K": depth_K, "fps": rate, "up": True}
    if not (folder / "instance-filt").is_dir():
        return of_files(folder.name, rgb, poses, K, faults, depth, **more)
    phrases = objects(folder / f"{folder.name}.aggregation.json", "id", faults)
    return of_files(folder.name, rgb, poses, K, faults, depth, ids, phrases={k + 1: v for k, v in phrases.items()}, **more)


def objects(path: Path, key: str, faults: Faults) -> dict[int, str]:
    """Labels of a file's `segGroups` by their `key`, without surfaces. One that comes twice is a fault, and left out."""
    found: dict[int, str] = {}
    for group in files.entry(files.read_json(path), "segGroups", path):
        number = int(files.entry(group, key, path))
        if number in found:
            faults.add(BadInput("duplicate id", path, f"{key} {number} is {found[number]!r} and {group['label']!r}; the first is taken"))
        else:
            found[number] = str(files.entry(group, "label", path)).lower()
    return {number: label for number, label in found.items() if label not in SURFACES}


def _about(path: Path) -> dict[str, np.ndarray]:
    """The numbers of a scan's `name = value …` lines; {} where there is no such file."""
    out = {}
    for line in path.read_text().splitlines() if path.is_file() else ():
        name, _, values = line.partition("=")
        try:
            out[name.strip()] = np.array([float(value) for value in values.split()])
        except ValueError:
            continue
    return out
