"""Eq. 5 against worked cases, a dense solver, and what must hold for every strength."""

from __future__ import annotations

import numpy as np
import pytest

from sv_jax.annotate.align import align, fit_disparity, links
from sv_jax.errors import UserError

M, N = np.array([2.0, 2.6, 2.1, 2.9]), np.array([2.0, 2.2, 2.4, 2.6])
ONE = np.ones(4)

CASES = {
    "lambda 0": (N, 0.0, {}, [2.0, 2.6, 2.1, 2.9]),
    "lambda 1": (N, 1.0, {}, [2.080952, 2.361905, 2.404762, 2.752381]),
    "lambda 1e6": (N, 1e6, {}, [2.1, 2.3, 2.5, 2.7]),
    "constant N": (ONE, 1.0, {}, [2.195238, 2.390476, 2.376190, 2.638095]),
    "a frame without M": (N, 1.0, {"valid": np.array([1, 0, 1, 1])}, [1.972727, 2.145455, 2.318182, 2.709091]),
    "a cut": (N, 1.0, {"linked": np.array([1, 0, 1])}, [2.133333, 2.466667, 2.3, 2.7]),
    "logarithms": (N, 1.0, {"domain": "log"}, [2.065567, 2.346611, 2.386200, 2.738000]),
}


@pytest.mark.parametrize("case", CASES)
def test_worked_cases(case):
    video, strength, options, expected = CASES[case]
    got = align(M, video, strength, **{"domain": "linear", **options})
    np.testing.assert_allclose(got, expected, atol=2e-6 if strength == 1e6 else 6e-7)
    assert got.dtype == np.float64


def dense(m, n, strength, w, c):
    """The minimiser of one pixel by the normal equations of the sum of squares as it is written."""
    step = np.diff(np.eye(len(m)), axis=0)
    A = np.concatenate([np.diag(np.sqrt(w)), np.sqrt(strength * c)[:, None] * step])
    return np.linalg.lstsq(A, np.concatenate([np.sqrt(w) * m, np.sqrt(strength * c) * (step @ n)]), rcond=None)[0]


@pytest.mark.parametrize("frames", [1, 2, 3, 16])
@pytest.mark.parametrize("strength", [0.0, 0.3, 7.0, 1e3])
def test_many_pixels_at_once_equal_a_dense_solve_of_each(frames, strength):
    rng = np.random.default_rng(frames)
    m, n = rng.uniform(0.5, 5, (2, frames, 3, 4))
    w, c = rng.uniform(0.1, 2, (frames, 3, 4)), rng.uniform(0, 2, (frames - 1, 3, 4)) * (rng.random((frames - 1, 3, 4)) < 0.7)
    got = align(m, n, strength, valid=w, linked=c, domain="linear")
    for y, x in np.ndindex(3, 4):
        expected = dense(m[:, y, x], n[:, y, x], strength, w[:, y, x], c[:, y, x])
        np.testing.assert_allclose(got[:, y, x], expected, rtol=1e-10)


@pytest.mark.parametrize("strength", [0.0, 0.5, 3.0, 1e4, 1e15])
def test_the_mean_over_time_is_that_of_the_metric_depth(strength):
    m, n = np.random.default_rng(0).uniform(1, 2, (2, 9, 5))
    np.testing.assert_allclose(align(m, n, strength, domain="linear").mean(0), m.mean(0), rtol=1e-12)


def test_the_residual_is_low_passed_by_the_gain_of_each_cosine():
    frames, strength = 8, 2.5
    t = np.arange(frames)
    for k in range(frames):
        wave = np.cos(np.pi * k * (t + 0.5) / frames)
        got = align(N.mean() + wave, np.full(frames, N.mean()), strength, domain="linear") - N.mean()
        np.testing.assert_allclose(got, wave / (1 + strength * (2 - 2 * np.cos(np.pi * k / frames))), atol=1e-12)


def test_a_strong_alignment_follows_the_video_depth_up_to_a_factor_at_every_scale():
    n = np.array([1.0, 1.1, 1.3, 1.2])
    for scale in (1e-3, 1.0, 1e4):
        got = align(scale * n * [1.1, 0.9, 1.05, 1.0], n, 1e9)
        np.testing.assert_allclose(got / n, np.full(4, scale * (1.1 * 0.9 * 1.05) ** 0.25), rtol=1e-6)


def test_what_is_no_depth_has_no_weight_and_what_nothing_determines_is_nan():
    m = np.array([[2.0, np.inf], [np.nan, np.inf], [2.2, 0.0]])
    n = np.array([[2.0, 5.0], [2.5, 5.0], [2.2, 5.0]])
    got = align(m, n, 1.0, domain="linear")
    np.testing.assert_allclose(got[:, 0], [2.0, 2.5, 2.2])
    assert np.isnan(got[:, 1]).all()
    cut = align(m[:, 0], n[:, 0], 1.0, linked=np.zeros(2))
    np.testing.assert_allclose(cut, [2.0, np.nan, 2.2])


def test_links_stop_at_moving_edges():
    n = np.array([[1.0, 1.0, np.inf], [1.05, 2.0, 1.0]])
    np.testing.assert_array_equal(links(n), [[True, False, False]])


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_a_relative_depth_is_brought_to_metres_despite_outliers_and_sky(scale):
    rng = np.random.default_rng(3)
    truth = scale * rng.uniform(0.5, 8, (4, 40, 40))
    disparity = (1 / truth - 0.02 / scale) / (7.0 / scale)
    metric = truth * np.exp(rng.normal(0, 0.03, truth.shape))
    metric[rng.random(truth.shape) < 0.2] *= 3.0
    metric[:, 0] = np.inf
    got = fit_disparity(disparity, metric)
    assert np.median(np.abs(got / truth - 1)) < 0.01, np.median(np.abs(got / truth - 1))
    assert np.quantile(np.abs(got / truth - 1), 0.99) < 0.03, np.quantile(np.abs(got / truth - 1), 0.99)


def test_bad_input_is_one_line():
    with pytest.raises(UserError, match=r"the metric depth is \[4\], the video depth \[3\]"):
        align(M, N[:3])
    with pytest.raises(UserError, match="domain 'lgo' is not one of linear, log; did you mean 'log'"):
        align(M, N, domain="lgo")
    with pytest.raises(UserError, match="strength -1: expected a number from 0"):
        align(M, N, -1)
    with pytest.raises(UserError, match=r"linked: found \[4\], expected \[3\]"):
        align(M, N, linked=ONE)
    with pytest.raises(UserError, match="valid: found a weight of -1"):
        align(M, N, valid=-ONE)
    with pytest.raises(UserError, match="relative depth falls"):
        fit_disparity(np.arange(100.0), np.arange(1, 101.0))
    with pytest.raises(UserError, match="3 pixels are valid"):
        fit_disparity(np.arange(3.0), np.arange(1, 4.0))
    with pytest.raises(UserError, match="the same everywhere"):
        fit_disparity(np.ones(100), np.arange(1, 101.0))
