"""Generated scenes written to disk as each source has its files, by the conventions of its own documentation."""

from __future__ import annotations

import json
import sqlite3
import struct
import zlib
from pathlib import Path

import h5py
import numpy as np
from PIL import Image

from sv_jax.scenes.scene import Scene

TURN = np.array([[0.36, 0.48, -0.8], [-0.8, 0.6, 0.0], [0.48, 0.64, 0.6]])  # of worlds that do not know up
FLIP = np.diag([1.0, -1.0, -1.0, 1.0])
FIRST, STEP = 8, 1  # numbers of frames: 8, 9, 10, 11, … stand in another order as strings
CROP = 4  # columns at each side that ScanNet's depth sees beyond the pictures


def image(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


def millimetres(depth: np.ndarray) -> np.ndarray:
    """u16, 0 where infinite or beyond 65 m."""
    return np.where(depth < 65, np.round(depth * 1000), 0).astype(np.uint16)


def turned(poses: np.ndarray, scale: float = 1.0) -> np.ndarray:
    """Camera-to-world poses [F, 4, 4] in a world that is turned, moved and scaled."""
    out = poses.copy()
    out[:, :3, :3] = TURN @ poses[:, :3, :3]
    out[:, :3, 3] = scale * (poses[:, :3, 3] @ TURN.T + [1.0, -2.0, 0.5])
    return out


def text(path: Path, rows: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(" ".join(repr(float(value)) for value in row) for row in np.atleast_2d(rows)) + "\n")


def video(path: Path, frames: np.ndarray, rate: int, codec: str = "libx264", front: bool = False) -> None:
    import av

    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", options={"movflags": "faststart"} if front else {}) as out:
        stream = out.add_stream(codec, rate=rate, options={"crf": "4"} if codec == "libx264" else {})
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p" if codec == "libx264" else "bgr0"
        for frame in frames:
            out.mux(stream.encode(av.VideoFrame.from_ndarray(frame, "rgb24")))
        out.mux(stream.encode())


def wildrgbd(root: Path, scene: Scene, name: str = "scenes_001") -> Path:
    folder = root / "mug" / "scenes" / name
    lines = []
    for i, pose in enumerate(turned(scene.poses)):
        image(folder / f"rgb/{i:05d}.png", scene.frames[i])
        image(folder / f"depth/{i:05d}.png", millimetres(scene.depth[i]))
        image(folder / f"masks/{i:05d}.png", np.where(scene.ids[i] == 1, 255, 0).astype(np.uint8))
        lines.append([i, *pose.ravel()])
    text(folder / "cam_poses.txt", np.array(lines))
    height, width = scene.ids.shape[1:]
    columns = [scene.K[row, column] for column in range(3) for row in range(3)]
    (folder / "metadata").write_text(json.dumps({"w": width, "h": height, "K": columns}))
    return folder


def smot(root: Path, scene: Scene, name: str = "seq01") -> Path:
    folder = root / name
    lines = []
    for i, pose in enumerate(turned(scene.poses), FIRST):
        image(folder / f"rgb/{i:06d}.png", scene.frames[i - FIRST])
        image(folder / f"depth/{i:06d}.png", millimetres(scene.depth[i - FIRST]))
        image(folder / f"masks/{i:06d}.png", scene.ids[i - FIRST])
        lines.append([i, *pose.ravel()])
    text(folder / "poses.txt", np.array(lines))
    text(folder / "intrinsics.txt", scene.K)
    (folder / "objects.json").write_text(json.dumps({str(k): thing.phrase for k, thing in enumerate(scene.objects, 1)}))
    return folder


def scannet(root: Path, scene: Scene, name: str = "scene0001_00") -> Path:
    """Pictures lack CROP columns at each side; the stored world is turned about z, which the axis alignment takes back."""
    folder, inner = root / name, slice(CROP, -CROP)
    align = np.array([[0.8, -0.6, 0.0, 1.0], [0.6, 0.8, 0.0, -2.0], [0.0, 0.0, 1.0, 0.25], [0.0, 0.0, 0.0, 1.0]])
    for i, pose in enumerate(np.linalg.inv(align) @ scene.poses, FIRST):
        image(folder / f"color/{i}.png", scene.frames[i - FIRST][:, inner])  # ScanNet's are jpg, which would change the pixels
        image(folder / f"depth/{i}.png", millimetres(scene.depth[i - FIRST]))
        image(folder / f"instance-filt/{i}.png", np.where(scene.ids[i - FIRST], scene.ids[i - FIRST] + 1, 1)[:, inner].astype(np.uint8))
        text(folder / f"pose/{i}.txt", pose)
    K = np.eye(4)
    K[:3, :3] = scene.K
    text(folder / "intrinsic/intrinsic_depth.txt", K)
    K[0, 2] -= CROP
    text(folder / "intrinsic/intrinsic_color.txt", K)
    height, width = scene.ids.shape[1:]
    about = {"axisAlignment": align.ravel(), "colorWidth": [width - 2 * CROP], "colorHeight": [height]}
    lines = [f"{key} = {' '.join(repr(float(v)) if key == 'axisAlignment' else str(v) for v in values)}" for key, values in about.items()]
    (folder / f"{name}.txt").write_text("\n".join([*lines, "sceneType = Kitchen"]))
    groups = [{"id": 0, "objectId": 0, "label": "floor"}]
    groups += [{"id": k, "objectId": k, "label": thing.name} for k, thing in enumerate(scene.objects, 1)]
    (folder / f"{name}.aggregation.json").write_text(json.dumps({"segGroups": groups}))
    return folder


def scannetpp(root: Path, scene: Scene, name: str = "0a1b", blocks: bool = False) -> Path:
    """`scene` of 192 x 256 pixels. `blocks` stores the depth frame by frame."""
    phone = root / "data" / name / "iphone"
    video(phone / "rgb.mkv", scene.frames, 60)
    frames = {}
    for i, pose in enumerate(scene.poses):
        frames[f"frame_{i:06d}"] = {"timestamp": i / 60, "aligned_pose": pose.tolist(), "intrinsic": scene.K.tolist()}
    (phone / "pose_intrinsic_imu.json").write_text(json.dumps(dict(reversed(frames.items()))))
    stored = np.where(np.isfinite(scene.depth), scene.depth, 0).astype(np.float32)
    parts = [deflate(frame.tobytes()) for frame in stored]
    data = b"".join(struct.pack("<i", len(part)) + part for part in parts) if blocks else deflate(stored.tobytes())
    (phone / "depth.bin").write_bytes(data)
    return root / "data" / name


def deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


def arkit(root: Path, scene: Scene, name: str = "40777060") -> Path:
    """The trajectory is 4 ms late and its first line is of no picture; intrinsics are 1 ms late."""
    folder = root / "Training" / name
    lines = [[99.0, 0, 0, 0, 0, 0, 0]]
    height, width = scene.ids.shape[1:]
    for i, pose in enumerate(scene.poses):
        time = 99.5 + i / 2  # 99.5, 100.0, 100.5: another order as strings
        image(folder / f"lowres_wide/{name}_{time:.3f}.png", scene.frames[i])
        image(folder / f"lowres_depth/{name}_{time:.3f}.png", millimetres(scene.depth[i]))
        pincam = [width, height, scene.K[0, 0], scene.K[1, 1], scene.K[0, 2], scene.K[1, 2]]
        text(folder / f"lowres_wide_intrinsics/{name}_{time + 0.001:.3f}.pincam", pincam)
        lines.append([time + 0.004, *rotation_vector(pose[:3, :3].T), *(-pose[:3, :3].T @ pose[:3, 3])])
    text(folder / "lowres_wide.traj", np.array(lines))
    data = []
    for k, thing in enumerate(scene.objects):
        box = {"centroid": thing.center.tolist(), "axesLengths": thing.size.tolist(), "normalizedAxes": thing.rotation.T.ravel().tolist()}
        data.append({"uid": f"u{k}", "label": thing.name.replace(" ", "_"), "segments": {"obbAligned": box}})
    (folder / f"{name}_3dod_annotation.json").write_text(json.dumps({"data": data, "skipped": False}))
    return folder


def rotation_vector(R: np.ndarray) -> np.ndarray:
    """Axis times angle of a rotation by less than pi, from its eigenvector."""
    values, vectors = np.linalg.eig(R)
    axis = np.real(vectors[:, np.argmin(np.abs(values - 1))])
    angle = np.arccos(np.clip((np.trace(R) - 1) / 2, -1, 1))
    sine = np.array([R[2, 1] - R[1, 2], R[0, 2] - R[2, 0], R[1, 0] - R[0, 1]]) @ axis / 2
    return axis / np.linalg.norm(axis) * (angle if sine >= 0 else -angle)


def dl3dv(root: Path, scene: Scene, name: str = "1a2b3c") -> Path:
    """Pictures at a quarter of the size that the intrinsics are for."""
    folder = root / "1K" / name
    frames = []
    for i, pose in enumerate(turned(scene.poses, 3.7), 1):
        image(folder / f"images_4/frame_{i:05d}.png", scene.frames[i - 1])
        frames.append({"file_path": f"images/frame_{i:05d}.png", "transform_matrix": (pose @ FLIP).tolist()})
    height, width = scene.ids.shape[1:]
    K = 4 * scene.K
    stored = {"w": 4 * width, "h": 4 * height, "fl_x": K[0, 0], "fl_y": K[1, 1], "cx": K[0, 2], "cy": K[1, 2]}
    (folder / "transforms.json").write_text(json.dumps(stored | {"camera_model": "OPENCV", "frames": frames[::-1]}))
    return folder


def uco3d(root: Path, scene: Scene, name: str = "1-2-3", scale: float = 0.5) -> Path:
    """One frame in two of the video has a row; the unit is `scale` metres, the stored depth half of that again."""
    folder = root / "kitchen" / "coffee_mug" / name
    video(folder / "rgb_video.mp4", np.repeat(scene.frames, 2, 0), 20, front=True)
    mask = np.repeat(np.where(scene.ids == 1, 255, 0).astype(np.uint8)[..., None], 3, -1)
    video(folder / "mask_video.mkv", np.repeat(mask, 2, 0), 20, "ffv1")
    with sqlite3.connect(root / "metadata.sqlite") as base:
        base.execute("CREATE TABLE IF NOT EXISTS sequence_annots (sequence_name, category, super_category)")
        base.execute("INSERT INTO sequence_annots VALUES (?, 'coffee_mug', 'kitchen')", (name,))
        columns = "sequence_name, frame_number, frame_timestamp, _image_size, _depth_scale_adjustment, _viewpoint_R, _viewpoint_T, "
        columns += "_viewpoint_focal_length, _viewpoint_principal_point, _viewpoint_colmap_distortion_coeffs, _viewpoint_intrinsics_format"
        base.execute(f"CREATE TABLE IF NOT EXISTS frame_annots ({columns})")
        height, width = scene.ids.shape[1:]
        half = min(height, width) / 2
        for i, pose in enumerate(turned(scene.poses, 1 / scale)):
            # X_cam = X_world R + T with x left and y up, of X_cam' = R'^T (X_world - t') with x right and y down
            mirror = np.diag([-1.0, -1.0, 1.0])
            R = pose[:3, :3] @ mirror
            T = -pose[:3, 3] @ pose[:3, :3] @ mirror
            focal, center = scene.K[[0, 1], [0, 1]] / half, (np.array([width, height]) / 2 - scene.K[:2, 2]) / half
            packed = [struct.pack(f"{np.size(v)}f", *np.ravel(v)) for v in (R, T, focal, center, np.zeros(12))]
            row = [name, i, i / 10, struct.pack("2i", height, width), 2.0, *packed, "ndc_isotropic"]
            base.execute(f"INSERT INTO frame_annots VALUES ({', '.join('?' * len(row))})", row)
    base.close()
    with h5py.File(folder / "depth_maps.h5", "w") as file:
        for i, plane in enumerate(scene.depth, 1):
            file[str(i)] = np.where(np.isfinite(plane), plane / scale / 2, 0).astype(np.float32)
    return folder
