"""The order of training: mixtures in their shares, epochs, visits, and strict names."""

from __future__ import annotations

import dataclasses
from collections import Counter

import numpy as np
import pytest

from sv_jax.config import load_config
from sv_jax.data.index import TASK_NAMES, Columns
from sv_jax.data.order import DataConfig, MixConfig, parts, shares, shuffled
from sv_jax.data.read import Samples
from sv_jax.errors import UserError
from sv_jax.scenes.scene import SCALES

TASKS = ("counting", "depth", "object_size")


class Invented(Samples):
    """Of which only the columns are known."""

    def __init__(self, folder: np.ndarray, columns: Columns | None = None):
        self.paths, self.split, self.folder, self.columns = ["a", "b"], "train", folder, columns

    def __len__(self) -> int:
        return len(self.folder)


def weighted(**axes: dict[str, int]) -> MixConfig:
    return MixConfig(**{axis: {name: float(weight) for name, weight in weights.items()} for axis, weights in axes.items()})


@pytest.fixture(scope="module")
def samples() -> Invented:
    """Two folders, 40 clips with 1 to 9 questions each; no question about counting at the scale of drones."""
    rng = np.random.default_rng(0)
    clips = np.repeat(np.arange(40), rng.integers(1, 10, 40)).astype(np.int32)
    scale = (clips % len(SCALES)).astype(np.int16)
    task = np.array([TASK_NAMES.index(TASKS[i % 3]) for i in range(len(clips))], np.int16)
    task[(scale == SCALES.index("drone")) & (task == TASK_NAMES.index("counting"))] = TASK_NAMES.index("depth")
    folder = (clips >= 15).astype(np.int16)
    columns = Columns(task, scale, np.zeros(len(clips), np.int32), clips)
    return Invented(folder, columns)


def first(samples, count: int, seed: int = 0, **data) -> list[int]:
    order = shuffled(samples, DataConfig("a", ("b",), **data), seed)
    return [int(order[i]) for i in range(count)]


@pytest.mark.parametrize("visit", [1, 3])
def test_epoch_is_a_permutation_and_the_next_one_another(samples, visit):
    n = len(samples)
    drawn = first(samples, 2 * n, visit=visit)
    assert sorted(drawn[:n]) == sorted(drawn[n:]) == list(range(n)) and drawn[:n] != drawn[n:]
    assert drawn == first(samples, 2 * n, visit=visit) and drawn != first(samples, 2 * n, seed=1, visit=visit)


def test_a_visit_asks_so_many_questions_of_a_clip_in_a_row(samples):
    clips = [int(samples.columns.clip[i]) for i in first(samples, len(samples), visit=4)]
    visits = [list(g) for g in np.split(clips, np.flatnonzero(np.diff(clips)) + 1)]
    asked = Counter(clips)
    # whole visits but for the rest of a clip; two visits may by chance stand side by side
    assert len(visits) <= sum(-(-n // 4) for n in asked.values()) < len(samples) / 2
    whole = [i for i in first(samples, len(samples))]
    assert (np.diff(samples.columns.clip[whole]) == 0).mean() < 0.2  # by default they are spread
    again = [int(samples.columns.clip[i]) for i in first(samples, 2 * len(samples), visit=4)[len(samples) :]]
    assert clips != again


@pytest.mark.parametrize("visit", [1, 2])
def test_a_mixture_has_the_shares_of_its_weights(samples, visit):
    mix = weighted(folders={"a": 1, "b": 3}, scales={"tiny": 2, "indoor": 1}, tasks={"depth": 5, "counting": 1})
    drawn = first(samples, 7200, mix=mix, visit=visit)
    count = Counter((int(samples.folder[i]), SCALES[samples.columns.scale[i]], TASK_NAMES[samples.columns.task[i]]) for i in drawn)
    for f, a in ((0, 1), (1, 3)):
        for s, b in mix.scales.items():
            for t, c in mix.tasks.items():
                assert count[f, s, t] == pytest.approx(7200 * a * b * c / (4 * 3 * 6), abs=2)
    assert sum(count.values()) == 7200
    realised = shares(samples, mix, drawn)
    expected = {"a": 1 / 4, "b": 3 / 4, "tiny": 2 / 3, "indoor": 1 / 3, "depth": 5 / 6, "counting": 1 / 6}
    assert realised == pytest.approx({f"mix/{name}": share for name, share in expected.items()}, abs=1e-3)


def test_parts_of_a_mixture_are_shuffled_apart(samples):
    """Sources of one seed and length would come in the same order: the questions of one scene together."""
    twice = dataclasses.replace(DataConfig("a"), mix=weighted(folders={"a": 1, "b": 1}))
    two = Invented(np.repeat(np.arange(2), 50))
    order = shuffled(two, twice, 0)
    drawn = [int(order[i]) for i in range(100)]
    assert sorted(drawn) == list(range(100)) and np.mean([b - a == 50 for a, b in zip(drawn[::2], drawn[1::2], strict=True)]) < 0.2


def test_a_part_without_samples_is_left_out(samples):
    mix = weighted(scales={"drone": 1, "tiny": 1}, tasks={"counting": 1, "depth": 1})
    assert [weight for weight, _ in parts(samples, mix)] == [1, 1, 1]  # no counting by drone
    drawn = first(samples, 300, mix=mix)
    assert shares(samples, mix, drawn)["mix/drone"] == pytest.approx(1 / 3, abs=0.01)


@pytest.mark.parametrize(
    "overrides, message",
    [
        (["--mix.scales", "{indor: 1}"], "data.mix.scales: 'indor' is not one of .*did you mean 'indoor'"),
        (["--mix.tasks", "{depht: 1}"], "data.mix.tasks: 'depht' is not one of .*did you mean 'depth'"),
        (["--mix.scales", "{tiny: 0}"], "data.mix.scales.tiny 0: expected a positive number"),
        (["--mix.scales", "{tiny: .nan}"], "data.mix.scales.tiny nan: expected a positive number"),
        (["--mix.scales", "{}"], "data.mix.scales: empty"),
        (["--mix.scale", "{tiny: 1}"], "config key 'mix.scale' is not one of .*did you mean 'mix.scales'"),
        (["--mix", "{}"], "data.mix: empty"),
        (["--visit", "0"], "data.visit 0: expected at least 1"),
        (["--workers", "0"], "data.workers 0: expected at least 1"),
    ],
)
def test_a_bad_mixture_is_one_line(overrides, message):
    with pytest.raises(UserError, match=message):
        load_config(DataConfig, None, ["--path", "a", *overrides])


def test_a_mixture_of_what_is_not_there_is_one_line(samples):
    with pytest.raises(UserError, match="data.mix.folders: 'c' is not one of a, b"):
        first(samples, 1, mix=weighted(folders={"c": 1}))
    with pytest.raises(UserError, match="data.mix.tasks.existence: no sample of it in a, b, split 'train'"):
        first(samples, 1, mix=weighted(tasks={"existence": 1}))
    with pytest.raises(UserError, match="no sample with these folders, scales and tasks together"):
        first(samples, 1, mix=weighted(scales={"drone": 1}, tasks={"counting": 1}))
