"""GRPO as pure functions: rewards to advantages (Eq. 4), log-probabilities to a loss. No model inside.

B rows (completions), R tokens of a completion, G completions of one prompt. Formulas and names: huggingface/trl GRPOTrainer.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from sv_jax.errors import UserError, unknown

LOSSES = ("grpo", "dr_grpo", "bnpo", "dapo", "gspo", "cispo")
RATIOS = ("token", "sequence")
SCALINGS = ("group", "batch", "none")
CORRECTIONS = ("token_truncate", "token_mask", "sequence_truncate", "sequence_mask")


@dataclass(frozen=True)
class LossConfig:
    """`gspo` is `grpo` with the ratio of the whole sequence, whatever `ratio` says. `epsilon_high` None is `epsilon`; for cispo it is
    the cap of the ratio itself (5 is usual). `delta` bounds the unclipped branch from above. `kl_bias_correction` multiplies the k3
    estimate by the ratio, which makes its gradient that of the true KL (TRL's default; not Video-R1's)."""

    loss: str = "grpo"
    ratio: str = "token"
    epsilon: float = 0.2
    epsilon_high: float | None = None
    delta: float | None = None
    beta: float = 0.04
    kl_bias_correction: bool = False

    def __post_init__(self):
        if self.loss not in LOSSES:
            raise unknown("grpo loss", self.loss, LOSSES)
        if self.ratio not in RATIOS:
            raise unknown("grpo ratio", self.ratio, RATIOS)
        if not 0 < self.epsilon < 1:
            raise UserError(f"grpo epsilon {self.epsilon}: expected a number between 0 and 1")
        if self.beta < 0:
            raise UserError(f"grpo beta {self.beta}: expected 0 (no reference) or more")

    @property
    def sequence_level(self) -> bool:
        return self.loss == "gspo" or self.ratio == "sequence"

    @property
    def high(self) -> float:
        return self.epsilon if self.epsilon_high is None else self.epsilon_high


def advantages(rewards: Float[np.ndarray, "P G"], scaling: str = "group", eps: float = 1e-4) -> Float[np.ndarray, "P G"]:
    """`(R - mean of the group) / (std + eps)` in f64, std with n - 1, of the group or of the whole batch, or no division at all.
    A reward that is NaN (nothing could score the completion) is left out of mean and std and gets advantage 0."""
    if scaling not in SCALINGS:
        raise unknown("scale_rewards", scaling, SCALINGS)
    known = ~np.isnan(rewards)
    count = known.sum(1, keepdims=True)
    mean = np.where(known, rewards, 0.0).sum(1, keepdims=True, dtype=np.float64) / np.maximum(count, 1)
    centred = np.where(known, rewards - mean, 0.0)
    if scaling == "none":
        return centred
    if scaling == "group":
        std = np.sqrt((centred**2).sum(1, keepdims=True) / np.maximum(count - 1, 1))
    else:
        std = np.std(rewards[known], ddof=1, dtype=np.float64) if count.sum() > 1 else 0.0
    return centred / (std + eps)


def grpo_loss(
    logps: Float[Array, "B R"],
    old_logps: Float[Array, "B R"] | None,
    ref_logps: Float[Array, "B R"] | None,
    advantages: Float[Array, " B"],
    mask: Bool[Array, "B R"],
    cfg: LossConfig,
    *,
    max_length: int | None = None,
    rows: int | Array | None = None,
    tokens: int | Array | None = None,
    weights: Float[Array, " B #R"] | None = None,
) -> tuple[Float[Array, ""], dict[str, tuple[Array, Array]]]:
    """Loss of one micro-batch, and metrics as (sum, count) under TRL's names.

    `mask` is true on the tokens of a completion up to and with its first stop token; a row may be masked out whole. `old_logps` None:
    one update per rollout, the ratio is 1 and the gradient that of -A log π. `ref_logps` is read only when beta > 0.
    `rows` and `tokens` (masked in) count the whole optimiser step, all micro-batches and devices, so that the losses of its micro-batches
    add up to the step's; by default this batch is the step. `max_length` (default R) is dr_grpo's constant. `weights` multiply the policy
    term of each token, not the KL: see `importance_ratio`, `off_policy_mask`, `top_entropy_mask`.
    """
    m = mask.astype(logps.dtype)
    logps, old_logps = _masked(logps, mask), _masked(jax.lax.stop_gradient(logps) if old_logps is None else old_logps, mask)
    lengths = jnp.maximum(m.sum(1, keepdims=True), 1)
    delta = logps - old_logps
    ratio = jnp.exp(delta.sum(1, keepdims=True) / lengths if cfg.sequence_level else delta)
    a = advantages[:, None]
    policy = _policy_term(ratio, logps, a, cfg)
    metrics = _clip_metrics(ratio, a, m, cfg)
    if weights is not None:
        policy = policy * weights
    if cfg.beta:
        d = _masked(ref_logps, mask) - logps
        kl = jnp.expm1(d) - d
        kl = kl * ratio if cfg.kl_bias_correction else kl
        policy = policy + cfg.beta * kl
        metrics["kl"] = ((kl * m).sum(), m.sum())
    rows = len(logps) if rows is None else rows
    tokens = m.sum() if tokens is None else tokens
    return _reduce(policy * m, lengths, m.sum(), cfg.loss, max_length or mask.shape[1], rows, tokens), metrics


def _masked(x: Array, mask: Array) -> Array:
    """Zero outside the mask, before any exp: garbage there must not become inf * 0."""
    return jnp.where(mask, x, 0.0)


def _policy_term(ratio: Array, logps: Array, a: Array, cfg: LossConfig) -> Array:
    if cfg.loss == "cispo":
        return -jax.lax.stop_gradient(jnp.minimum(ratio, cfg.high)) * a * logps
    clipped = jnp.clip(ratio, 1 - cfg.epsilon, 1 + cfg.high)
    unclipped = ratio if cfg.delta is None else jnp.minimum(ratio, cfg.delta)
    return -jnp.minimum(unclipped * a, clipped * a) * jnp.ones_like(logps)


def _reduce(x: Array, lengths: Array, here: Array, loss: str, max_length: int, rows, tokens) -> Array:
    """[B, R] masked terms to a scalar: by completion (grpo, gspo), by the tokens of the micro-batch (bnpo) or of the step (dapo, cispo),
    by a constant (dr_grpo)."""
    if loss in ("grpo", "gspo"):
        return (x / lengths).sum() / rows
    if loss == "dr_grpo":
        return x.sum() / (rows * max_length)
    if loss == "bnpo":
        return x.sum() / jnp.maximum(here, 1) * (x.shape[0] / rows)
    return x.sum() / jnp.maximum(tokens, 1)


def _clip_metrics(ratio: Array, a: Array, m: Array, cfg: LossConfig) -> dict[str, tuple[Array, Array]]:
    """Share of tokens (of rows, at sequence level) whose ratio is cut."""
    share = lambda x: (x.sum(), jnp.array(x.size)) if cfg.sequence_level else ((x * m).sum(), m.sum())  # noqa: E731
    if cfg.loss == "cispo":
        return {"cispo_clip_ratio": share((ratio > cfg.high) & (a > 0))}
    low, high = (ratio < 1 - cfg.epsilon) & (a < 0), (ratio > 1 + cfg.high) & (a > 0)
    return {"clip_ratio/low_mean": share(low), "clip_ratio/high_mean": share(high), "clip_ratio/region_mean": share(low | high)}


def importance_ratio(
    old_logps: Float[Array, "B R"],
    sampler_logps: Float[Array, "B R"],
    mask: Bool[Array, "B R"],
    mode: str,
    high: float,
    low: float | None = None,
) -> Float[Array, " B #R"]:
    """Weights that undo a sampler whose log-probabilities are not the trainer's: exp(old - sampler) per token or per sequence, cut to
    [low, high] (`…_truncate`) or set to 0 outside (`…_mask`). A sampler value that is NaN counts as equal."""
    if mode not in CORRECTIONS:
        raise unknown("importance correction", mode, CORRECTIONS)
    difference = _masked(jnp.nan_to_num(old_logps - sampler_logps, nan=0.0), mask)
    ratio = jnp.exp(difference.sum(1, keepdims=True) if mode.startswith("sequence") else difference)
    if mode.endswith("truncate"):
        return jnp.clip(ratio, low, high)
    return jnp.where((ratio <= high) & (ratio >= (low or 0.0)), ratio, 0.0)


def off_policy_mask(
    logps: Float[Array, "B R"],
    sampler_logps: Float[Array, "B R"],
    advantages: Float[Array, " B"],
    mask: Bool[Array, "B R"],
    threshold: float,
) -> Float[Array, "B 1"]:
    """0 for rows with a negative advantage that the policy has moved away from: mean of sampler - policy above `threshold`; else 1."""
    moved = _masked(sampler_logps - jax.lax.stop_gradient(logps), mask).sum(1) / jnp.maximum(mask.sum(1), 1)
    return 1.0 - ((advantages < 0) & (moved > threshold)).astype(logps.dtype)[:, None]


def top_entropy_mask(entropies: Float[Array, "B R"], mask: Bool[Array, "B R"], share: float) -> Float[Array, "B R"]:
    """1 on the `share` of the batch's tokens whose entropy is highest, by the linearly interpolated quantile; else 0."""
    threshold = jnp.nanquantile(jnp.where(mask, entropies, jnp.nan), 1 - share)
    return (mask & (entropies >= threshold)).astype(entropies.dtype)
