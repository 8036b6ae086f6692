from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from sv_jax.tasks import ask
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
