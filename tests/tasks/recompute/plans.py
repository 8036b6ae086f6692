"""Ways on the ground, from pixels: outlines of what shows, and whether something that moves along legs runs into them."""

from __future__ import annotations

import re

import numpy as np

from sv_jax.tasks import QA
from tests.tasks.recompute.pixels import METRES, Pixels, only, things, within

SIDES = {"to the right of": (0, 1), "to the left of": (0, -1), "behind": (1, 1), "in front of": (1, -1)}
STEPS = {"right": (1, 0), "left": (-1, 0), "away": (0, 1), "toward": (0, -1)}


def others(pixels: Pixels, *without: int) -> list[np.ndarray]:
    """The outlines of all ids that show, but some."""
    return [pixels.outline(k) for k in pixels.shown if k not in without and pixels.counts[:, k].sum() >= 50]


def collides(body: np.ndarray, legs: list[np.ndarray], obstacles: list[np.ndarray]) -> bool:
    """Whether points `body` [n, 2] that move along legs, each [2], come to lie in an obstacle's outline."""
    at, places = np.zeros(2), max(30, 300 // len(body))
    for leg in legs:
        way = body + (at + np.linspace(0, 1, places)[:, None] * leg)[:, None]
        if any(within(way.reshape(-1, 2), obstacle).any() for obstacle in obstacles):
            return True
        at = at + leg
    return False


def route_plan(pixels: Pixels, qa: QA) -> str:
    a, b, c = (complex(*(points.max(0) + points.min(0))[:2]) for points in map(pixels.cloud, things(pixels, qa)))
    turn = np.degrees(np.angle((c - b) / (b - a)))
    return "ABC"[qa.options.index("turn back" if abs(turn) > 135 else "turn left" if turn > 0 else "turn right")]


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


def manipulation_plan(pixels: Pixels, qa: QA) -> str:
    """The option whose steps move the outline, filled with points, close to the asked side of the other one without touching anything."""
    return only(slid_beside(pixels, qa, *things(pixels, qa, 2)), "ways that lead there past everything")


def slid_beside(pixels: Pixels, qa: QA, moved: int, goal: int) -> list[str]:
    """The options that lead close to the asked side of the object with id `goal` without touching anything."""
    ahead = pixels.poses[0, :2, 2] / np.linalg.norm(pixels.poses[0, :2, 2])
    axes = np.array([[ahead[1], -ahead[0]], ahead])
    axis, sign = next(at for side, at in SIDES.items() if f" {side} " in qa.question)
    a, b = (pixels.outline(k) @ axes.T for k in (moved, goal))
    edges = np.concatenate([a, (a + np.roll(a, -1, 0)) / 2])
    body = np.concatenate([edges, *(a.mean(0) + share * (a[::3] - a.mean(0)) for share in (0.0, 0.5))]) @ axes
    obstacles, good = others(pixels, moved), []
    for letter, option in zip("ABCD", qa.options, strict=True):
        legs = [np.array(STEPS[way]) * float(length) * METRES[unit] for way, length, unit in re.findall(r"(\w+) ([\d.]+) (\w+)", option)]
        end, size = a + np.sum(legs, axis=0), np.ptp(a, axis=0)
        gap = b[:, axis].min() - end[:, axis].max() if sign < 0 else end[:, axis].min() - b[:, axis].max()
        aside = np.abs((end.max(0) + end.min(0) - b.max(0) - b.min(0)) / 2)[1 - axis]
        there = -0.05 < gap / size[axis] < 0.4 and aside < 0.3 * size.max()
        if there and not collides(body, [leg @ axes for leg in legs], obstacles):
            good.append(letter)
    return good


def navigation(pixels: Pixels, qa: QA) -> str:
    """The option whose instructions lead from the first landmark to the goal past the outlines of all others."""
    named = dict(zip("acb", things(pixels, qa, 3), strict=True))
    a, b, c = (complex(*(np.add(*(f(pixels.cloud(named[key])[:, :2], axis=0) for f in (np.min, np.max))) / 2)) for key in "abc")
    ahead, obstacles, good = (c - a) / abs(c - a), others(pixels, named["a"], named["b"]), []
    for letter, option in zip("ABCD", qa.options, strict=True):
        legs = [leg * ahead for leg in followed(option)]
        ways = [np.array([leg.real, leg.imag]) for leg in legs]
        if abs(a + sum(legs) - b) < 0.15 * abs(b - a) and not collides(np.array([[a.real, a.imag]]), ways, obstacles):
            good.append(letter)
    return only(good, "ways that lead there past everything")


def followed(commands: str) -> list[complex]:
    """The legs of "turn left, go forward 20 m, …" as complex numbers; 1 is the way that one faces at first."""
    heading, legs = 1 + 0j, []
    for step in commands.split(", "):
        if step.startswith("turn"):
            heading *= {"left": 1j, "right": -1j, "around": -1}[step.split()[1]]
        else:
            legs.append(heading * float(re.fullmatch(r"go forward ([\d.]+) m", step)[1]))
    return legs
