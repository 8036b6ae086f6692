"""ARKitScenes: `<video>/{lowres_wide, lowres_depth}/<video>_<seconds>.png`, `lowres_wide_intrinsics/<video>_<seconds>.pincam`,
`lowres_wide.traj`, `<video>_3dod_annotation.json`; in its 3D detection part the first four lie in `<video>_frames/`.

Depth in millimetres; a `.pincam` is w h fx fy cx cy; a line of the trajectory is the time, an axis and angle [3] and a translation [3]
of the **world to camera** motion, OpenCV axes, metres, the world's z axis up. The parts have times of their own: what is nearest, within
20 ms, belongs together; pictures without a pose near, as most of the 60 a second, are passed over. Objects are annotated as boxes: an
object's pixels are those whose point lies in its box, above the floor.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from sv_jax.recorded import files
from sv_jax.recorded.faults import BadInput, Faults
from sv_jax.recorded.recording import Recording, camera_matrix, folders, of_files, same_size
from sv_jax.tasks import geometry

NEAR = 0.02  # seconds
MARGIN = 0.02  # metres by which points may lie out of a box; what shows so near to its bottom is the floor around the object


def scenes(root: Path) -> list[Path]:
    return folders(root, "lowres_wide.traj")


def read(folder: Path, faults: Faults) -> Recording:
    video = folder.name.removesuffix("_frames")
    rgb, traj = timed(folder / "lowres_wide", ".png"), files.matrix(folder / "lowres_wide.traj", "bad pose")
    if traj.shape[1] != 7:
        raise BadInput("bad pose", folder / "lowres_wide.traj", f"{traj.shape[1]} numbers in a line, expected 7")
    pincams, depths = timed(folder / "lowres_wide_intrinsics", ".pincam"), timed(folder / "lowres_depth", ".png", "missing depth")
    times, poses, K = sorted(rgb), {}, {}
    for k, time in enumerate(times):
        i = int(np.abs(traj[:, 0] - time).argmin())
        pincam = nearest(pincams, time)
        if abs(traj[i, 0] - time) > NEAR or pincam is None:
            continue
        w, h, *numbers = files.matrix(pincam, "mismatched intrinsics").ravel()
        if not K:
            same_size(pincam, (int(h), int(w)), files.size_of(rgb[time]))
        poses[k], K[k] = camera_to_world(traj[i]), camera_matrix(*numbers)

    def depth(number: int) -> np.ndarray:
        found = nearest(depths, times[number])
        if found is None:
            raise BadInput("missing depth", rgb[times[number]], "no depth within 20 ms")
        return files.millimetres(found)

    annotation = next((p for p in (folder, folder.parent) if (p / f"{video}_3dod_annotation.json").is_file()), None)
    boxes = _boxes(annotation / f"{video}_3dod_annotation.json", faults) if annotation else []
    size = files.size_of(rgb[times[0]])

    def ids(number: int) -> np.ndarray:
        found = depth(number)
        zoom = np.diag([found.shape[1] / size[1], found.shape[0] / size[0], 1.0])
        points = geometry.world_points(np.where(found > 0, found, np.inf)[None], zoom @ K[number], poses[number][None])[0]
        out = np.zeros(found.shape, np.int32)
        for k, (_, center, axes, half) in enumerate(boxes, 1):
            inside = (np.abs((points - center) @ axes.T) <= half + MARGIN).all(-1)
            out[inside & (points[..., 2] >= center[2] - half[2] + MARGIN)] = k
        return out

    rate = len(poses) / max(times[max(poses)] - times[min(poses)], NEAR) if poses else None
    phrases = {k: label for k, (label, *_) in enumerate(boxes, 1)}
    pictures = {k: rgb[time] for k, time in enumerate(times)}
    return of_files(video, pictures, poses, K, faults, depth, ids if boxes else None, phrases=phrases, fps=rate, up=True)


def camera_to_world(line: np.ndarray) -> np.ndarray:
    """f64 [4, 4] from a line [7] of the trajectory."""
    from scipy.spatial.transform import Rotation

    pose = np.full((4, 4), np.nan)
    if np.isfinite(line).all():
        pose = np.eye(4)
        pose[:3, :3] = Rotation.from_rotvec(line[1:4]).as_matrix().T
        pose[:3, 3] = -pose[:3, :3] @ line[4:]
    return pose


def timed(folder: Path, suffix: str, missing: str = "missing file") -> dict[float, Path]:
    """Files by the seconds at the end of their names."""
    found = {float(path.stem.rsplit("_", 1)[-1]): path for path in sorted(folder.glob(f"*_*{suffix}"))}
    if not found:
        raise BadInput(missing, folder, f"no files <video>_<seconds>{suffix}")
    return found


def nearest(found: dict[float, Path], time: float) -> Path | None:
    best = min(found, key=lambda other: abs(other - time))
    return found[best] if abs(best - time) <= NEAR else None


def _boxes(path: Path, faults: Faults) -> list[tuple[str, np.ndarray, np.ndarray, np.ndarray]]:
    """Label, center [3], axes [3, 3] in rows, and half sizes [3] of each annotated box."""
    out, seen = [], set()
    for thing in files.entry(files.read_json(path), "data", path):
        if thing["uid"] in seen:
            faults.add(BadInput("duplicate id", path, f"uid {thing['uid']!r} comes twice; the first is taken"))
            continue
        seen.add(thing["uid"])
        box = thing["segments"]["obbAligned"]
        axes, half = np.reshape(box["normalizedAxes"], (3, 3)), np.array(box["axesLengths"]) / 2
        out.append((thing["label"].replace("_", " "), np.array(box["centroid"]), axes, half))
    return out
