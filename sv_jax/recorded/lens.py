"""Lens distortion as OpenCV has it: coefficients k1 k2 p1 p2 k3 k4 k5 k6 s1 s2 s3 s4, those that are left out are 0."""

from __future__ import annotations

import numpy as np

ROUNDS = 20  # of the fixed point that inverts a distortion
BORDER = 9  # points along each side that decide how much of a picture is kept


def undistort(image: np.ndarray, K: np.ndarray, lens: np.ndarray, out: np.ndarray, order: int = 1) -> np.ndarray:
    """[H, W, …] as a pinhole camera `out` [3, 3] sees it, from one with K [3, 3] and a lens. `order` 0 takes the nearest pixel, for ids."""
    from scipy import ndimage

    if np.array_equal(K, out):
        return image
    height, width = image.shape[:2]
    u, v = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    x, y = distort((u - out[0, 2]) / out[0, 0], (v - out[1, 2]) / out[1, 1], lens)
    places = [y * K[1, 1] + K[1, 2] - 0.5, x * K[0, 0] + K[0, 2] - 0.5]
    planes = image.reshape(height, width, -1).transpose(2, 0, 1)
    return np.stack([ndimage.map_coordinates(p, places, order=order, mode="nearest") for p in planes], -1).reshape(image.shape)


def pinhole(K: np.ndarray, lens: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """[3, 3]: the camera whose picture of (H, W) is the largest upright rectangle that the distorted picture fills, stretched; OpenCV's
    getOptimalNewCameraMatrix with alpha 0."""
    if not lens.any():
        return K
    height, width = size
    columns, rows = np.linspace(0.5, width - 0.5, BORDER), np.linspace(0.5, height - 0.5, BORDER)
    u, v = np.meshgrid(columns, rows)
    x, y = _straight((u - K[0, 2]) / K[0, 0], (v - K[1, 2]) / K[1, 1], lens)
    left, right, top, bottom = x[:, 0].max(), x[:, -1].min(), y[0].max(), y[-1].min()
    fx, fy = (width - 1) / (right - left), (height - 1) / (bottom - top)
    return np.array([[fx, 0, 0.5 - fx * left], [0, fy, 0.5 - fy * top], [0, 0, 1]])


def distort(x: np.ndarray, y: np.ndarray, lens: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where a lens puts points of the plane at depth 1."""
    k1, k2, p1, p2, k3, k4, k5, k6, s1, s2, s3, s4 = np.pad(lens.astype(np.float64), (0, 12 - len(lens)))
    r = x * x + y * y
    radial = (1 + r * (k1 + r * (k2 + r * k3))) / (1 + r * (k4 + r * (k5 + r * k6)))
    return (
        x * radial + 2 * p1 * x * y + p2 * (r + 2 * x * x) + s1 * r + s2 * r * r,
        y * radial + 2 * p2 * x * y + p1 * (r + 2 * y * y) + s3 * r + s4 * r * r,
    )


def _straight(x: np.ndarray, y: np.ndarray, lens: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The inverse of `distort`."""
    a, b = x, y
    for _ in range(ROUNDS):
        c, d = distort(a, b, lens)
        a, b = a + x - c, b + y - d
    return a, b
