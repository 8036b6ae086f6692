"""The size of a room, from pixels."""

from __future__ import annotations

import numpy as np

from sv_jax.tasks import QA
from tests.tasks.recompute.pixels import Pixels


def room_size(pixels: Pixels, qa: QA) -> float:
    area, height = measured(pixels)
    return area * height if qa.unit == "m³" else area


def measured(pixels: Pixels) -> tuple[float, float]:
    """Area and height from background points alone: walls lie where many more of the points between floor and ceiling have one
    x or y than those around it; of the cells between them, the floor's are those with points on the
    ground or the ceiling."""
    points = pixels.cloud(0)
    height = points[:, 2].max()
    upright = points[(points[:, 2] > 0.05) & (points[:, 2] < height - 0.05)]
    planes = []
    for values in upright[:, :2].T:
        counts, edges = np.histogram(values, np.arange(values.min() - 0.025, values.max() + 0.05, 0.02))
        around = [np.median(counts[max(0, i - 10) : i + 11]) for i in range(len(counts))]
        many = np.flatnonzero((counts > 5 * np.array(around)) & (counts > 0.004 * len(upright)))
        groups = np.split(many, np.flatnonzero(np.diff(many) > 2) + 1)
        planes.append([np.median(values[(values >= edges[g[0]]) & (values <= edges[g[-1] + 1])]) for g in groups])
    level = points[(points[:, 2] < 0.02) | (points[:, 2] > height - 0.02)]
    for axis, walls in enumerate(planes):  # what lies on a wall belongs to neither side
        level = level[np.abs(level[:, axis, None] - walls).min(1) > 0.03]
    cells, *_ = np.histogram2d(level[:, 0], level[:, 1], planes)
    return float(np.diff(planes[0]) @ (cells > 0.001 * len(level)) @ np.diff(planes[1])), float(height)
