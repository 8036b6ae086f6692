from __future__ import annotations

import re
from collections import Counter

import numpy as np
import pytest

from sv_jax.tasks import ask
from sv_jax.tasks.navigation import navigation
from sv_jax.tasks.view import View
from tests.tasks import walking
from tests.tasks.recompute import Pixels, things


@pytest.fixture(scope="module")
def asked(full):
    scenes = [scene for scene in full if scene.scale in ("outdoor", "drone")]
    return [(scene, qa) for scene in scenes for seed in range(3) for qa in ask(scene, np.random.default_rng(seed), 3, ["navigation"])]


def follow(commands: str) -> list[complex]:
    """The legs of "turn left, go forward 20 m, …" as complex numbers; 1 is the way that one faces at first."""
    heading, legs = 1 + 0j, []
    for step in commands.split(", "):
        if step.startswith("turn"):
            heading *= {"left": 1j, "right": -1j, "around": -1}[step.split()[1]]
        else:
            legs.append(heading * float(re.fullmatch(r"go forward ([\d.]+) m", step)[1]))
    return legs


def test_one_option_alone_leads_to_the_goal_past_everything(asked):
    assert len(asked) >= 20 and {scene.scale for scene, _ in asked} == {"outdoor", "drone"}
    for scene, qa in asked:
        pixels = Pixels.of(scene)
        places = dict(zip("acb", things(pixels, qa), strict=True))
        a, b, c = (complex(*(np.add(*(f(pixels.cloud(places[key])[:, :2], axis=0) for f in (np.min, np.max))) / 2)) for key in "abc")
        ahead, obstacles, good = (c - a) / abs(c - a), walking.others(pixels, places["a"], places["b"]), []
        for letter, option in zip("ABCD", qa.options, strict=True):
            legs = [leg * ahead for leg in follow(option)]
            ways = [np.array([leg.real, leg.imag]) for leg in legs]
            if abs(a + sum(legs) - b) < 0.15 * abs(b - a) and not walking.collides(np.array([[a.real, a.imag]]), ways, obstacles):
                good.append(letter)
        assert good == [qa.answer], (scene.id, qa)


def test_wrong_ways_are_mirrored_or_as_long_either_way(asked):
    longer = []
    for _, qa in asked:
        ways = [follow(option) for option in qa.options]
        right = ways["ABCD".index(qa.answer)]
        assert [leg.conjugate() for leg in right] in ways
        (twin,) = [w for w in ways if w is not right and abs(sum(w) - sum(right)) < 0.2 * abs(sum(right))]
        assert len(twin) == len(right)
        longer.append(sum(map(abs, twin)) < sum(map(abs, right)))
    assert 0.2 < np.mean(longer) < 0.8
    assert max(Counter(qa.answer for _, qa in asked).values()) <= 0.6 * len(asked)


def test_other_scales_have_no_navigation(full):
    for scene in full:
        if scene.scale not in ("outdoor", "drone"):
            assert navigation(View(scene), np.random.default_rng(0)) is None
