"""Windows and slices against transformers' window index, and the two-way index tables against each other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sv_jax.errors import UserError
from sv_jax.inputs.layout import VisionBuckets, bucket, geometric, vision_layout
from sv_jax.models.qwen2_5_vl.config import VisionConfig

VECTORS = np.load(Path(__file__).parents[1] / "data" / "tower.npz")
CFG = VisionConfig()
side = st.integers(1, 12).map(lambda n: 2 * n)


@pytest.mark.parametrize("case", range(6))
def test_windows_and_positions_equal_transformers(case):
    grids = [tuple(g) for g in VECTORS[f"window/{case}/grid_thw"].tolist()]
    layout = vision_layout(grids, CFG)
    real = layout.windows < len(layout.hw)
    order = (VECTORS[f"window/{case}/window_index"][:, None] * 4 + np.arange(4)).ravel()
    np.testing.assert_array_equal(layout.windows[real], order)
    ends = np.cumsum(real.sum(1)[real.any(1)])
    np.testing.assert_array_equal(ends, VECTORS[f"window/{case}/cu_window_seqlens"][1:])
    np.testing.assert_array_equal(layout.hw[: len(order)], VECTORS[f"window/{case}/position_hw"])


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 3), side, side), min_size=1, max_size=3))
def test_every_patch_has_one_place_in_windows_and_slices(grids):
    layout = vision_layout(grids, CFG)
    total, padded = sum(t * h * w for t, h, w in grids), len(layout.hw)
    for table, slot in ((layout.windows, layout.window_slot), (layout.slices, layout.slice_slot)):
        np.testing.assert_array_equal(table.ravel()[slot[:total]], np.arange(total))
        assert (table == padded).sum() == table.size - total and (slot[total:] == 0).all()
    assert (layout.hw[:total] < layout.grid[:total]).all()
    assert (layout.hw[total:] == 0).all() and (layout.grid[total:] == 1).all()
    runs = layout.slices[: sum(t for t, _, _ in grids)]
    sizes = np.repeat([h * w for _, h, w in grids], [t for t, _, _ in grids])
    for start, size, run in zip(np.cumsum(sizes) - sizes, sizes, runs, strict=True):
        np.testing.assert_array_equal(run[:size], np.arange(start, start + size))


def test_a_window_keeps_to_one_frame_and_eight_patches_a_side():
    layout = vision_layout([(2, 10, 18)], CFG)
    for window in layout.windows:
        patches = window[window < len(layout.hw)]
        assert len(np.unique(patches // 180)) <= 1
        assert len(patches) == 0 or (np.ptp(layout.hw[patches], axis=0) < 8).all()


def test_buckets_fix_the_shapes():
    buckets = VisionBuckets(patches=(512,), windows=(16,), slices=(8,), slice_patches=(64,))
    for grids in ([(2, 8, 8)], [(1, 4, 4), (2, 8, 8), (1, 6, 2)]):
        layout = vision_layout(grids, CFG, buckets)
        assert [a.shape for a in layout] == [(512, 2), (512, 2), (16, 64), (512,), (8, 64), (512,)]
    with pytest.raises(UserError, match="vision patches in the batch 640 .* 512"):
        vision_layout([(10, 8, 8)], CFG, buckets)


def test_bucket_is_the_smallest_that_holds():
    assert geometric(4, 40) == (4, 8, 12, 16, 24, 32)
    assert [bucket(n, geometric(4, 40)) for n in (1, 4, 5, 13, 32)] == [4, 4, 8, 16, 32]
    with pytest.raises(UserError, match="33 is larger than the largest bucket, 32"):
        bucket(33, geometric(4, 40))


def test_an_odd_grid_is_refused():
    with pytest.raises(UserError, match=r"\(1, 3, 4\)"):
        vision_layout([(1, 3, 4)], CFG)
