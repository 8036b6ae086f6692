from __future__ import annotations

import pytest

from sv_jax.scenes import generate_many
from sv_jax.scenes.scene import SCALES


@pytest.fixture(scope="session")
def scenes():
    """Eight scenes of every scale."""
    return list(generate_many([(scale, seed) for scale in SCALES for seed in range(100, 108)], kind="plain", frames=4, size=(112, 112)))


@pytest.fixture(scope="session")
def many(scenes):
    """Twenty-four scenes of every scale, `scenes` among them: some tasks need a scene that happens to allow them."""
    return scenes + list(
        generate_many([(scale, seed) for scale in SCALES for seed in range(108, 124)], kind="plain", frames=4, size=(112, 112))
    )


@pytest.fixture(scope="session")
def full():
    """Two full worlds of every scale."""
    return list(generate_many([(scale, seed) for scale in SCALES for seed in (104, 107)], kind="full", frames=4, size=(112, 112)))
