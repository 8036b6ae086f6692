"""Every answer again from pixels: this code sees depth, ids, K, poses and the names that the ids carry, never sizes or places.

A new task is one function `(pixels, qa) -> answer` and one entry in RECOMPUTE.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from sv_jax.inputs.marks import load_mask
from sv_jax.tasks import QA
from sv_jax.tasks.numbers import plural

METRES = {"mm": 0.001, "cm": 0.01, "m": 1.0, "m²": 1.0}
RELATIVE = 0.05  # error of lengths and areas
DEGREES = 2.0  # error of a camera's angle, and of an object's heading: its turn is the difference of two
SHOWN = 0.002  # share of a frame's pixels from which an object can be told


class Unclear(Exception):
    """The question does not say which object it is about, or a careful human could answer it in two ways."""


@dataclass(frozen=True)
class Verdict:
    """How an answer compares with the one from pixels."""

    agrees: bool
    error: float  # relative; of angles in degrees; 0 or 1 for letters and counts, and 1 where the question is unclear
    found: str  # what the pixels say


class Pixels:
    """Depth, ids and cameras of a clip, with the name and colour of each id."""

    def __init__(self, depth: np.ndarray, ids: np.ndarray, K: np.ndarray, poses: np.ndarray, names: Sequence[tuple[str, str]]):
        """Depth [F, H, W] in metres, ids [F, H, W], K [3, 3], poses [F, 4, 4], (colour, name) of ids 1, 2, …"""
        self.depth, self.ids, self.K, self.poses = depth.astype(np.float64), ids, K, poses
        self.names = dict(enumerate(names, 1))
        self._clouds: dict[tuple[int, int | None], np.ndarray] = {}

    @classmethod
    def of(cls, scene) -> Pixels:
        return cls(scene.depth, scene.ids, scene.K, scene.poses, [(thing.colour, thing.name) for thing in scene.objects])

    def cloud(self, k: int, frame: int | None = None) -> np.ndarray:
        """World points [n, 3] of an id in a frame or over all: X = R z ((u + 1/2 - cx) / fx, (v + 1/2 - cy) / fy, 1) + t."""
        if (k, frame) not in self._clouds:
            f, v, u = np.nonzero(self.ids == k)
            if frame is not None:
                v, u, f = v[f == frame], u[f == frame], f[f == frame]
            z = self.depth[f, v, u]
            x, y = (u + 0.5 - self.K[0, 2]) / self.K[0, 0] * z, (v + 0.5 - self.K[1, 2]) / self.K[1, 1] * z
            self._clouds[k, frame] = (self.poses[f] @ np.stack([x, y, z, np.ones_like(z)], -1)[..., None])[:, :3, 0]
        return self._clouds[k, frame]

    def nearest(self, k: int) -> float:
        """The smallest depth of an id in the first frame."""
        return float(self.depth[0][self.ids[0] == k].min())

    def height(self, k: int) -> float:
        """Vertical extent: from the lowest to the highest pixel centre, and half a pixel more at both ends."""
        return float(np.ptp(self.cloud(k)[:, 2]) + self.nearest(k) / self.K[1, 1])

    def gap(self, a: int, b: int) -> float:
        return float(cKDTree(self.cloud(a)).query(self.cloud(b))[0].min())

    def middle(self, k: int) -> float:
        """Mean column of an id in the first frame."""
        return float(np.nonzero(self.ids[0] == k)[1].mean())

    def find(self, text: str, qa: QA) -> int:
        """The id that "the red mug", "the object in the red box", "at the red point" or "under the red mask" stands for."""
        mark = re.search(r"the object (?:in|at|under) the (\w+) (box|point|mask)", text)
        if mark is None:
            return _only([k for k, (colour, name) in self.names.items() if f"the {colour} {name}" == text and (self.ids == k).any()], text)
        found = _only([m for m in qa.marks if m["color"] == mark[1] and m["kind"] == mark[2]], text)
        if found["kind"] == "point":
            x, y = found["xy"]
            return int(self.ids[found["frame"]][int(y), int(x)])
        if found["kind"] == "mask":
            under = load_mask(found["mask"])
            k = int(_only(np.unique(self.ids[found["frame"]][under]), text))
            if not k or (under != (self.ids[found["frame"]] == k)).any():
                raise Unclear(text)
            return k
        return self.boxed(found)

    def boxed(self, mark: dict) -> int:
        """The id whose box, with 2 pixels more on each side for the outline, a mark is."""
        height, width = self.ids.shape[1:]
        found = []
        for k in self.names:
            v, u = np.nonzero(self.ids[mark["frame"]] == k)
            if len(u) and [max(0, u.min() - 2), max(0, v.min() - 2), min(width, u.max() + 3), min(height, v.max() + 3)] == mark["xyxy"]:
                found.append(k)
        return _only(found, f"box {mark['xyxy']}")


def _only(found, what: str):
    if len(found) != 1:
        raise Unclear(f"{what}: {len(found)} of them")
    return found[0]


def check(pixels: Pixels, qa: QA) -> Verdict:
    """Whether the answer of a question of one of the tasks in RECOMPUTE follows from the pixels."""
    try:
        found = RECOMPUTE[qa.task](pixels, qa)
    except Unclear as doubt:
        return Verdict(False, 1.0, f"unclear: {doubt}")
    if qa.answer_type == "choice":
        return Verdict(found == qa.answer, float(found != qa.answer), found)
    if qa.unit is None:
        wrong = not found == float(qa.answer) == qa.answer_si
        return Verdict(not wrong, float(wrong), f"{found:g}")
    if qa.unit == "°":
        error = max(abs(float(qa.answer) - np.degrees(found)), np.degrees(abs(qa.answer_si - found)))
        return Verdict(error <= DEGREES * (1 if "camera" in qa.question else 2), float(error), f"{np.degrees(found):.1f}")
    written = float(qa.answer) * METRES[qa.unit] / qa.answer_si - 1  # two digits are within 5 % of any number
    error = max(abs(found / qa.answer_si - 1), abs(written))
    return Verdict(error <= RELATIVE, float(error), f"{found / METRES[qa.unit]:.3g}")


def things(pixels: Pixels, qa: QA) -> list[int]:
    """The ids of what the question and its options name, in their order, each once."""
    phrases = sorted({f"the {colour} {name}" for colour, name in pixels.names.values()}, key=len, reverse=True)
    pattern = "|".join([r"the object (?:in|at|under) the \w+ (?:box|point|mask)", *map(re.escape, phrases)])
    text = " ".join([qa.question[0].lower() + qa.question[1:], *(qa.options or ())])
    return list(dict.fromkeys(pixels.find(name, qa) for name in re.findall(rf"(?:{pattern})\b", text)))


def object_size(pixels: Pixels, qa: QA) -> float:
    return pixels.height(_only(things(pixels, qa), "objects"))


def depth(pixels: Pixels, qa: QA) -> float:
    return pixels.nearest(_only(things(pixels, qa), "objects"))


def absolute_distance(pixels: Pixels, qa: QA) -> float:
    return pixels.gap(*_two(pixels, qa))


def _two(pixels: Pixels, qa: QA) -> list[int]:
    found = things(pixels, qa)
    if len(found) != 2:
        raise Unclear(f"{len(found)} objects instead of two")
    return found


def size_comparison(pixels: Pixels, qa: QA) -> str:
    return "AB"[int(np.argmax([pixels.height(k) for k in _two(pixels, qa)]))]


def position_comparison(pixels: Pixels, qa: QA) -> str:
    middles = [pixels.middle(k) for k in _two(pixels, qa)]
    return "AB"[int(np.argmin(middles) if "left" in qa.question else np.argmax(middles))]


def relative_distance(pixels: Pixels, qa: QA) -> str:
    anchor, *options = things(pixels, qa)
    return "ABCD"[int(np.argmin([pixels.gap(anchor, k) for k in options]))]


def counting(pixels: Pixels, qa: QA) -> float:
    """How many ids of the group some frame shows; unclear where one is seen only in slivers."""
    group = re.search(r"(?:many|the|of) ((?:\w+ )*?\w+) (?:are there in|does|in) the video", qa.question)[1].removeprefix("number of ")
    members = [k for k, (colour, name) in pixels.names.items() if group in ("objects", f"{colour} objects", plural(name))]
    most = [int((pixels.ids == k).sum((1, 2)).max()) for k in members]
    if any(0 < n < SHOWN * pixels.ids[0].size for n in most):
        raise Unclear(f"{group}: slivers of {min(n for n in most if n)} pixels")
    return float(sum(n > 0 for n in most))


def object_matching(pixels: Pixels, qa: QA) -> str:
    target, *candidates = (pixels.boxed(mark) for mark in qa.marks)
    return "ABCD"[[*candidates, target].index(target)]


def route_plan(pixels: Pixels, qa: QA) -> str:
    a, b, c = (complex(*(points.max(0) + points.min(0))[:2]) for points in map(pixels.cloud, things(pixels, qa)))
    turn = np.degrees(np.angle((c - b) / (b - a)))
    return "ABC"[qa.options.index("turn back" if abs(turn) > 135 else "turn left" if turn > 0 else "turn right")]


def area_estimation(pixels: Pixels, qa: QA) -> float:
    return footprint(pixels.cloud(_only(things(pixels, qa), "objects"))[:, :2])


def footprint(points: np.ndarray) -> float:
    """Area of the convex hull of points [n, 2], by its support: half the sum of support times edge length over many directions."""
    angles = np.linspace(0, 2 * np.pi, 2000, endpoint=False)
    points = points - points.mean(0)
    corners = points[np.argmax(points @ [np.cos(angles), np.sin(angles)], axis=0)]
    return abs(float((corners[:, 0] * np.roll(corners[:, 1], -1) - corners[:, 1] * np.roll(corners[:, 0], -1)).sum() / 2))


def obstacles(pixels: Pixels, qa: QA) -> str:
    """The option of which most lies between the two lines along which the sides of the moved object slide, and before the goal."""
    a, b, *others = (pixels.cloud(k)[:, :2] for k in things(pixels, qa))
    start, end = ((p.max(0) + p.min(0)) / 2 for p in (a, b))
    along = (end - start) / np.linalg.norm(end - start)
    across = np.array([-along[1], along[0]])
    inside = []
    for points in others:
        between = (points @ along > start @ along) & (points @ along < end @ along)
        side = points[between] @ across if between.any() else np.array([np.inf])
        inside.append(min(side.max(), (a @ across).max()) - max(side.min(), (a @ across).min()))
    return "ABCDE"[int(np.argmax(inside))]


def camera_motion(pixels: Pixels, qa: QA) -> float | str:
    """From where the camera of one frame sees the world points behind the other's pixels: the best rigid motion between the two sets."""
    i, j = _frames(pixels, qa)
    v, u = np.nonzero(np.isfinite(pixels.depth[i]))
    z = pixels.depth[i][v, u]
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


def existence(pixels: Pixels, qa: QA) -> str:
    """By the means of columns and the smallest depths of the first frame; of four phrases, the one that an id carries."""
    if len(qa.options) == 4:
        shown = [f"the {colour} {name}" for k, (colour, name) in pixels.names.items() if (pixels.ids == k).any()]
        return _only([letter for letter, option in zip("ABCD", qa.options, strict=True) if option in shown], "phrases that the clip shows")
    sides = "to the left of|to the right of|nearer to the camera than|farther from the camera than"
    noun, side, anchor = re.search(
        rf"\b(?:an?|another) ([\w ]+?)(?: be seen)? ({sides}) (the [\w ]+?)(?: in the first frame)?\?", qa.question
    ).groups()
    anchor = pixels.find(anchor, qa)
    names = {k: ("object", f"{colour} object", name) for k, (colour, name) in pixels.names.items()}
    members = [k for k in names if noun in names[k] and k != anchor and (pixels.ids[0] == k).any()]
    sign = 1 if "left" in side or "nearer" in side else -1

    def place(k):
        return sign * (pixels.nearest(k) if "camera" in side else pixels.middle(k))

    if ("another" in qa.question) != (noun in names[anchor]) or not members:
        raise Unclear(f"{noun}: {len(members)} besides {anchor}")
    return "AB"[qa.options.index("Yes" if any(place(k) < place(anchor) for k in members) else "No")]


def rotation(pixels: Pixels, qa: QA) -> float | str:
    """The camera's total angle, or the angle or sense of an object that turns, followed from frame to frame."""
    if "camera" in qa.question:
        return camera_motion(pixels, qa)
    i, j = _frames(pixels, qa)
    angle = turned(pixels, _only(things(pixels, qa), "objects"))[i:j].sum()
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


RECOMPUTE: dict[str, Callable[[Pixels, QA], float | str]] = {
    "object_size": object_size,
    "absolute_distance": absolute_distance,
    "counting": counting,
    "position_comparison": position_comparison,
    "size_comparison": size_comparison,
    "depth": depth,
    "relative_distance": relative_distance,
    "existence": existence,
    "view_change": camera_motion,
    "rotation": rotation,
    "object_matching": object_matching,
    "route_plan": route_plan,
    "obstacles": obstacles,
    "area_estimation": area_estimation,
}
