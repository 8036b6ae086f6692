"""GRPO's losses and advantages, against trl."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from scripts.vectors.common import Cases, difference
from sv_jax.train.grpo_loss import (
    LOSSES,
    LossConfig,
    advantages,
    grpo_loss,
    importance_ratio,
    off_policy_mask,
    top_entropy_mask,
)


def grpo_losses(folder: Path) -> Cases:
    """Values and gradients in f64. Losses that sv-jax does not offer are none of its cases."""
    arrays = dict(np.load(folder / "grpo_losses.npz"))
    for i, case in enumerate(json.loads((folder / "grpo_losses.json").read_text())):
        if case["loss_type"] in LOSSES:
            yield grpo_name(case), partial(grpo_loss_case, case, arrays, arrays["loss"][i], arrays["grad_logps"][i])


def grpo_metrics(folder: Path) -> Cases:
    arrays = dict(np.load(folder / "grpo_losses.npz"))
    for case in json.loads((folder / "grpo_losses.json").read_text()):
        if case["loss_type"] in LOSSES:
            yield grpo_name(case), partial(grpo_metrics_case, case, arrays)


def grpo_name(case: dict) -> str:
    return f"{case['loss_type']} {case['importance_sampling_level']} {case['variant']}"


def grpo_loss_case(case: dict, arrays: dict, loss: np.ndarray, grad: np.ndarray) -> float:
    with jax.enable_x64(True):
        (value, _), got = jax.value_and_grad(grpo_of(case, arrays), has_aux=True)(jnp.asarray(arrays["logps"], jnp.float64))
        return max(difference(value, loss), difference(got, grad))


def grpo_metrics_case(case: dict, arrays: dict) -> float:
    with jax.enable_x64(True):
        _, metrics = grpo_of(case, arrays)(jnp.asarray(arrays["logps"], jnp.float64))
        return max(abs(float(total) / float(count) - case["metrics"][key]) for key, (total, count) in metrics.items())


def grpo_of(case: dict, arrays: dict) -> Callable:
    """The loss of one case as a function of the policy's log-probabilities [B, R]."""
    names = ("old_logps", "ref_logps", "sampling_logps", "entropies", "advantages")
    old, ref, sampler, entropies, adv = (jnp.asarray(arrays[name], jnp.float64) for name in names)
    mask = jnp.asarray(arrays["completion_mask"], bool)
    names = ("loss_type", "importance_sampling_level", "epsilon_low", "epsilon_high", "delta", "beta", "use_bias_correction_kl")
    cfg = LossConfig(*(case[name] for name in names))
    steps = case["gradient_accumulation_steps"]

    def weights(logps):
        if case["is_mode"]:
            return importance_ratio(old, sampler, mask, case["is_mode"], case["is_clip_max"], case["is_clip_min"])
        if case["off_policy_mask_threshold"]:
            return off_policy_mask(logps, sampler, adv, mask, case["off_policy_mask_threshold"])
        return top_entropy_mask(entropies, mask, case["top_entropy_quantile"]) if case["top_entropy_quantile"] < 1 else None

    def loss(logps):
        return grpo_loss(
            logps, old if case["uses_old_logps"] else None, ref, adv, mask, cfg, max_length=case["max_completion_length"],
            rows=steps * len(logps), tokens=steps * mask.sum(), weights=weights(logps),
        )  # fmt: skip

    return loss


def advantages_of(folder: Path) -> Cases:
    """The three scalings of a weighted sum; GDPO's `normalize_then_sum` is not offered."""
    for i, batch in enumerate(json.loads((folder / "advantages.json").read_text())):
        rewards = np.array(batch["rewards"], np.float64)  # null becomes NaN: that reward does not apply
        known = ~np.isnan(rewards)
        total = np.where(known.any(1), np.where(known, rewards * batch["reward_weights"], 0).sum(1), np.nan)
        total = total.reshape(-1, batch["num_generations"])
        for key in (key for key in batch if key.startswith("sum_then_normalize/")):
            yield f"{i} {key}", lambda t=total, k=key, b=batch: difference(advantages(t, k.split("/")[1]).ravel(), b[k])
