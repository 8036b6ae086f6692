from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest

from sv_jax.tasks import ask
from sv_jax.tasks.relations import relation_of
from sv_jax.tasks.view import View
from tests.tasks.recompute import Pixels, check
from tests.tasks.recompute.relations import TEXTS


@pytest.fixture(scope="module")
def questions(full):
    return [(scene, qa) for k, scene in enumerate(full) for qa in ask(scene, np.random.default_rng(k), 6, ["spatial_relation"])]


def test_answers_follow_from_depth_ids_and_cameras(questions):
    kinds = Counter()
    for scene, qa in questions:
        assert (verdict := check(Pixels.of(scene), qa)).agrees, (verdict, qa)
        kinds[TEXTS.get(qa.options["ABCD".index(qa.answer)], "which")] += 1
    assert {"beside", "apart"} <= set(kinds) and len(kinds) >= 4, kinds
    assert len({scene.scale for scene, _ in questions}) >= 4


def test_nothing_is_right_beside_an_object_of_which_only_an_end_shows(full):
    """The rest of it hidden, a gap of half its length would look like one of many times what shows."""
    cut = 0
    for scene in full:
        view = View(scene)
        for a, b in combinations(view.seen, 2):
            if relation_of(view, a, b) != "beside" or np.argmax(a.object.size) == 2:
                continue
            along = Pixels.of(scene).cloud(a.index + 1)[:, :2] @ a.object.rotation[:2, int(np.argmax(a.object.size))]
            hidden = along < along.max() - 0.5 * np.ptp(along)
            ids = scene.ids.copy()
            ids[tuple(axis[hidden] for axis in np.nonzero(ids == a.index + 1))] = 0
            assert relation_of(View(replace(scene, ids=ids)), a, b) != "beside"
            cut += 1
    assert cut >= 3
