"""Every answer again from pixels, by the code in recompute.py, which sees nothing else of the scene."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from sv_jax.scenes import generate_many
from sv_jax.scenes.scene import SCALES
from sv_jax.tasks import ask
from tests.tasks.recompute import RECOMPUTE, Pixels, check

SIX = ("object_size", "absolute_distance", "counting", "position_comparison", "size_comparison", "depth")  # what `make demo` asks
FULL = ("room_size", "appearance_order", "spatial_relation", "manipulation_plan", "navigation")  # not in plain worlds; tests of their own
# the scales of tasks that not every scale has
ONLY = {"route_plan": ("indoor", "drone"), "obstacles": ("tabletop", "tiny"), "area_estimation": ("drone", "outdoor")}


def test_answers_follow_from_depth_ids_and_cameras(scenes):
    checked = Counter()
    for k, scene in enumerate(scenes):
        pixels = Pixels.of(scene)
        for qa in ask(scene, np.random.default_rng(k), 10, SIX):
            assert (verdict := check(pixels, qa)).agrees, (verdict, qa)
            checked[qa.task, qa.scale] += 1
    assert sum(checked.values()) >= 200
    assert {task for task, _ in checked} == set(SIX)
    assert len({scale for _, scale in checked}) == 5


@pytest.fixture(scope="session")
def special():
    """More scenes of the scales that have tasks of their own: these need large objects, or four and more in the right places."""
    return list(
        generate_many(
            [(scale, seed) for scale in ("tabletop", "drone") for seed in range(124, 156)], kind="plain", frames=4, size=(112, 112)
        )
    )


@pytest.fixture(scope="module", params=[task for task in RECOMPUTE if task not in SIX + FULL])
def others(request, many):
    """Scenes and questions of one of the tasks that the demo does not ask."""
    task = request.param
    scenes = many + request.getfixturevalue("special") if task in ONLY else many
    return [(scene, qa) for k, scene in enumerate(scenes) for qa in ask(scene, np.random.default_rng(k), 3, [task])]


def test_answers_of_the_other_tasks_follow_from_depth_ids_and_cameras(others):
    for scene, qa in others:
        assert (verdict := check(Pixels.of(scene), qa)).agrees, (verdict, qa)
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
