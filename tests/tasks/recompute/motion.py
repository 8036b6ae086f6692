"""Motions of the camera and of objects that turn, from pixels."""

from __future__ import annotations

import re

import numpy as np
from scipy.spatial import ConvexHull

from sv_jax.tasks import QA
from tests.tasks.recompute.pixels import Pixels, things


def camera_motion(pixels: Pixels, qa: QA) -> float | str:
    """From where the camera of one frame sees the world points behind the other's pixels: the best rigid motion between the two sets."""
    i, j = _frames(pixels, qa)
    v, u = np.nonzero(np.isfinite(pixels.depth[i]))
    z = pixels.depth[i][v, u].astype(np.float64)
    here = np.stack([(u + 0.5 - pixels.K[0, 2]) / pixels.K[0, 0] * z, (v + 0.5 - pixels.K[1, 2]) / pixels.K[1, 1] * z, z], -1)
    world = here @ pixels.poses[i, :3, :3].T + pixels.poses[i, :3, 3]
    there = (world - pixels.poses[j, :3, 3]) @ pixels.poses[j, :3, :3]
    left, _, right = np.linalg.svd((there - there.mean(0)).T @ (here - here.mean(0)))
    turn = right.T @ left.T  # here = turn there + move
    move = here.mean(0) - turn @ there.mean(0)
    if qa.task == "rotation":
        return 2 * np.arcsin(np.linalg.norm(turn - np.eye(3)) / np.sqrt(8))
    if qa.answer_type == "number":
        return float(np.linalg.norm(move))
    ends = dict(zip(("left", "right", "up", "down", "backward", "forward"), np.outer(move, (-1, 1)).ravel(), strict=True))
    if "turn" in qa.question and "whatever its turn" not in qa.question and "not counted" not in qa.question:
        forward, aside = turn @ [0, 0, 1], turn @ [1, 0, 0]
        ends = {
            "right": forward[0],
            "left": -forward[0],
            "down": forward[1],
            "up": -forward[1],
            "clockwise": aside[1],
            "counter-clockwise": -aside[1],
        }
    return "AB"[int(ends[qa.options[1]] > ends[qa.options[0]])]


def rotation(pixels: Pixels, qa: QA) -> float | str:
    """The camera's total angle, or the angle or sense of an object that turns, followed from frame to frame."""
    if "camera" in qa.question and "camera moved" not in qa.question:  # "however the camera moved": an object's turn
        return camera_motion(pixels, qa)
    i, j = _frames(pixels, qa)
    angle = turned(pixels, *things(pixels, qa, 1))[i:j].sum()
    if qa.options:
        return "AB"[qa.options.index("counter-clockwise" if angle > 0 else "clockwise")]
    return abs(angle)


def turned(pixels: Pixels, k: int) -> np.ndarray:
    """Radians [F - 1] by which the long axis of an id turns from frame to frame, counter-clockwise from above: less than 90 degrees."""
    headings = np.array([_heading(pixels, k, frame) for frame in range(len(pixels.ids))])
    return (np.diff(headings) + np.pi / 2) % np.pi - np.pi / 2


def _heading(pixels: Pixels, k: int, frame: int) -> float:
    """Direction of the longer sides of the smallest rectangle around what a frame shows of an id, from above, of all in steps of a quarter
    degree; nan where the frame hides it."""
    points = pixels.cloud(k, frame)[:, :2]
    if len(points) < 20:
        return np.nan
    points = points[ConvexHull(points).vertices]
    angles = np.radians(np.arange(0, 90, 0.25))
    along, across = (points @ np.stack(way) for way in ((np.cos(angles), np.sin(angles)), (-np.sin(angles), np.cos(angles))))
    long, wide = np.ptp(along, axis=0), np.ptp(across, axis=0)
    best = int(np.argmin(long * wide))
    return float(angles[best] + np.pi / 2 * (wide[best] > long[best]))


def _frames(pixels: Pixels, qa: QA) -> tuple[int, int]:
    """The two frames, from 0, in the order in which the question names them."""
    last = len(pixels.poses) - 1
    named = dict.fromkeys(re.findall(r"the first frame|the last frame|frame \d+", qa.question))
    i, j = ({"the first frame": 0, "the last frame": last}.get(name, int((re.findall(r"\d+", name) or [0])[0]) - 1) for name in named)
    assert {i, j} <= set(qa.frames) and i != j
    return i, j
