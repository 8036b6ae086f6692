"""The stream of batches: every sample in order, once, whatever the mix of lengths and frame sizes; any place to start from."""

from __future__ import annotations

import dataclasses
import time
from itertools import islice

import grain
import jax
import numpy as np
import pytest

from sv_jax.data import batches
from sv_jax.data.batches import BatchStream, DataConfig, ShapeConfig, vision_size
from sv_jax.data.order import MixConfig, open_samples
from sv_jax.errors import UserError
from sv_jax.inputs.chat import Processor
from sv_jax.inputs.layout import vision_layout
from sv_jax.inputs.media import Compat
from sv_jax.inputs.packing import Sample
from sv_jax.models.qwen2_5_vl.config import QwenConfig, VisionConfig

VISION = VisionConfig(window_size=112)  # windows of 8x8 patches
COUNT = 97
# Shapes with grids that fill one bucket before the others: rows, slices, windows
CASES = {
    "tokens": (ShapeConfig(2, 256, 1024, 64), [(1, 4, 4), (2, 8, 6)]),
    "slices": (ShapeConfig(8, 256, 1024, 128), [(2, 4, 4), (6, 4, 4), (1, 8, 8)]),
    "shared": (ShapeConfig(8, 256, 3072, 128), [(2, 4, 4), (6, 4, 4), (1, 8, 8)]),
    "windows": (ShapeConfig(8, 256, 400, 100), [(1, 10, 10), (1, 2, 2), (2, 4, 4)]),
}


def make_sample(number: int, length: int, grid) -> Sample:
    patches = np.zeros((int(np.prod(grid)), 1176), np.float32)
    is_vision = np.arange(length) < len(patches) // 4
    tokens, weights = np.full(length, number, np.int32), np.ones(length, np.float32)
    return Sample(tokens, np.zeros((3, length), np.int32), is_vision, weights, (grid,), (patches,), None, 0)


class Invented:
    """In an Encoder's place: the token ids of sample i are all i; pixels take an odd time, so that threads overtake each other."""

    drawn = np.random.default_rng(0).integers((80, 0), (200, 100), (COUNT, 2)).tolist()  # length, grid

    def __init__(self, grids):
        self.grids = grids

    def layout(self, i: int) -> Sample:
        length, grid = self.drawn[i % COUNT]
        return make_sample(i, length, self.grids[grid % len(self.grids)])

    def pixels(self, i: int, laid_out: Sample) -> Sample:
        time.sleep(i * 7 % 5 / 2000)
        return laid_out


@pytest.fixture
def stream(monkeypatch):
    """`stream(case, state, …)` over invented samples 1, 2, 3, …"""
    opened = []

    def start(case: str, state: int = 0, workers: int = 2, **process) -> BatchStream:
        shape, grids = CASES[case]
        monkeypatch.setattr(batches, "open_samples", lambda data: None)
        monkeypatch.setattr(batches, "shuffled", lambda samples, data, seed: grain.MapDataset.range(1, 10**6))
        monkeypatch.setattr(batches, "Encoder", lambda samples, processor: Invented(grids))
        processor = Processor(None, QwenConfig(vision=VISION))
        opened.append(BatchStream(DataConfig("unread", workers=workers), shape, processor, 0, state, **process))
        return opened[-1]

    yield start
    for one in opened:
        one.close()


def numbers(*parts) -> list[int]:
    """The samples in the batches of all processes."""
    return sorted(set(np.concatenate([part.tokens for part in parts]).ravel().tolist()) - {0})


@pytest.mark.parametrize("case", CASES)
def test_every_sample_comes_once_and_in_order_in_batches_of_one_shape(case, stream):
    got = list(islice(stream(case), 40))
    taken = [numbers(batch) for batch, _ in got]
    assert sum(taken, []) == list(range(1, got[-1][1] + 1))
    assert [n[-1] for n in taken] == [state for _, state in got]
    assert len({tuple(x.shape for x in (*batch[:-1], *(v for v in batch.vision if v is not None))) for batch, _ in got}) == 1
    assert np.mean([len(n) for n in taken]) > 1.5


@pytest.mark.parametrize("case", CASES)
def test_a_stream_that_is_stopped_anywhere_goes_on_the_same_with_any_number_of_threads(case, stream):
    rng = np.random.default_rng(1)
    whole = list(islice(stream(case, workers=1), 16))
    for stop in rng.choice(12, 5, replace=False).tolist():
        stopped = stream(case, workers=int(rng.integers(1, 9)))
        _, state = list(islice(stopped, stop + 1))[-1]
        stopped.close()
        resumed = islice(stream(case, state, workers=int(rng.integers(1, 9))), 3)
        for (batch, after), (expected, place) in zip(resumed, whole[stop + 1 :], strict=False):
            assert after == place
            np.testing.assert_array_equal(batch.tokens, expected.tokens)
            np.testing.assert_array_equal(batch.vision.slices, expected.vision.slices)


@pytest.mark.parametrize("case, processes", [("tokens", 2), ("shared", 2), ("shared", 4)])
def test_processes_share_every_batch_and_agree_on_the_state(case, processes, stream):
    shares = [islice(stream(case, process=p, processes=processes), 12) for p in range(processes)]
    start = 0
    for parts in zip(*shares, strict=True):
        assert len({state for _, state in parts}) == 1
        assert {len(batch.tokens) for batch, _ in parts} == {CASES[case][0].rows // processes}
        assert numbers(*(batch for batch, _ in parts)) == list(range(start + 1, parts[0][1] + 1))
        assert sum(len(numbers(batch)) for batch, _ in parts) == parts[0][1] - start  # none twice
        start = parts[0][1]


def test_rows_of_all_processes_are_those_of_one_while_tokens_alone_fill_a_batch(stream, monkeypatch):
    monkeypatch.setitem(CASES, "text", (ShapeConfig(8, 256, 4096, 64), [(1, 4, 4)]))
    shares = [islice(stream("text", process=p, processes=4), 10) for p in range(4)]
    for (batch, state), *parts in zip(islice(stream("text"), 10), *shares, strict=True):
        np.testing.assert_array_equal(np.concatenate([part.tokens for part, _ in parts]), batch.tokens)
        assert {after for _, after in parts} == {state}


def test_another_number_of_processes_goes_on_where_the_last_one_stopped(stream):
    state, seen = 0, []
    for processes in (1, 4, 2, 1):
        shares = [islice(stream("shared", state, process=p, processes=processes), 3) for p in range(processes)]
        for parts in zip(*shares, strict=True):
            seen += numbers(*(batch for batch, _ in parts))
            state = parts[0][1]
    assert seen == list(range(1, state + 1))


def test_processes_that_do_not_divide_a_batch_are_one_line(stream):
    with pytest.raises(UserError, match="shape.rows 8: expected a multiple of the 3 processes"):
        stream("shared", processes=3)


@pytest.mark.parametrize("changes", [{}, {"dino": True}, {"dino": True, "align": "official"}, {"compat": Compat(assume_fps=1.0)}])
def test_text_then_pixels_make_what_encoding_at_once_makes(changes, tiny_data, tiny_folder):
    processor = dataclasses.replace(Processor.from_folder(tiny_folder), **changes)
    samples = open_samples(DataConfig(tiny_data, frames=1))
    encoder = batches.Encoder(samples, processor)
    for i in range(0, len(samples), 2):
        laid_out, sample = encoder.layout(i), samples[i]
        known = processor.outline(sample["frames"].shape[:3], sample["fps"])
        whole = processor.prepare({"type": "video", "video": sample["frames"], "fps": sample["fps"]})
        assert (known.kind, known.grid, known.seconds_per_grid) == (whole.kind, whole.grid, whole.seconds_per_grid)
        got, expected = (jax.tree.leaves(vars(s)) for s in (encoder.pixels(i, laid_out), batches.encode_sample(processor, samples[i])))
        assert len(got) == len(expected) and all(np.array_equal(a, b) for a, b in zip(got, expected, strict=True))
        assert np.array_equal(laid_out.tokens, encoder.pixels(i, laid_out).tokens) and len(laid_out.patches[0]) == 0


def test_a_stream_of_a_mixture_says_what_came(tiny_data, tiny_folder):
    data = DataConfig(tiny_data, mix=MixConfig(scales={"indoor": 3.0, "tabletop": 1.0}))
    stream = BatchStream(data, ShapeConfig(4, 512, 512, 16), Processor.from_folder(tiny_folder), 0)
    (_, state), seen = next(stream), stream.realised_mix()
    stream.close()
    assert seen["mix/indoor"] == pytest.approx(0.75, abs=1 / state) and sum(seen.values()) == pytest.approx(1)
    assert stream.realised_mix() == {}  # nothing since


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
