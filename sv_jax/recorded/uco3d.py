"""uCO3D: `metadata.sqlite` and `<super-category>/<category>/<sequence>/{rgb_video.mp4, mask_video.mkv, depth_maps.h5}`.

The tables are those of the released code: `frame_annots` has for each frame its time in the video, PyTorch3D's R and T (rows: X_cam =
X_world R + T, x left, y up, z forward), intrinsics in NDC, 12 coefficients of the lens, tuples as packed f32 or i32, and a factor for
the depth. Depth is stored by frame number + 1, for the undistorted picture. It is consistent within a sequence and not metric. Masks
show the one object.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import numpy as np

from sv_jax.recorded import files
from sv_jax.recorded.faults import BadInput, Faults
from sv_jax.recorded.lens import pinhole, undistort
from sv_jax.recorded.recording import Recording, camera_matrix, finite, same_size

COLUMNS = "frame_number, frame_timestamp, _image_size, _depth_scale_adjustment, _viewpoint_R, _viewpoint_T, _viewpoint_focal_length, "
COLUMNS += "_viewpoint_principal_point, _viewpoint_colmap_distortion_coeffs, _viewpoint_intrinsics_format"


def scenes(root: Path) -> list[Path]:
    """The sequences of `metadata.sqlite` that are there: a download often has some categories only."""
    if not (root / "metadata.sqlite").is_file():
        return []
    rows = _query(root / "metadata.sqlite", "SELECT super_category, category, sequence_name FROM sequence_annots")
    return sorted(folder for names in rows if (folder := root.joinpath(*map(str, names))).is_dir())


def read(folder: Path, faults: Faults) -> Recording:
    database, video = folder.parents[2] / "metadata.sqlite", folder / "rgb_video.mp4"
    query = f"SELECT {COLUMNS} FROM frame_annots WHERE sequence_name = ? ORDER BY frame_number"
    rows = {row[0]: row[1:] for row in _query(database, query, folder.name)}
    names = {number: f"{video}:{number}" for number in rows}
    cameras = {number: camera(*row[3:7], row[8], row[1]) for number, row in rows.items() if row[3] is not None}
    poses = finite({number: pose for number, (pose, _) in cameras.items()}, names, faults)
    if not poses:
        raise BadInput("too few frames", video, "no frame has a pose")
    numbers = list(poses)
    size = tuple(np.frombuffer(rows[numbers[0]][1], np.int32).tolist())
    first, lens = cameras[numbers[0]][1], np.frombuffer(rows[numbers[0]][7] or bytes(48), np.float32)
    straight = pinhole(first, lens, size)

    def film(file: Path, chosen: Sequence[int]) -> list[np.ndarray]:
        rate = files.video_rate(file)
        return files.video_frames(file, [round(rows[numbers[i]][0] * rate) for i in chosen])

    def rgb(chosen: Sequence[int]) -> list[np.ndarray]:
        found = film(video, chosen)
        same_size(database, size, found[0].shape[:2])
        return [undistort(picture, first, lens, straight) for picture in found]

    def ids(i: int) -> np.ndarray:
        mask = film(folder / "mask_video.mkv", [i])[0][..., 0] >= 128
        return undistort(mask.astype(np.int32), first, lens, straight, order=0) if mask.shape == size else mask.astype(np.int32)

    def depth(i: int) -> np.ndarray:
        return stored_depth(folder / "depth_maps.h5", numbers[i] + 1) * rows[numbers[i]][2]

    times = [rows[k][0] for k in numbers]
    return Recording(
        folder.name,
        [names[k] for k in numbers],
        np.stack(list(poses.values())),
        np.stack([cameras[k][1] - first + straight for k in numbers]),
        rgb,
        depth,
        ids,
        {1: folder.parent.name.replace("_", " ")},
        fps=(len(times) - 1) / (times[-1] - times[0]) if times[-1] > times[0] else None,
    )


def camera(R: bytes, T: bytes, focal: bytes, center: bytes, format: str, size: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Pose f64 [4, 4] (camera to world, OpenCV axes) and K [3, 3] of a row's columns."""
    r, t, f, c = (np.frombuffer(column, np.float32).astype(np.float64) for column in (R, T, focal, center))
    h, w = np.frombuffer(size, np.int32)
    turn = r.reshape(3, 3) * [-1, -1, 1]  # columns are the camera's axes in the world: x left and y up become right and down
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = turn, -turn @ (t * [-1, -1, 1])
    unit = np.array([w, h]) / 2 if format == "ndc_norm_image_bounds" else np.full(2, min(w, h) / 2)
    return pose, camera_matrix(*(f * unit), *(np.array([w, h]) / 2 - c * unit))


def stored_depth(path: Path, number: int) -> np.ndarray:
    """f32 [h, w] of an HDF5 file's data set with this name."""
    try:
        import h5py
    except ImportError:
        raise BadInput("missing library", path, "its depth is HDF5; pip install h5py") from None
    try:
        with h5py.File(path) as file:
            return file[str(number)][:].astype(np.float32)
    except (OSError, KeyError) as error:
        raise BadInput("missing depth", path, f"no data set {number} ({error})") from None


def _query(database: Path, query: str, *values: str) -> list[tuple]:
    try:
        with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
            return connection.execute(query, values).fetchall()
    except sqlite3.Error as error:
        raise BadInput("broken file", database, f"cannot be read ({error})") from None
