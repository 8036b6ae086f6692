"""The usual mistakes in cameras are found against the depth, and named."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from sv_jax.recorded import smot
from sv_jax.recorded.faults import BadInput, Faults
from sv_jax.recorded.fit import fits, plausible
from tests.recorded import layouts

SIZE = (192, 256)


@pytest.fixture(scope="module", params=["tabletop", "indoor"])
def recording(request, scenes, tmp_path_factory):
    return smot.read(layouts.smot(tmp_path_factory.mktemp("smot"), scenes[request.param]), Faults())


def moved(poses: np.ndarray, by: float) -> np.ndarray:
    out = poses.copy()
    out[:, :3, 3] *= by
    return out


def rotations_transposed(poses: np.ndarray) -> np.ndarray:
    out = poses.copy()
    out[:, :3, :3] = poses[:, :3, :3].swapaxes(1, 2)
    return out


MISTAKES = {
    "inverted: world to camera": lambda P, K: (np.linalg.inv(P), K),
    "OpenGL's axes (y up, z backward)": lambda P, K: (P @ layouts.FLIP, K),
    "inverted and of OpenGL's axes": lambda P, K: (np.linalg.inv(P @ layouts.FLIP), K),
    "transposed rotations": lambda P, K: (rotations_transposed(P), K),
    "turned by 90 degrees": lambda P, K: (P, K[:, [1, 0, 2]][:, :, [1, 0, 2]]),
    "half the size": lambda P, K: (P, np.diag([0.5, 0.5, 1.0]) @ K),
    "twice the size": lambda P, K: (P, np.diag([2.0, 2.0, 1.0]) @ K),
    "translations times 0.001": lambda P, K: (moved(P, 1000.0), K),
    "translations times 0.1 ": lambda P, K: (moved(P, 10.0), K),
}


def test_cameras_that_fit_leave_a_small_error(recording):
    assert fits(recording, SIZE) < 0.002


def test_noise_of_a_sensor_is_no_mistake(recording):
    rng = np.random.default_rng(0)

    def noisy(i: int) -> np.ndarray:
        depth = recording.depth(i)
        lost = rng.random(depth.shape) < 0.1
        return np.where(lost, 0, depth * rng.normal(1, 0.012, depth.shape)).astype(np.float32)

    assert 0.005 < fits(dataclasses.replace(recording, depth=noisy), SIZE) < 0.02


@pytest.mark.parametrize("said", MISTAKES)
def test_a_mistake_is_named(recording, said):
    poses, K = MISTAKES[said](recording.poses, recording.K)
    kind = "non-metric poses" if "times" in said else "mismatched intrinsics" if "90" in said or "size" in said else "wrong poses"
    with pytest.raises(BadInput) as error:
        fits(dataclasses.replace(recording, poses=poses, K=K), SIZE)
    assert said in str(error.value) and error.value.kind == kind and recording.files[0] in str(error.value)


def test_cameras_that_no_usual_mistake_explains_are_refused(recording):
    poses = recording.poses.copy()
    poses[::2, :3, :3] = poses[::2, :3, :3] @ [[0.8, 0.6, 0.0], [-0.6, 0.8, 0.0], [0.0, 0.0, 1.0]]  # every other frame is rolled
    with pytest.raises(BadInput, match="wrong poses: .*no usual mistake"):
        fits(dataclasses.replace(recording, poses=poses), SIZE)


def test_a_transposed_matrix_is_named():
    K = np.array([[200.0, 0, 128], [0, 200.0, 96], [0, 0, 1]])
    plausible(K, SIZE, "metadata")
    with pytest.raises(BadInput, match="metadata: mismatched intrinsics: the matrix is transposed"):
        plausible(K.T, SIZE, "metadata")
    with pytest.raises(BadInput, match="were they for another size"):
        plausible(np.diag([4.0, 4.0, 1.0]) @ K, SIZE, "metadata")
