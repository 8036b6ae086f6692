from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from sv_jax.tasks import ask, legs
from sv_jax.tasks.navigation import navigation
from sv_jax.tasks.view import View
from tests.tasks.recompute import Pixels, check
from tests.tasks.recompute.plans import followed


@pytest.fixture(scope="module")
def asked(full):
    scenes = [scene for scene in full if scene.scale in ("outdoor", "drone")]
    return [(scene, qa) for scene in scenes for seed in range(6) for qa in ask(scene, np.random.default_rng(seed), 3, ["navigation"])]


def test_one_option_alone_leads_to_the_goal_past_everything(asked):
    assert len(asked) >= 20 and {scene.scale for scene, _ in asked} == {"outdoor", "drone"}
    for scene, qa in asked:
        assert (verdict := check(Pixels.of(scene), qa)).agrees, (verdict, qa)


def test_wrong_ways_are_mirrored_or_turn_alike(asked):
    longer = []
    for _, qa in asked:
        ways = [followed(option) for option in qa.options]
        right = ways["ABCD".index(qa.answer)]
        assert [leg.conjugate() for leg in right] in ways
        (twin,) = [w for w in ways if w is not right and abs(sum(w) - sum(right)) < 0.2 * abs(sum(right))]
        np.testing.assert_allclose(*([leg / abs(leg) for leg in way] for way in (twin, right)), atol=1e-9)
        longer.append(abs(twin[0]) < abs(right[0]))
    assert 0.2 < np.mean(longer) < 0.8
    assert max(Counter(qa.answer for _, qa in asked).values()) <= 0.6 * len(asked)


def test_other_scales_have_no_navigation(full):
    for scene in full:
        if scene.scale not in ("outdoor", "drone"):
            assert navigation(View(scene), np.random.default_rng(0)) is None


def test_lengths_are_rounded_as_texts_state_them():
    lengths = np.random.default_rng(0).normal(size=2000) * np.logspace(-3, 3, 2000)
    lengths[:4] = 0, 9.96, 100, -0.0996
    np.testing.assert_array_equal(legs.rounded(lengths), [float(f"{length:.1e}") for length in lengths])


def test_the_right_and_the_wrong_way_turn_alike_and_neither_length_is_rarer():
    plans = legs.plans(np.array([4.0, 3.0]), 3.0, 0.5)
    first = np.abs(plans[:, 0]).sum(-1)
    rng = np.random.default_rng(0)
    free = rng.random(len(plans)) < 0.4
    longer = []
    for _ in range(100):
        right, wrong = legs.right_and_wrong(rng, plans, free, ~free)
        assert free[right] and not free[wrong] and first[right] != first[wrong]
        np.testing.assert_array_equal(np.sign(plans[right]), np.sign(plans[wrong]))
        longer.append(first[right] > first[wrong])
    assert 0.35 < np.mean(longer) < 0.65  # three standard errors
    far = first > 2.5  # where all right ways start longer, that would tell
    assert legs.right_and_wrong(rng, plans, far, ~far) is None
