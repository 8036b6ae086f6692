"""Cameras: pinhole intrinsics, and the paths of a clip: orbits in the hand or on a turntable, walks, flights."""

from __future__ import annotations

import numpy as np

FOV = np.radians(55.0)  # across the shorter side
MARGIN = 0.03  # share of the frame that stays free of objects on every side


def intrinsics(size: tuple[int, int], fov: float = FOV) -> np.ndarray:
    """K f64 [3, 3] in pixels for frames of (H, W) that see `fov` radians across the shorter side."""
    height, width = size
    focal = min(height, width) / 2 / np.tan(fov / 2)
    return np.array([[focal, 0.0, width / 2], [0.0, focal, height / 2], [0.0, 0.0, 1.0]])


def look_along(forward: np.ndarray, roll: np.ndarray) -> np.ndarray:
    """Camera-to-world rotations f64 [F, 3, 3] (OpenCV axes) that look along unit vectors [F, 3], turned clockwise by `roll` [F]."""
    right = np.cross(forward, [0.0, 0.0, 1.0])
    right /= np.linalg.norm(right, axis=-1, keepdims=True)
    down = np.cross(forward, right)
    cos, sin = np.cos(roll)[:, None], np.sin(roll)[:, None]
    return np.stack([cos * right + sin * down, cos * down - sin * right, forward], -1)


def project(points: np.ndarray, K: np.ndarray, poses: np.ndarray) -> np.ndarray:
    """Columns, rows and z-depths [F, ..., 3] of world points [..., 3] in cameras `poses` [F, 4, 4]."""
    flat = points.reshape(-1, 3)
    camera = np.einsum("fji,fnj->fni", poses[:, :3, :3], flat[None] - poses[:, None, :3, 3])
    pixels = camera @ K.T
    return np.concatenate([pixels[..., :2] / pixels[..., 2:], camera[..., 2:]], -1).reshape(len(poses), *points.shape)


def path(
    corners: np.ndarray,
    frames: int,
    size: tuple[int, int],
    elevation: tuple[float, float],
    rng: np.random.Generator,
    sweep: tuple[float, float] = (8.0, 30.0),
    fov: float = FOV,
) -> np.ndarray:
    """Poses f64 [F, 4, 4] of an orbit around world points [n, 3], near enough to fill the frame and showing all of them in every frame.

    `elevation` is the range of angles above the horizon in radians. The clip turns by `sweep` degrees; the hand shakes a little.
    """
    low, high = corners.min(0), corners.max(0)
    radius = np.linalg.norm(high - low) / 2
    along = np.linspace(0.0, 1.0, frames)
    azimuth = rng.uniform(0, 2 * np.pi) + rng.choice([-1.0, 1.0]) * np.radians(rng.uniform(*sweep)) * along
    azimuth += np.radians(rng.uniform(-1, 1, frames))
    rise = rng.uniform(*elevation) + np.radians(rng.uniform(-4, 4)) * along + np.radians(rng.uniform(-0.7, 0.7, frames))
    stretch = (1 + rng.uniform(-0.08, 0.08) * along) * (1 + rng.uniform(-0.01, 0.01, frames))
    target = (low + high) / 2 + radius * (rng.uniform(-0.04, 0.04, 3) + rng.uniform(-0.015, 0.015, (frames, 3)))
    outward = np.stack([np.cos(rise) * np.cos(azimuth), np.cos(rise) * np.sin(azimuth), np.sin(rise)], -1)
    axes = look_along(-outward, np.radians(rng.uniform(-2, 2) + rng.uniform(-0.5, 0.5, frames)))

    # Camera coordinates are axes^T (point - target) + (0, 0, distance): the distance that just shows a point is linear in them.
    x, y, z = np.moveaxis(np.einsum("fji,fnj->fni", axes, corners[None] - target[:, None]), -1, 0)
    K = intrinsics(size, fov)
    edge = (1 - 2 * MARGIN) * np.array([K[0, 2] / K[0, 0], K[1, 2] / K[1, 1]])
    need = np.maximum(np.abs(x) / edge[0], np.abs(y) / edge[1]) - z
    distance = (need / stretch[:, None]).max() * rng.uniform(1.0, 1.2)

    poses = np.tile(np.eye(4), (frames, 1, 1))
    poses[:, :3, :3] = axes
    poses[:, :3, 3] = target + (distance * stretch)[:, None] * outward
    return poses


def walk(eyes: np.ndarray, targets: np.ndarray, rng: np.random.Generator, shake: float = 0.01) -> np.ndarray:
    """Poses f64 [F, 4, 4] of a camera that goes through `eyes` f64 [F, 3] and looks at `targets` [F, 3]; `shake` radians of the hand."""
    forward = targets - eyes
    forward /= np.linalg.norm(forward, axis=-1, keepdims=True)
    forward += rng.normal(0, shake, forward.shape)
    forward /= np.linalg.norm(forward, axis=-1, keepdims=True)
    poses = np.tile(np.eye(4), (len(eyes), 1, 1))
    poses[:, :3, :3] = look_along(forward, rng.normal(0, shake, len(eyes)))
    poses[:, :3, 3] = eyes
    return poses


def along(points: np.ndarray, frames: int) -> np.ndarray:
    """f64 [F, n]: places at even steps of a way through points [m, n], its corners rounded off."""
    fine = np.linspace(0, 1, 64)
    length = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
    dense = np.stack([np.interp(fine * length[-1], length, column) for column in points.T], -1)
    for _ in range(6):
        dense[1:-1] = (dense[:-2] + 2 * dense[1:-1] + dense[2:]) / 4
    return np.stack([np.interp(np.linspace(0, 1, frames), fine, column) for column in dense.T], -1)
