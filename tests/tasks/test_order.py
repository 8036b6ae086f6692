from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from sv_jax.scenes.scene import Object, Scene
from sv_jax.tasks import ask
from tests.tasks.recompute import Pixels, check

SIDE = 100  # an object counts from 20 pixels on


def film(shown: dict[str, list[int]]) -> Scene:
    """A clip of `SIDE` x `SIDE` pixels whose frames show each object by so many pixels."""
    frames = len(next(iter(shown.values())))
    ids = np.zeros((frames, SIDE, SIDE), np.uint8)
    for k, counts in enumerate(shown.values()):
        for frame, count in enumerate(counts):
            ids[frame, 10 * k : 10 * k + 10].reshape(-1)[:count] = k + 1
    things = tuple(Object(*reversed(phrase.split(" ", 1)), np.zeros(3), 0.0, np.ones(3), ()) for phrase in shown)
    depth, rgb = np.ones(ids.shape, np.float32), np.zeros((*ids.shape, 3), np.uint8)
    return Scene("indoor-0", "indoor", rgb, depth, ids, np.eye(3), np.tile(np.eye(4), (frames, 1, 1)), 2.0, things)


PLAIN = {
    "red mug": [400, 400, 400, 400, 400],
    "blue cup": [0, 0, 50, 50, 0],
    "green pan": [0, 0, 0, 25, 60],
    "white box": [0, 0, 0, 5, 90],
    "grey lamp": [500, 0, 0, 0, 0],
    "black book": [0, 12, 0, 0, 300],  # more than half an appearance's pixels long before: in doubt
    "pink tray": [0, 30, 30, 30, 30],
    "tan vase": [0, 15, 15, 15, 15],  # never appears
    "teal ball": [0, 0, 50, 50, 50],
}


def checked(scene: Scene, qa) -> None:
    assert (verdict := check(Pixels.of(scene), qa)).agrees, (verdict, qa)
    named = sorted(qa.semantic.split(", "))
    if "," in qa.options[0]:
        assert all(sorted(option.split(", ")) == named for option in qa.options)
    else:
        assert sorted(option.removeprefix("the ") for option in qa.options) == named
    assert qa.scale_anchor is None and not qa.marks


@pytest.fixture(scope="module")
def questions():
    scene = film(PLAIN)
    return scene, [qa for k in range(300) for qa in ask(scene, np.random.default_rng(k), 2, ["appearance_order"])]


def test_answers_follow_from_counted_pixels(questions):
    scene, asked = questions
    for qa in asked:
        checked(scene, qa)
    used = {name for qa in asked for name in qa.semantic.split(", ")}
    assert used == set(PLAIN) - {"black book", "tan vase"}
    assert {len(qa.semantic.split(", ")) for qa in asked} == {3, 4}


def test_answers_of_full_worlds_follow_from_counted_pixels(full):
    asked = [(scene, qa) for k, scene in enumerate(full) for qa in ask(scene, np.random.default_rng(k), 4, ["appearance_order"])]
    for scene, qa in asked:
        checked(scene, qa)
    assert len(asked) >= 4


def test_orders_come_in_two_pairs_that_differ_by_a_swap_of_neighbours(questions):
    whole = [qa for qa in questions[1] if "," in qa.options[0]]
    for qa in whole:
        orders = [option.split(", ") for option in qa.options]
        assert len(set(qa.options)) == 4 and all(any(_swapped(a, b) for b in orders) for a in orders)
    assert len(whole) > 200


def _swapped(a: list[str], b: list[str]) -> bool:
    differ = [i for i, (x, y) in enumerate(zip(a, b, strict=True)) if x != y]
    return len(differ) == 2 and differ[1] == differ[0] + 1


def test_a_blind_guess_is_near_chance(questions):
    """By letter, and by how many of the other options differ from an option by a swap of neighbours."""
    for whole in (True, False):
        asked = [qa for qa in questions[1] if ("," in qa.options[0]) == whole]
        for count in {len(qa.options) for qa in asked}:
            letters = Counter(qa.answer for qa in asked if len(qa.options) == count)
            assert max(letters.values()) <= letters.total() / count + 3 * np.sqrt(letters.total() / count)
    hits = expected = total = 0
    for qa in questions[1]:
        if "," in qa.options[0]:
            orders = [option.split(", ") for option in qa.options]
            near = np.array([sum(_swapped(a, b) for b in orders) for a in orders])
            best = np.flatnonzero(near == near.max())
            hits, expected, total = hits + ("ABCD".index(qa.answer) in best), expected + len(best) / 4, total + 1
    assert abs(hits - expected) <= 3 * np.sqrt(total) / 2


def test_long_clips_need_two_frames_between_appearances():
    late = {"red mug": 0, "blue cup": 5, "green pan": 6, "white box": 12}
    asked = ask(film({k: [0] * t + [400] * (16 - t) for k, t in late.items()}), np.random.default_rng(0), 9, ["appearance_order"])
    assert asked and not any({"blue cup", "green pan"} <= set(qa.semantic.split(", ")) for qa in asked)


def test_objects_that_look_alike_are_not_asked_about():
    scene = film({"red mug": [400, 400, 400], "blue cup": [0, 90, 90], "green pan": [0, 0, 90]})
    assert ask(scene, np.random.default_rng(0), 1, ["appearance_order"])
    twins = replace(scene, objects=(*scene.objects[:2], scene.objects[1]))
    assert not ask(twins, np.random.default_rng(0), 1, ["appearance_order"])
