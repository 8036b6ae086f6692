from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sv_jax.rewards.answers import mra, relative, rouge


@pytest.mark.parametrize(
    ("pred", "truth", "score"),
    [(9, 10, 0.9), (8, 10, 0.6), (9.5, 10, 1.0), (5, 10, 0.1), (10, 10, 1.0), (0, 10, 0.0), (-9, -10, 0.9), (0, 0, 1.0), (1, 0, 0.0)],
)
def test_mra_known_values(pred, truth, score):
    assert mra(float(pred), float(truth)) == pytest.approx(score)


def test_mra_rounding_at_the_edges_of_the_thresholds():
    """Predictions exactly on an edge, 1 + (1 - t), land on either side (benchmarks.md 1.1)."""
    edges = [1 - t for t in (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)]
    assert [round(mra(1 + e, 1.0), 1) for e in edges] == [0.1, 0.2, 0.3, 0.3, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]


@pytest.mark.parametrize("score", [mra, relative])
def test_what_is_not_finite_earns_nothing(score):
    for pred in (float("nan"), float("inf"), float("-inf")):
        assert score(pred, 2.0) == 0.0


def test_relative_error():
    assert relative(7.5, 10.0) == 0.75
    assert relative(30.0, 10.0) == 0.0


def test_rouge_by_hand():
    # words: 3 of 4 and 3 shared; pairs: 2 shared of 3 and 2; longest common subsequence 3
    assert rouge("The red mug stands", "the red mug!") == pytest.approx((6 / 7 + 4 / 5 + 6 / 7) / 3)
    assert rouge("mug red", "red mug") == pytest.approx((1 + 0 + 0.5) / 3)
    assert rouge("", "red mug") == 0.0


@given(st.text(max_size=60), st.text(max_size=60))
def test_rouge_is_symmetric_and_in_range(a, b):
    assert rouge(a, b) == pytest.approx(rouge(b, a))
    assert 0.0 <= rouge(a, b) <= 1.0
