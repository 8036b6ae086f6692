"""Depth alignment of the data engine, SpaceVista Eq. 5, solved exactly in float64.

    D* = argmin_D  sum_t w_t (D_t - M_t)^2  +  lambda sum_t c_t ((D_{t+1} - D_t) - (N_{t+1} - N_t))^2

M is the metric depth of each frame on its own, N a depth that is consistent in time. The pixels are independent; each is a tridiagonal
system over time with diagonal w_t + lambda (c_{t-1} + c_t), off-diagonal -lambda c_t and right-hand side
w_t M_t + lambda (c_{t-1} dN_{t-1} - c_t dN_t), which Thomas' algorithm solves for all pixels at once. The paper has w = c = 1, and gives no
lambda.
"""

from __future__ import annotations

import numpy as np

from sv_jax.errors import UserError, unknown

DOMAINS = ("log", "linear")
EDGE = 0.1  # relative step of the consistent depth beyond which a pixel has moved to another surface
PAIRS, FITTED = 4096, 20_000  # pairs that vote for the slope of a relative depth, and pixels that the fit reads


def align(
    metric: np.ndarray,
    video: np.ndarray,
    strength: float | int = 1.0,
    *,
    valid: np.ndarray | None = None,
    linked: np.ndarray | None = None,
    domain: str = "log",
) -> np.ndarray:
    """Aligned depth, f64 [T, ...].

    metric: M [T, ...] in metres, one frame at a time. video: N [T, ...] in metres, consistent in time (see `fit_disparity` for one that is
    relative). strength: lambda >= 0. valid: w [T, ...], weights >= 0 of M (None is 1). linked: c [T - 1, ...], weights >= 0 of the steps
    from a frame to the next, 0 at a cut or where a pixel has moved to another surface (None is 1, see `links`). Both broadcast.
    domain: "log" aligns logarithms, so that far pixels do not outweigh near ones; "linear" is the equation as printed.

    Values of M that are no depth (not finite, or not positive) weigh 0, steps of N from or to such a value too. NaN where no frame that is
    linked to a pixel's has a valid M: nothing says its depth. UserError for shapes that do not fit, a negative weight or an unknown domain.
    """
    if domain not in DOMAINS:
        raise unknown("domain", domain, DOMAINS)
    m, n = np.asarray(metric, np.float64), np.asarray(video, np.float64)
    if m.shape != n.shape or not m.ndim or not len(m):
        raise UserError(f"depth: the metric depth is {list(m.shape)}, the video depth {list(n.shape)}; expected the same [T > 0, ...]")
    if not 0 <= strength < np.inf:
        raise UserError(f"strength {strength}: expected a number from 0")
    w = _weights("valid", valid, m.shape) * _depths(m)
    c = _weights("linked", linked, (len(m) - 1, *m.shape[1:])) * (_depths(n)[1:] & _depths(n)[:-1]) * strength
    m, n = np.where(_depths(m), m, 1.0), np.where(_depths(n), n, 1.0)
    if domain == "log":
        m, n = np.log(m), np.log(n)
    flat = [a.reshape(len(a), -1) if len(a) else np.zeros((0, w[0].size)) for a in (w, c, w * m, np.diff(n, axis=0))]
    d = np.where(_determined(*flat[:2]), _solve(*flat), np.nan).reshape(m.shape)
    return np.exp(d) if domain == "log" else d


def links(video: np.ndarray, edge: float = EDGE) -> np.ndarray:
    """bool [T - 1, ...]: where the relative step of a consistent depth [T, ...] is small enough to be the same surface."""
    with np.errstate(invalid="ignore"):
        return np.abs(np.diff(video, axis=0)) <= edge * np.minimum(video[1:], video[:-1])


def fit_disparity(disparity: np.ndarray, metric: np.ndarray, valid: np.ndarray | None = None) -> np.ndarray:
    """Depth in metres, f64 of the shape of `disparity`, from a relative depth that is affine in inverse depth, as Video-Depth-Anything's.

    One a and b for the whole clip with 1 / metric = a disparity + b: slopes of random pairs vote by their median, then Tukey's weights
    refine. The residual is metric (a disparity + b) - 1, relative to the depth, so that no scale is favoured. The result is clipped to half
    the least and twice the largest valid metric depth, where the inverse runs away.
    UserError where fewer than 16 pixels are valid, or where the two depths do not rise together.
    """
    x, m = np.asarray(disparity, np.float64), np.asarray(metric, np.float64)
    if x.shape != m.shape:
        raise UserError(f"depth: the relative depth is {list(x.shape)}, the metric depth {list(m.shape)}; expected the same")
    good = _depths(m) & np.isfinite(x) & (_weights("valid", valid, m.shape) > 0)
    if good.sum() < 16:
        raise UserError(f"depth: {good.sum()} pixels are valid in the relative and the metric depth, expected at least 16")
    low, high = m[good].min() / 2, m[good].max() * 2
    rng = np.random.default_rng(0)
    chosen = rng.permutation(good.sum())[:FITTED]
    xs, ms = x[good][chosen], m[good][chosen]
    i, j = rng.integers(len(xs), size=(2, PAIRS))
    apart = np.abs(xs[i] - xs[j]) > 0.05 * np.ptp(xs)
    if not apart.any():
        raise UserError("depth: the relative depth is the same everywhere, expected one that varies")
    a = np.median((1 / ms[i] - 1 / ms[j])[apart] / (xs[i] - xs[j])[apart])
    b = np.median(1 / ms - a * xs)
    columns = np.stack([ms * xs, ms], 1)  # of the relative residual
    for _ in range(20):
        residual = columns @ (a, b) - 1
        spread = max(4.685 * 1.4826 * np.median(np.abs(residual)), 1e-9)
        weight = np.clip(1 - (residual / spread) ** 2, 0, None)  # root of Tukey's biweight
        a, b = np.linalg.lstsq(columns * weight[:, None], weight, rcond=None)[0]
    if not a > 0:
        raise UserError(f"depth: the relative depth falls where the inverse metric depth rises (slope {a:.3g}); expected an inverse depth")
    return np.where(np.isfinite(x), 1 / np.clip(a * np.nan_to_num(x) + b, 1 / high, 1 / low), np.nan)


def _depths(values: np.ndarray) -> np.ndarray:
    """bool: which values are a depth."""
    return np.isfinite(values) & (values > 0)


def _weights(name: str, given: np.ndarray | None, shape: tuple[int, ...]) -> np.ndarray:
    """f64 weights of `shape`; a given [T] holds for all pixels of a frame."""
    if given is None:
        return np.ones(shape)
    weights = np.asarray(given, np.float64)
    if weights.ndim == 1:
        weights = weights.reshape(-1, *[1] * (len(shape) - 1))
    if weights.ndim != len(shape) or any(found not in (1, wanted) for found, wanted in zip(weights.shape, shape, strict=True)):
        raise UserError(f"{name}: found {list(np.shape(given))}, expected {list(shape)}, or {list(shape[:1])} for whole frames")
    if not (weights >= 0).all():
        raise UserError(f"{name}: found a weight of {weights.min():g}, expected weights from 0")
    return np.broadcast_to(weights, shape)


def _solve(w: np.ndarray, c: np.ndarray, data: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """The minimiser [T, P] of P pixels; `data` is w M, `steps` dN; c holds lambda. Pixels that nothing determines get any value.

    Thomas' algorithm in terms of what each frame knows from those before it: an estimate `mean` with weight `known`. The diagonal is
    never formed, so that known = w for lambda = 0 and no digit is lost to a large lambda."""
    frames = len(w)
    known, mean = np.empty_like(data), np.empty_like(data)
    known[0], mean[0] = w[0], _ratio(data[0], w[0])
    for t in range(1, frames):
        passed = known[t - 1] * _ratio(c[t - 1], known[t - 1] + c[t - 1])  # weights in series, as conductances
        known[t] = w[t] + passed
        mean[t] = _ratio(data[t] + passed * (mean[t - 1] + steps[t - 1]), known[t])
    d = mean.copy()
    for t in range(frames - 2, -1, -1):
        share = _ratio(c[t], known[t] + c[t])
        d[t] = mean[t] + share * (d[t + 1] - steps[t] - mean[t])
    return d


def _ratio(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a / b, 0 where b is 0."""
    return np.divide(a, b, out=np.zeros_like(a), where=b > 0)


def _determined(w: np.ndarray, c: np.ndarray) -> np.ndarray:
    """bool [T, P]: whether some frame of a pixel's linked run has a weight."""
    forth, back = w > 0, w > 0
    for t in range(1, len(w)):
        forth[t] |= forth[t - 1] & (c[t - 1] > 0)
        back[-1 - t] |= back[-t] & (c[-t] > 0)
    return forth | back
