"""Every answer again from pixels: this code sees depth, ids, K, poses and the names that the ids carry, never sizes or places."""

from __future__ import annotations

import re
from collections import Counter

import numpy as np
import pytest

from sv_jax.inputs.marks import load_mask
from sv_jax.scenes import generate_many
from sv_jax.scenes.scene import SCALES
from sv_jax.tasks import TASKS, ask
from sv_jax.tasks.numbers import plural

METRES = {"mm": 0.001, "cm": 0.01, "m": 1.0, "m²": 1.0}
SIX = ("object_size", "absolute_distance", "counting", "position_comparison", "size_comparison", "depth")  # what `make demo` asks
FULL = (
    "room_size",
    "appearance_order",
    "spatial_relation",
    "manipulation_plan",
    "navigation",
)  # tasks of full worlds: each has its own test
# the scales of tasks that not every scale has
ONLY = {"route_plan": ("indoor", "drone"), "obstacles": ("tabletop", "tiny"), "area_estimation": ("drone",)}


class Pixels:
    """Depth, ids and cameras of a clip, with the name and colour of each id."""

    def __init__(self, scene):
        self.depth, self.ids, self.K, self.poses = scene.depth.astype(np.float64), scene.ids, scene.K, scene.poses
        self.names = {k + 1: (o.colour, o.name) for k, o in enumerate(scene.objects)}

    def cloud(self, k: int) -> np.ndarray:
        """World points [n, 3] of an id over all frames: X = R z ((u + 1/2 - cx) / fx, (v + 1/2 - cy) / fy, 1) + t."""
        clouds = []
        for depth, ids, pose in zip(self.depth, self.ids, self.poses, strict=True):
            v, u = np.nonzero(ids == k)
            z = depth[v, u]
            x, y = (u + 0.5 - self.K[0, 2]) / self.K[0, 0] * z, (v + 0.5 - self.K[1, 2]) / self.K[1, 1] * z
            clouds.append((pose @ np.stack([x, y, z, np.ones_like(z)]))[:3].T)
        return np.concatenate(clouds)

    def height(self, k: int) -> float:
        """Vertical extent: from the lowest to the highest pixel centre, and half a pixel more at both ends."""
        z = np.concatenate([self.depth[0][self.ids[0] == k]])
        points = self.cloud(k)[:, 2]
        return points.max() - points.min() + z.min() / self.K[1, 1]

    def gap(self, a: int, b: int) -> float:
        first, second = self.cloud(a), self.cloud(b)
        return min(np.sqrt(((first[i : i + 64, None] - second) ** 2).sum(-1)).min() for i in range(0, len(first), 64))

    def find(self, text: str, qa) -> int:
        """The id that "the red mug", "the object in the red box", "at the red point" or "under the red mask" stands for."""
        mark = re.search(r"the object (?:in|at|under) the (\w+) (box|point|mask)", text)
        if mark is None:
            (k,) = {k for k, (colour, name) in self.names.items() if f"the {colour} {name}" == text and (self.ids == k).any()}
            return k
        (found,) = [m for m in qa.marks if m["color"] == mark[1] and m["kind"] == mark[2]]
        if found["kind"] == "point":
            x, y = found["xy"]
            return int(self.ids[found["frame"]][int(y), int(x)])
        if found["kind"] == "mask":
            (k,) = np.unique(self.ids[found["frame"]][load_mask(found["mask"])])
            assert k and (load_mask(found["mask"]) == (self.ids[found["frame"]] == k)).all()
            return int(k)
        x0, y0, x1, y1 = found["xyxy"]
        return next(k for k in self.names if self._fills(found["frame"], k, x0, y0, x1, y1))

    def _fills(self, frame: int, k: int, x0, y0, x1, y1) -> bool:
        """Whether the box, shrunk by the 2 pixels of its outline, is the box of id k."""
        v, u = np.nonzero(self.ids[frame] == k)
        if not len(u):
            return False
        height, width = self.ids.shape[1:]
        near = (max(0, u.min() - 2), max(0, v.min() - 2), min(width, u.max() + 3), min(height, v.max() + 3))
        return near == (x0, y0, x1, y1)


def things(pixels: Pixels, qa) -> list[str]:
    """The texts in the question and its options that stand for objects, in their order."""
    phrases = sorted({f"the {colour} {name}" for colour, name in pixels.names.values()}, key=len, reverse=True)
    pattern = "|".join([r"the object (?:in|at|under) the \w+ (?:box|point|mask)", *map(re.escape, phrases)])
    return re.findall(rf"(?:{pattern})\b", " ".join([qa.question[0].lower() + qa.question[1:], *(qa.options or ())]))


def recompute(pixels: Pixels, qa) -> float | str:
    if qa.task == "counting":
        group = re.search(r"(?:many|the|of) ((?:\w+ )*?\w+) (?:are there in|does|in) the video", qa.question)[1].removeprefix("number of ")
        visible = [pixels.names[k] for k in pixels.names if (pixels.ids == k).any()]
        return float(sum(group in ("objects", f"{colour} objects", plural(name)) for colour, name in visible))
    if qa.task == "existence":
        return existence(pixels, qa)
    if qa.task in ("view_change", "rotation"):
        return camera_motion(pixels, qa)
    if qa.task == "object_matching":
        ids = [np.flatnonzero([pixels._fills(m["frame"], k, *m["xyxy"]) for k in range(len(pixels.names) + 1)]) for m in qa.marks]
        (target,), *candidates = ids
        return "ABCD"[[*(int(k) for (k,) in candidates), target].index(target)]
    chosen = [pixels.find(text, qa) for text in things(pixels, qa)]
    if qa.task == "route_plan":
        a, b, c = (complex(*(points.max(0) + points.min(0))[:2]) for points in map(pixels.cloud, dict.fromkeys(chosen)))
        turn = np.degrees(np.angle((c - b) / (b - a)))
        return "ABC"[qa.options.index("turn back" if abs(turn) > 135 else "turn left" if turn > 0 else "turn right")]
    if qa.task == "obstacles":
        return obstacles(pixels, *chosen)
    if qa.task == "area_estimation":
        return footprint(pixels.cloud(chosen[0])[:, :2])
    if qa.task == "relative_distance":
        anchor, *options = chosen
        return "ABCD"[int(np.argmin([pixels.gap(anchor, k) for k in options]))]
    assert len(chosen) == (1 if qa.task in ("object_size", "depth") else 2), qa
    if qa.task == "object_size":
        return pixels.height(chosen[0])
    if qa.task == "depth":
        return pixels.depth[0][pixels.ids[0] == chosen[0]].min()
    if qa.task == "absolute_distance":
        return pixels.gap(*chosen)
    if qa.task == "size_comparison":
        return "AB"[int(np.argmax([pixels.height(k) for k in chosen]))]
    middle = [np.nonzero(pixels.ids[0] == k)[1].mean() for k in chosen]
    return "AB"[int(np.argmin(middle) if "left" in qa.question else np.argmax(middle))]


def footprint(points: np.ndarray) -> float:
    """Area of the convex hull of points [n, 2], by its support: half the sum of support times edge length over many directions."""
    angles = np.linspace(0, 2 * np.pi, 2000, endpoint=False)
    points = points - points.mean(0)
    corners = points[np.argmax(points @ [np.cos(angles), np.sin(angles)], axis=0)]
    return abs(float((corners[:, 0] * np.roll(corners[:, 1], -1) - corners[:, 1] * np.roll(corners[:, 0], -1)).sum() / 2))


def obstacles(pixels: Pixels, moved: int, goal: int, *options: int) -> str:
    """The option of which most lies between the two lines along which the sides of the moved object slide, and before the goal."""
    a, b, *others = (pixels.cloud(k)[:, :2] for k in (moved, goal, *options))
    start, end = ((p.max(0) + p.min(0)) / 2 for p in (a, b))
    along = (end - start) / np.linalg.norm(end - start)
    across = np.array([-along[1], along[0]])
    inside = []
    for points in others:
        between = (points @ along > start @ along) & (points @ along < end @ along)
        side = points[between] @ across if between.any() else np.array([np.inf])
        inside.append(min(side.max(), (a @ across).max()) - max(side.min(), (a @ across).min()))
    return "ABCD"[int(np.argmax(inside))]


def camera_motion(pixels: Pixels, qa) -> float | str:
    """From where the camera of one frame sees the world points behind the other's pixels: the best rigid motion between the two sets."""
    last = len(pixels.poses)
    i, j = (
        {"the first frame": 0, "the last frame": last - 1}.get(name, int((re.findall(r"\d+", name) or [0])[0]) - 1)
        for name in dict.fromkeys(re.findall(r"the first frame|the last frame|frame \d+", qa.question))
    )
    assert tuple(sorted((i, j))) == qa.frames and i != j
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


def existence(pixels: Pixels, qa) -> str:
    """By the means of columns and the smallest depths of the first frame; of four phrases, the one that an id carries."""
    if len(qa.options) == 4:
        shown = [f"the {colour} {name}" for k, (colour, name) in pixels.names.items() if (pixels.ids == k).any()]
        (letter,) = [letter for letter, option in zip("ABCD", qa.options, strict=True) if option in shown]
        return letter
    sides = "to the left of|to the right of|nearer to the camera than|farther from the camera than"
    noun, side, anchor = re.search(
        rf"\b(?:an?|another) ([\w ]+?)(?: be seen)? ({sides}) (the [\w ]+?)(?: in the first frame)?\?", qa.question
    ).groups()
    anchor = pixels.find(anchor, qa)
    names = {k: ("object", f"{colour} object", name) for k, (colour, name) in pixels.names.items()}
    members = [k for k in names if noun in names[k] and k != anchor and (pixels.ids[0] == k).any()]
    sign = 1 if "left" in side or "nearer" in side else -1

    def place(k):
        return sign * (pixels.depth[0][pixels.ids[0] == k].min() if "camera" in side else np.nonzero(pixels.ids[0] == k)[1].mean())

    assert ("another" in qa.question) == (noun in names[anchor]) and members
    return "AB"[qa.options.index("Yes" if any(place(k) < place(anchor) for k in members) else "No")]


def test_answers_follow_from_depth_ids_and_cameras(scenes):
    checked = Counter()
    for k, scene in enumerate(scenes):
        pixels = Pixels(scene)
        for qa in ask(scene, np.random.default_rng(k), 10, SIX):
            check(pixels, qa)
            checked[qa.task, qa.scale] += 1
    assert sum(checked.values()) >= 200
    assert {task for task, _ in checked} == set(SIX)
    assert len({scale for _, scale in checked}) == 5


def check(pixels: Pixels, qa) -> None:
    found = recompute(pixels, qa)
    if qa.answer_type == "choice":
        assert found == qa.answer, qa
    elif qa.task == "counting":
        assert found == float(qa.answer) == qa.answer_si, qa
    elif qa.unit == "°":
        assert np.degrees(found) == pytest.approx(np.degrees(qa.answer_si), abs=0.01), qa
        assert float(qa.answer) == pytest.approx(np.degrees(found), abs=0.51), qa
    else:
        assert found == pytest.approx(qa.answer_si, rel=0.05), qa
        assert float(qa.answer) * METRES[qa.unit] == pytest.approx(qa.answer_si, rel=0.05), qa


@pytest.fixture(scope="session")
def special():
    """More scenes of the scales that have tasks of their own: these need large objects, or four and more in the right places."""
    return list(
        generate_many(
            [(scale, seed) for scale in ("tabletop", "drone") for seed in range(124, 156)], kind="plain", frames=4, size=(112, 112)
        )
    )


@pytest.fixture(scope="module", params=[task for task in TASKS if task not in SIX + FULL])
def others(request, many):
    """Scenes and questions of one of the tasks that the demo does not ask."""
    task = request.param
    scenes = many + request.getfixturevalue("special") if task in ONLY else many
    return [(scene, qa) for k, scene in enumerate(scenes) for qa in ask(scene, np.random.default_rng(k), 3, [task])]


def test_answers_of_the_other_tasks_follow_from_depth_ids_and_cameras(others):
    for scene, qa in others:
        check(Pixels(scene), qa)
    task, scales = others[0][1].task, Counter(scene.scale for scene, _ in others)
    print(f"{task}: {len(others)} questions, {dict(scales)}")
    assert len(others) >= (10 if task in ONLY else 30) and set(scales) == set(ONLY.get(task, SCALES))


def test_a_blind_guess_is_near_chance(others):
    """What answers best without the clip, a letter or, where options repeat, an option, is right little more often than chance."""
    asked = [qa for _, qa in others if qa.options]
    if not asked:
        return
    chance = np.mean([1 / len(qa.options) for qa in asked])
    slack = 2 * np.sqrt(chance * (1 - chance) / len(asked))  # of the share that a fair coin gives
    for count in {len(qa.options) for qa in asked}:
        letters = Counter(qa.answer for qa in asked if len(qa.options) == count)
        few = np.sqrt(letters.total() / count)
        assert max(letters.values()) <= letters.total() / count + 3 * few, letters
    right = Counter(qa.options["ABCD".index(qa.answer)] for qa in asked)
    offered = Counter(option for qa in asked for option in qa.options)
    for text in offered:
        if offered[text] >= 0.3 * len(asked):
            assert right[text] / offered[text] <= chance + 0.05 + slack, (text, right[text], offered[text])
