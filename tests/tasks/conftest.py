from __future__ import annotations

import pytest

from sv_jax.scenes import SCALES, generate_many


@pytest.fixture(scope="session")
def scenes():
    """Eight scenes of every scale."""
    return generate_many([(scale, seed) for scale in SCALES for seed in range(100, 108)])
