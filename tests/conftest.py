"""Eight virtual CPU devices, a persistent compilation cache, and the folder of test data, for every test."""

from __future__ import annotations

import os
from pathlib import Path

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ.setdefault("HF_HUB_OFFLINE", "1")  # a test that wants the network is a mistake
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import jax  # noqa: E402  after the environment is set
import pytest  # noqa: E402

from sv_jax.compiles import persistent_cache  # noqa: E402

ROOT = Path(__file__).parent.parent

jax.config.update("jax_num_cpu_devices", 8)
persistent_cache(ROOT / ".jax_cache")


@pytest.fixture(scope="session")
def data() -> Path:
    """tests/data: vectors made with the reference implementations."""
    return ROOT / "tests" / "data"
