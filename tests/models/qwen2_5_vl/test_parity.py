"""Logits against transformers: every structural variant in f32 and bf16, every kind of prompt, padded there and packed here.

Positions follow `mrope: spatial`, so that transformers makes its own from grids and times.
"""

from __future__ import annotations

import numpy as np
import pytest

from sv_jax.inputs.layout import VisionBuckets
from tests.models.qwen2_5_vl.parity import MIXED, VARIANTS, errors, our_logits, pair, prompt, their_logits
from tests.parity import check, error

EXACT = 1e-4
SIZES = [(1, 1), (1, 3), (3, 1), (2, 2), (5, 1), (1, 5), (2, 3), (3, 3), (4, 1), (1, 1), (2, 5), (4, 2)]  # in units of 28 pixels
PROMPTS = {
    "text": (),
    "one token": (("image", 1, 28, 28),),
    "odd sizes, windows cut on both sides": (("image", 1, 28, 252), ("image", 1, 140, 84), ("image", 1, 196, 28)),
    "many images": tuple(("image", 1, 28 * h, 28 * w) for h, w in SIZES),
    "video, 0.5 s": (("video", 8, 56, 84, 0.5),),
    "video, 1 s": (("video", 8, 56, 84, 1.0),),
    "video, 2 s": (("video", 8, 56, 84, 2.0),),
    "video, 1.1085 s": (("video", 16, 28, 56, 1.1085),),  # 299 frames at 29.97 per second, 18 kept
    "video, 0.0833 s": (("video", 16, 28, 56, 2 / 24),),  # what a bare array gets in transformers
    "video, 10.67 s": (("video", 6, 84, 28, 10.67),),
    "several videos": (("video", 4, 84, 56, 1.0), ("video", 6, 28, 140, 0.4), ("video", 2, 56, 56, 3.0)),
    "images and videos": MIXED,
}


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_equals_transformers(name):
    check(errors(name), EXACT)


@pytest.mark.parametrize("case", PROMPTS)
def test_every_kind_of_prompt_equals_transformers(case):
    model, asked = pair("small"), prompt("small", PROMPTS[case])
    assert error(our_logits(model.ours, [asked])[0], their_logits(model.theirs, [asked])[0]).max < EXACT


@pytest.fixture(scope="module")
def prompts():
    """Rows of different lengths: text and video, an image, two videos and an image."""
    media = (
        (("video", 4, 28, 84, 0.7),),
        (("image", 1, 140, 56),),
        (("video", 4, 56, 56, 2.0), ("image", 1, 28, 28), ("video", 2, 28, 28)),
    )
    return [prompt("small", m, seed=i) for i, m in enumerate(media)]


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_padded_batch_of_theirs_equals_our_packed_row(prompts, side):
    model = pair("small")
    for got, want in zip(our_logits(model.ours, prompts), their_logits(model.theirs, prompts, side), strict=True):
        assert error(got, want).max < EXACT


def test_a_packed_row_equals_separate_rows(prompts):
    model = pair("small").ours
    for got, asked in zip(our_logits(model, prompts), prompts, strict=True):
        assert error(got, our_logits(model, [asked])[0]).max < 1e-5


def test_the_time_between_slices_matters():
    model = pair("small").ours
    logits = [our_logits(model, [prompt("small", PROMPTS[f"video, {s} s"])])[0] for s in ("0.5", "1", "2")]
    assert all(np.abs(a - b).max() > 0.01 for a, b in zip(logits, logits[1:], strict=False))


def test_a_prompt_of_4k_tokens_equals_transformers():
    model, asked = pair("small"), prompt("small", (("video", 16, 224, 224, 2.0),), words=1800)
    assert len(asked.sample.tokens) == 4115
    got = our_logits(model.ours, [asked], length=4160, buckets=VisionBuckets((2048,), (32,), (8,), (256,)))[0]
    assert error(got, their_logits(model.theirs, [asked])[0]).max < EXACT
