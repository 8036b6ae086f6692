"""The stream of batches: every sample in order, once, whatever the mix of lengths and frame sizes; any place to start from."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest

from sv_jax.data import batches
from sv_jax.data.batches import BatchStream, DataConfig, ShapeConfig, vision_size
from sv_jax.errors import UserError
from sv_jax.inputs.chat import Processor
from sv_jax.inputs.layout import vision_layout
from sv_jax.inputs.packing import Sample
from sv_jax.models.qwen2_5_vl.config import QwenConfig, VisionConfig

VISION = VisionConfig(window_size=112)  # windows of 8x8 patches
COUNT = 97
# Shapes with grids that fill one bucket before the others: rows, slices, windows
CASES = {
    "tokens": (ShapeConfig(2, 256, 1024, 64), [(1, 4, 4), (2, 8, 6)]),
    "slices": (ShapeConfig(8, 256, 1024, 128), [(2, 4, 4), (6, 4, 4), (1, 8, 8)]),
    "windows": (ShapeConfig(8, 256, 400, 100), [(1, 10, 10), (1, 2, 2), (2, 4, 4)]),
}


def make_sample(number: int, length: int, grid) -> Sample:
    patches = np.zeros((int(np.prod(grid)), 1176), np.float32)
    is_vision = np.arange(length) < len(patches) // 4
    tokens, weights = np.full(length, number, np.int32), np.ones(length, np.float32)
    return Sample(tokens, np.zeros((3, length), np.int32), is_vision, weights, (grid,), (patches,), None, 0)


@pytest.fixture
def stream(monkeypatch):
    """`stream(case, state)` over an endless order of samples that repeats itself; the token ids of sample i are all i."""
    rng = np.random.default_rng(0)
    drawn = [(int(rng.integers(80, 200)), int(rng.integers(100))) for _ in range(COUNT)]
    opened = []

    def start(case: str, state: int = 0) -> BatchStream:
        shape, grids = CASES[case]
        monkeypatch.setattr(batches, "shuffled", lambda data, seed: range(1, 10**6))
        encode = lambda _, i: make_sample(i, drawn[i % COUNT][0], grids[drawn[i % COUNT][1] % len(grids)])  # noqa: E731
        monkeypatch.setattr(batches, "encode_sample", encode)
        opened.append(BatchStream(DataConfig("unread"), shape, Processor(None, QwenConfig(vision=VISION)), 0, state))
        return opened[-1]

    yield start
    for one in opened:
        one.close()


@pytest.mark.parametrize("case", CASES)
def test_every_sample_comes_once_and_in_order_in_batches_of_one_shape(case, stream):
    got = list(islice(stream(case), 40))
    numbers = [sorted(set(batch.tokens.ravel().tolist()) - {0}) for batch, _ in got]
    assert sum(numbers, []) == list(range(1, got[-1][1] + 1))
    assert [n[-1] for n in numbers] == [state for _, state in got]
    assert len({tuple(x.shape for x in (*batch[:-1], *(v for v in batch.vision if v is not None))) for batch, _ in got}) == 1
    assert np.mean([len(n) for n in numbers]) > 1.5


def test_a_stream_continues_from_the_state_of_any_batch(stream):
    whole = list(islice(stream("slices"), 12))
    for batch, state in islice(stream("slices", whole[6][1]), 5):
        expected = next(b for b, s in whole if s == state)
        np.testing.assert_array_equal(batch.tokens, expected.tokens)
        np.testing.assert_array_equal(batch.vision.slices, expected.vision.slices)


def test_sizes_are_those_of_the_layout():
    for _, grids in CASES.values():
        layout = vision_layout(grids, VISION)
        used = [(np.asarray(table) < len(layout.hw)).any(1).sum() for table in (layout.slices, layout.windows)]
        assert vision_size(grids, VISION).tolist() == [sum(int(np.prod(g)) for g in grids), *used]
    assert vision_size((), VISION).tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    "shape, grid, message",
    [
        (ShapeConfig(2, 64, 256, 64), (1, 4, 4), r"data: a sample does not fit a batch of this shape: it has \d+ of 64 tokens"),
        (ShapeConfig(2, 256, 32, 16), (4, 4, 4), r"it has 64 of 32 patches, 4 of 2 slices \(shape.patches / shape.slice_patches of them\)"),
        (ShapeConfig(2, 256, 100, 100), (1, 10, 10), "it has 4 of 2 windows"),
        (ShapeConfig(2, 256, 256, 16), (1, 8, 8), "patches in a frame 64 is larger than the largest bucket, 16"),
    ],
)
def test_a_sample_that_fits_no_batch_is_one_line(shape, grid, message, stream, monkeypatch):
    monkeypatch.setitem(CASES, "odd", (shape, [grid]))
    with pytest.raises(UserError, match=message) as caught:
        next(stream("odd"))
    assert "\n" not in str(caught.value)
