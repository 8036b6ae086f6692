from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from sv_jax.tasks import ask
from sv_jax.tasks.manipulation import manipulation_plan
from sv_jax.tasks.view import View
from tests.tasks import walking
from tests.tasks.recompute import METRES, Pixels, things

SIDES = {"to the right of": (0, 1), "to the left of": (0, -1), "behind": (1, 1), "in front of": (1, -1)}
STEPS = {"right": (1, 0), "left": (-1, 0), "away": (0, 1), "toward": (0, -1)}


@pytest.fixture(scope="module")
def asked(full):
    scenes = [scene for scene in full if scene.scale in ("tiny", "tabletop")]
    return [
        (scene, qa) for scene in scenes for seed in range(4) for qa in ask(scene, np.random.default_rng(seed), 2, ["manipulation_plan"])
    ]


def test_one_option_alone_leads_beside_the_object_and_touches_nothing(asked):
    """From pixels: the moved outline, filled with points, goes along each list of steps."""
    assert len(asked) >= 8 and {scene.scale for scene, _ in asked} == {"tiny", "tabletop"}
    for scene, qa in asked:
        pixels = Pixels.of(scene)
        moved, goal = things(pixels, qa)
        ahead = scene.poses[0, :2, 2] / np.linalg.norm(scene.poses[0, :2, 2])
        axes = np.array([[ahead[1], -ahead[0]], ahead])
        axis, sign = next(at for side, at in SIDES.items() if f" {side} " in qa.question)
        a, b = (walking.corners(pixels, k) @ axes.T for k in (moved, goal))
        body = np.concatenate([a.mean(0) + share * (a[::3] - a.mean(0)) for share in (0.0, 0.5, 1.0)]) @ axes
        obstacles = walking.others(pixels, moved)
        good = []
        for letter, option in zip("ABCD", qa.options, strict=True):
            steps = [
                np.array(STEPS[way]) * float(length) * METRES[unit] for way, length, unit in re.findall(r"(\w+) ([\d.]+) (\w+)", option)
            ]
            assert 2 <= len(steps) <= 3
            end, size = a + np.sum(steps, axis=0), np.ptp(a, axis=0)
            gap = b[:, axis].min() - end[:, axis].max() if sign < 0 else end[:, axis].min() - b[:, axis].max()
            aside = np.abs((end.max(0) + end.min(0) - b.max(0) - b.min(0)) / 2)[1 - axis]
            if (
                -0.05 < gap / size[axis] < 0.4
                and aside < 0.3 * size.max()
                and not walking.collides(body, [s @ axes for s in steps], obstacles)
            ):
                good.append(letter)
        assert good == [qa.answer], (scene.id, qa)


def test_no_end_and_no_length_tells_the_answer(asked):
    """Two options each end at two places; the right one is the longer or shorter of its two."""
    longer = []
    for _, qa in asked:
        ends = [re.search(rf"; {letter}: (\w+) ([\d.]+) (\w+) ([\d.]+)", qa.reasoning).groups() for letter in "ABCD"]
        moves = [np.array(STEPS[a]) * float(x) + np.array(STEPS[b]) * float(y) for a, x, b, y in ends]
        right = "ABCD".index(qa.answer)
        (twin,) = [
            i for i in range(4) if i != right and np.linalg.norm(moves[i] - moves[right]) < 0.1 * np.linalg.norm(np.ptp(moves, axis=0))
        ]
        far = [sum(map(float, re.findall(r"[\d.]+", option))) for option in qa.options]
        longer.append(far[right] > far[twin])
    assert 0.15 < np.mean(longer) < 0.85


def test_nothing_is_asked_where_nothing_is_in_the_way(full):
    scene = next(scene for scene in full if scene.scale == "tabletop")
    two = View(scene).seen[:2]
    ids = np.where(np.isin(scene.ids, [s.index + 1 for s in two]), scene.ids, 0).astype(scene.ids.dtype)
    kept = {s.index for s in two}
    objects = tuple(replace(o, parent=None, center=o.center + (0 if i in kept else 100)) for i, o in enumerate(scene.objects))
    apart = View(replace(scene, ids=ids, objects=objects))
    for seed in range(10):  # only the other object itself can be in the way: never of a place on the near side
        qa = manipulation_plan(apart, np.random.default_rng(seed))
        assert qa is None or f"hits {two[0].phrase}" in qa.reasoning or f"hits {two[1].phrase}" in qa.reasoning
    assert manipulation_plan(View(next(scene for scene in full if scene.scale == "drone")), np.random.default_rng(0)) is None
