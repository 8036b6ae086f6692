"""Oracle: values and gradients of TRL's own `_compute_loss` in float64 (tests/data/grpo_losses.*), and its advantages."""

from __future__ import annotations

import functools
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sv_jax.errors import UserError
from sv_jax.train.grpo_loss import (
    LossConfig,
    advantages,
    grpo_loss,
    importance_ratio,
    off_policy_mask,
    top_entropy_mask,
)

DATA = Path(__file__).parents[1] / "data"
CASES = json.loads((DATA / "grpo_losses.json").read_text())
ARRAYS = dict(np.load(DATA / "grpo_losses.npz"))
MASK = jnp.asarray(ARRAYS["completion_mask"], bool)


def arrays():
    return {
        k: jnp.asarray(ARRAYS[k], jnp.float64) for k in ("logps", "old_logps", "ref_logps", "sampling_logps", "entropies", "advantages")
    }


def run(case, a):
    """(loss, metrics), gradient of one case through our functions."""
    cfg = LossConfig(
        case["loss_type"],
        case["importance_sampling_level"],
        case["epsilon_low"],
        case["epsilon_high"],
        case["delta"],
        case["beta"],
        case["use_bias_correction_kl"],
    )
    old = a["old_logps"] if case["uses_old_logps"] else None
    steps = case["gradient_accumulation_steps"]

    def weights(logps):
        if case["is_mode"]:
            return importance_ratio(a["old_logps"], a["sampling_logps"], MASK, case["is_mode"], case["is_clip_max"], case["is_clip_min"])
        if case["off_policy_mask_threshold"]:
            return off_policy_mask(logps, a["sampling_logps"], a["advantages"], MASK, case["off_policy_mask_threshold"])
        if case["top_entropy_quantile"] < 1:
            return top_entropy_mask(a["entropies"], MASK, case["top_entropy_quantile"])
        return None

    def loss(logps):
        return grpo_loss(
            logps, old, a["ref_logps"], a["advantages"], MASK, cfg, max_length=case["max_completion_length"],
            rows=steps * len(logps), tokens=steps * MASK.sum(), weights=weights(logps),
        )  # fmt: skip

    return jax.value_and_grad(loss, has_aux=True)(a["logps"])


@pytest.mark.parametrize("loss_type", ["grpo", "dr_grpo", "bnpo", "dapo", "cispo"])
def test_value_and_gradient_equal_trl(loss_type):
    tested = 0
    with jax.enable_x64(True):
        a = arrays()
        for i, case in enumerate(CASES):
            if case["loss_type"] != loss_type:
                continue
            (value, metrics), grad = run(case, a)
            name = f"{loss_type} {case['importance_sampling_level']} {case['variant']}"
            np.testing.assert_allclose(value, ARRAYS["loss"][i], atol=1e-8, err_msg=name)
            np.testing.assert_allclose(grad, ARRAYS["grad_logps"][i], atol=1e-8, err_msg=name)
            for key, (total, count) in metrics.items():
                np.testing.assert_allclose(float(total) / float(count), case["metrics"][key], atol=1e-6, err_msg=f"{name} {key}")
            tested += 1
    assert tested == 26


@functools.partial(jax.jit, static_argnames="cfg")
def value_and_grad(cfg, logps, old, ref, adv, mask, rows=None, tokens=None):
    return jax.value_and_grad(lambda x: grpo_loss(x, old, ref, adv, mask, cfg, rows=rows, tokens=tokens)[0])(logps)


INPUTS = [jnp.asarray(ARRAYS[k]) for k in ("logps", "old_logps", "ref_logps", "advantages")]


def test_gspo_is_grpo_at_sequence_level():
    gspo, sequence, token = (
        value_and_grad(cfg, *INPUTS, MASK)[0] for cfg in map(LossConfig, ("gspo", "grpo", "grpo"), ("token", "sequence", "token"))
    )
    assert gspo == sequence != token


@pytest.mark.parametrize("loss", ["grpo", "gspo", "cispo"])
def test_garbage_outside_the_mask_changes_nothing(loss):
    dirty = [jnp.where(MASK, x, fill) for x, fill in zip(INPUTS[:3], (jnp.inf, jnp.nan, 1e30), strict=True)]
    (v1, g1), (v2, g2) = value_and_grad(LossConfig(loss), *INPUTS, MASK), value_and_grad(LossConfig(loss), *dirty, INPUTS[3], MASK)
    assert v1 == v2
    np.testing.assert_array_equal(g1, g2)


@pytest.mark.parametrize("loss", ["grpo", "dr_grpo", "dapo", "gspo", "cispo"])
def test_micro_batches_add_up_to_the_step(loss):
    whole = value_and_grad(LossConfig(loss), *INPUTS, MASK)[0]
    halves = [[x[s] for x in (*INPUTS, MASK)] for s in (slice(0, 4), slice(4, None))]
    parts = [value_and_grad(LossConfig(loss), *half, len(MASK), MASK.sum())[0] for half in halves]
    assert float(sum(parts)) == pytest.approx(float(whole), rel=1e-5)


def test_advantages_equal_trl():
    for batch in json.loads((DATA / "advantages.json").read_text()):
        rewards = np.array(batch["rewards"], np.float64)  # None becomes nan
        known = ~np.isnan(rewards)
        total = np.where(known.any(1), np.nansum(rewards * batch["reward_weights"], 1), np.nan).reshape(-1, batch["num_generations"])
        for scaling in ("group", "batch", "none"):
            ours = advantages(total, scaling)
            np.testing.assert_allclose(ours.ravel(), batch[f"sum_then_normalize/{scaling}"], atol=1e-9, err_msg=scaling)


def test_advantages_known_values():
    np.testing.assert_allclose(advantages(np.array([[1.0, 0.0, 0.0, 1.0]])), [[0.8659, -0.8659, -0.8659, 0.8659]], atol=1e-4)
    assert (advantages(np.full((2, 4), 0.3)) == 0).all()
    assert (advantages(np.array([[np.nan, np.nan], [1.0, np.nan]])) == 0).all()


def test_config_refuses():
    with pytest.raises(UserError, match="did you mean 'dapo'"):
        LossConfig("dapoo")
    with pytest.raises(UserError, match="grpo ratio"):
        LossConfig(ratio="row")
    with pytest.raises(UserError, match="epsilon"):
        LossConfig(epsilon=0.0)
    with pytest.raises(UserError, match="beta"):
        LossConfig(beta=-1.0)
