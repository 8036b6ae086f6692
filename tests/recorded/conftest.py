from __future__ import annotations

import pytest

from sv_jax.scenes import generate


@pytest.fixture(scope="session")
def scenes():
    """Scenes of 6 frames of 192 x 256 pixels, which is the size of ScanNet++'s depth."""
    return {scale: generate(scale, 11, kind="plain", frames=6, size=(192, 256)) for scale in ("tabletop", "indoor")}
