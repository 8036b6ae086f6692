"""The best constant against a dense search with the scorer, and against values known in closed form."""

from __future__ import annotations

import numpy as np
import pytest

from sv_jax.rewards.answers import mra
from sv_jax.rewards.constant import best_constant, mean_mra


@pytest.mark.parametrize("seed", range(4))
def test_no_number_of_a_dense_grid_beats_it(seed):
    rng = np.random.default_rng(seed)
    values = np.round(rng.lognormal(0, 0.7, 15), 2) * rng.choice([1, -1], 15, p=[0.8, 0.2])
    values[0] = 0.0
    guess, score = best_constant(values)
    assert score == pytest.approx(np.mean([mra(guess, v) for v in values]))
    assert score >= max(mean_mra(g, values) for g in np.linspace(-4, 4, 4001)) - 1e-9


def test_a_single_value_is_its_own_best_answer():
    guess, score = best_constant([7.3])
    assert score == 1.0 and guess == pytest.approx(7.3, rel=0.05)


def test_known_scores_of_known_distributions():
    """Log-uniform answers: a guess g covers 10 intervals of v in [g / (1 + e), g / (1 - e)], e = 0.05 … 0.5, in decades."""
    errors = np.linspace(0.05, 0.5, 10)
    one_decade = float(np.mean(np.log10((1 + errors) / (1 - errors))))
    spread = 10 ** ((np.arange(4000) + 0.5) / 4000)
    assert best_constant(spread)[1] == pytest.approx(one_decade, abs=3e-3)
    assert best_constant(np.arange(2, 11))[1] == pytest.approx(0.43, abs=5e-3)  # 0.43 is known to two digits
