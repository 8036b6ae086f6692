"""Packing loses and mixes nothing: every sample is found again in its row; groups continue their prompt, each on its own branch."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sv_jax.errors import UserError
from sv_jax.inputs.layout import VisionBuckets
from sv_jax.inputs.packing import Sample, first_fit, pack, pack_groups, pack_prompts
from sv_jax.models.qwen2_5_vl.config import QwenConfig, VisionConfig
from sv_jax.models.qwen2_5_vl.mrope import position_ids

CFG = VisionConfig(tokens_per_second=2)
IDS = QwenConfig(image_token_id=998, video_token_id=999, vision=CFG)
FIXED = VisionBuckets(patches=(512,), windows=(32,), slices=(32,), slice_patches=(32,))


def make_sample(seed: int, before: int, grids: list[tuple[int, int, int]], after: int, dino: bool = True) -> Sample:
    """`before` text tokens, the pictures, each followed by a text token, `after` text tokens, of which the second half carries loss."""
    rng = np.random.default_rng(seed)
    parts = [rng.integers(1, 900, before)]
    for t, h, w in grids:
        parts += [np.full(t * h * w // 4, 999), rng.integers(1, 900, 1)]
    tokens = np.concatenate([*parts, rng.integers(1, 900, after)]).astype(np.int32)
    weights = np.zeros(len(tokens), np.float32)
    weights[len(tokens) - after // 2 :] = 1
    sizes = [t * h * w for t, h, w in grids]
    return Sample(
        tokens=tokens,
        positions=position_ids(tokens, grids, [1.0] * len(grids), IDS),
        is_vision=tokens == 999,
        weights=weights,
        grids=tuple(grids),
        patches=tuple(rng.standard_normal((n, 1176), np.float32) for n in sizes),
        dino_patches=tuple(rng.standard_normal((2, n, 768), np.float32) for n in sizes) if dino else None,
        scale=seed % 5,
    )


side = st.sampled_from([2, 4])
grids = st.lists(st.tuples(st.integers(1, 2), side, side), max_size=2)
recipes = st.lists(st.tuples(st.integers(0, 99), st.integers(1, 6), grids, st.integers(1, 6)), min_size=1, max_size=6)


@settings(max_examples=60, deadline=None)
@given(recipes)
def test_every_sample_is_found_again_whole(recipes):
    samples = [make_sample(*recipe) for recipe in recipes]
    batch = pack(samples, len(samples), 40, CFG, FIXED)
    placed, _ = first_fit([len(s.tokens) for s in samples], len(samples), 40)
    assert sorted(i for row in placed for i in row) == list(range(len(samples)))
    for row, members in enumerate(placed):
        assert set(np.unique(batch.segments[row])) - {0} == set(range(1, len(members) + 1))
        for segment, i in enumerate(members, 1):
            here, sample = batch.segments[row] == segment, samples[i]
            np.testing.assert_array_equal(batch.tokens[row, here], sample.tokens)
            np.testing.assert_array_equal(batch.positions[:, row, here], sample.positions)
            assert (batch.scale[row, here] == sample.scale).all() and (batch.branches[row] == 0).all()
            np.testing.assert_array_equal(batch.targets[row, here][:-1], sample.tokens[1:])
            np.testing.assert_array_equal(batch.weights[row, here], [*sample.weights[1:], 0])
            index = batch.vision_index[row, here]
            np.testing.assert_array_equal(index >= 0, sample.is_vision)
            if sample.grids:
                patches = (index[index >= 0][:, None] * 4 + np.arange(4)).ravel()
                np.testing.assert_array_equal(batch.vision.patches[patches], np.concatenate(sample.patches))
                np.testing.assert_array_equal(batch.vision.dino_patches[:, patches], np.concatenate(sample.dino_patches, axis=1))
    padding = batch.segments == 0
    assert (batch.weights[padding] == 0).all() and (batch.vision_index[padding] == -1).all()
    assert (batch.segments > 0).sum() == sum(len(s.tokens) for s in samples)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(1, 20), max_size=20), st.integers(1, 6))
def test_first_fit_fills_rows_and_leaves_only_what_has_no_room(lengths, rows):
    placed, left = first_fit(lengths, rows, 20)
    assert sorted([*left, *(i for row in placed for i in row)]) == list(range(len(lengths)))
    used = [sum(lengths[i] for i in row) for row in placed]
    assert all(n <= 20 for n in used) and all(min(used) + lengths[i] > 20 for i in left)


def test_shapes_are_static_and_dtypes_are_32_bit():
    shapes = []
    for n in (1, 3):
        batch = pack([make_sample(i, 3, [(2, 4, 4)], 4) for i in range(n)], 3, 64, CFG, FIXED)
        arrays = [*batch[:-1], *batch.vision]
        shapes.append([a.shape for a in arrays])
        assert {a.dtype for a in arrays} == {np.dtype(np.int32), np.dtype(np.float32)}
    assert shapes[0] == shapes[1]


def test_text_only_batches_have_no_vision_and_dino_is_optional():
    assert pack([make_sample(0, 3, [], 3)], 1, 16, CFG).vision is None
    assert pack([make_sample(0, 3, [(1, 2, 2)], 3, dino=False)], 1, 16, CFG).vision.dino_patches is None


def test_what_does_not_fit_is_refused():
    with pytest.raises(UserError, match="sample of 17 tokens does not fit a row of 16"):
        pack([make_sample(0, 9, [], 8)], 1, 16, CFG)
    with pytest.raises(UserError, match="1 of 3 samples .* do not fit 2 rows"):
        pack([make_sample(i, 5, [], 5) for i in range(3)], 2, 16, CFG)


def test_prompts_are_padded_on_the_right():
    prompts = [make_sample(0, 3, [(1, 4, 4)], 2), make_sample(1, 2, [], 2)]
    batch, lengths = pack_prompts(prompts, 12, CFG, rows=3)
    assert lengths.tolist() == [10, 4, 0]
    for row, prompt in enumerate(prompts):
        np.testing.assert_array_equal(batch.tokens[row, : lengths[row]], prompt.tokens)
    np.testing.assert_array_equal(batch.segments, np.arange(12) < lengths[:, None])
    with pytest.raises(UserError, match="prompt of 10 tokens"):
        pack_prompts(prompts, 9, CFG)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 3), st.integers(1, 4), st.integers(0, 99))
def test_group_completions_continue_their_prompt(count, group, seed):
    rng = np.random.default_rng(seed)
    prompts = [make_sample(seed + b, 3, [(1, 4, 4)] * (b % 2), 2 + b) for b in range(count)]
    completions = [[rng.integers(1, 900, rng.integers(1, 6)) for _ in range(group)] for _ in prompts]
    batch, index, ids, mask = pack_groups(prompts, completions, 48, 7, CFG, FIXED)
    assert index.shape == ids.shape == mask.shape == (count, group, 7)
    assert (batch.weights == 0).all()
    for b, prompt in enumerate(prompts):
        shared = batch.branches[b] == 0
        np.testing.assert_array_equal(batch.tokens[b, shared & (batch.segments[b] == 1)], prompt.tokens)
        for g, completion in enumerate(completions[b]):
            own = batch.branches[b] == g + 1
            n = len(completion)
            np.testing.assert_array_equal(batch.tokens[b, own], completion)
            assert (batch.segments[b, own] == 1).all() and (batch.scale[b, own] == prompt.scale).all()
            # as position_ids would number prompt + completion alone
            alone = position_ids(np.concatenate([prompt.tokens, completion]), prompt.grids, [1.0] * len(prompt.grids), IDS)
            np.testing.assert_array_equal(batch.positions[:, b, own], alone[:, len(prompt.tokens) :])
            np.testing.assert_array_equal(ids[b, g], [*completion, *[0] * (7 - n)])
            np.testing.assert_array_equal(mask[b, g], [1] * n + [0] * (7 - n))
            read = [prompt.tokens[-1], *completion[:-1]]  # the token at each index is the one before the token it predicts
            np.testing.assert_array_equal(batch.tokens[b, index[b, g, :n]], read)
            assert np.isin(batch.branches[b, index[b, g, :n]], (0, g + 1)).all()


def test_groups_that_do_not_fit_are_refused():
    prompt = make_sample(0, 4, [], 4)
    with pytest.raises(UserError, match="row 0: 14 tokens, completions up to 3; expected at most 12 and 3"):
        pack_groups([prompt], [[[1, 2, 3], [4, 5, 6]]], 12, 3, CFG)
    with pytest.raises(UserError, match="all of one size"):
        pack_groups([prompt, prompt], [[[1]], [[1], [2]]], 12, 3, CFG)
