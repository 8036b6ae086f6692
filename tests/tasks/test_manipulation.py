from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from sv_jax.tasks import ask, legs
from sv_jax.tasks.manipulation import manipulation_plan
from sv_jax.tasks.view import View
from tests.tasks.recompute import Pixels, check
from tests.tasks.recompute.pixels import things
from tests.tasks.recompute.plans import slid_beside


@pytest.fixture(scope="module")
def asked(full):
    scenes = [scene for scene in full if scene.scale in ("tiny", "tabletop")]
    return [
        (scene, qa) for scene in scenes for seed in range(6) for qa in ask(scene, np.random.default_rng(seed), 2, ["manipulation_plan"])
    ]


def test_one_option_alone_leads_beside_the_object_and_touches_nothing(asked):
    """From pixels: the moved outline, filled with points, goes along each list of steps."""
    assert len(asked) >= 8 and {scene.scale for scene, _ in asked} == {"tiny", "tabletop"}
    for scene, qa in asked:
        assert (verdict := check(Pixels.of(scene), qa)).agrees, (verdict, qa)


def test_another_object_at_the_other_end_might_as_well_have_been_asked(asked):
    """From pixels: of the two options that end elsewhere, one alone would be right for some other object. Where the right option has the
    longer shortest leg of the two that end with it, that one has the shorter."""
    longer = []
    for scene, qa in asked:
        pixels = Pixels.of(scene)
        moved, goal = things(pixels, qa, 2)
        right_for = [slid_beside(pixels, qa, moved, k) for k in pixels.shown if k not in (moved, goal)]
        ends = [re.search(rf"; {letter}: (\w+) [\d.]+ (\w+) [\d.]+(?: free| hits)?", qa.reasoning) for letter in "ABCD"]
        twin = next(letter for letter, end in zip("ABCD", ends, strict=True) if end[0].endswith("hits"))
        (other,) = {letters[0] for letters in right_for if len(letters) == 1} - {qa.answer, twin}
        (last,) = set("ABCD") - {qa.answer, twin, other}
        lengths = dict(zip("ABCD", (list(map(float, re.findall(r"[\d.]+", way))) for way in qa.options), strict=True))
        shortest = {letter: min(legs[0], legs[-1]) for letter, legs in lengths.items()}
        assert (shortest[qa.answer] > shortest[twin]) == (shortest[other] < shortest[last]), qa
        words = {letter: re.findall("[a-z]{4,}", way) for letter, way in zip("ABCD", qa.options, strict=True)}
        assert words[qa.answer] == words[twin] and words[other] == words[last]
        longer.append(shortest[qa.answer] > shortest[twin])
    assert abs(np.mean(longer) - 0.5) < 1.5 / len(longer) ** 0.5, longer  # three standard errors


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


def test_a_scene_where_nothing_blocks_a_way_gives_nothing(full, monkeypatch):
    monkeypatch.setattr(legs, "blocking", lambda *_: [])
    scene = next(scene for scene in full if scene.scale == "tabletop")
    assert not any(manipulation_plan(View(scene), np.random.default_rng(seed)) for seed in range(4))
