"""From logits to tokens: temperature, top-k, top-p and banned ids, all of them arrays, so that a change never recompiles.

B prompts, G samples of each, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from sv_jax.errors import UserError


class Sampling(NamedTuple):
    """How each prompt is sampled; made by `sampling`."""

    temperature: Array  # f32 [B], 0 is greedy
    top_p: Array  # f32 [B], 1 is off
    top_k: Array  # i32 [B], 0 is off
    seed: Array  # u32 [B]
    prompt_id: Array  # u32 [B] names the prompt, so that its samples do not depend on the batch around it
    stop: Array  # i32 [n] token ids that end a completion


def sampling(
    rows: int,
    *,
    stop: Sequence[int],
    temperature: float | Sequence[float] = 1.0,
    top_p: float | Sequence[float] = 1.0,
    top_k: int | Sequence[int] = 0,
    seed: int | Sequence[int] = 0,
    prompt_ids: Sequence[int] | None = None,
) -> Sampling:
    """Parameters for `rows` prompts, each one value for all or one a prompt. `prompt_ids` default to 0, 1, ….
    UserError for a temperature below 0, top_p outside (0, 1] or top_k below 0."""
    full = lambda x, dtype: np.broadcast_to(np.asarray(x), (rows,)).astype(dtype)  # noqa: E731
    out = Sampling(
        full(temperature, np.float32),
        full(top_p, np.float32),
        full(top_k, np.int32),
        full(seed, np.uint32),
        full(np.arange(rows) if prompt_ids is None else prompt_ids, np.uint32),
        np.asarray(stop, np.int32).reshape(-1),
    )
    if not (out.temperature >= 0).all():
        raise UserError(f"temperature {temperature}: expected 0 (greedy) or more")
    if not ((out.top_p > 0) & (out.top_p <= 1)).all():
        raise UserError(f"top_p {top_p}: expected a number above 0 and at most 1")
    if not (out.top_k >= 0).all():
        raise UserError(f"top_k {top_k}: expected 0 (off) or more")
    return out


def choose(
    logits: Float[Array, "B G V"], params: Sampling, step: Int[Array, ""], banned: tuple[int, ...]
) -> tuple[Int[Array, "B G"], Float[Array, "B G"]]:
    """One token of each sample, and its log-probability.

    Order: banned ids out, temperature, top-k, top-p, draw. The log-probability is that of softmax(logits / temperature) over the whole
    vocabulary, before ids are banned or cut off: what the trainer computes. At temperature 0 it is the model's own (temperature 1).
    The draw depends on (seed, prompt_id, number of the sample, step) alone.
    """
    hot = params.temperature > 0
    scaled = logits.astype(jnp.float32) / jnp.where(hot, params.temperature, 1.0)[:, None, None]
    allowed = scaled.at[:, :, jnp.array(banned, jnp.int32)].set(-jnp.inf)

    def draw():
        cut = jnp.any((params.top_p < 1) | (params.top_k > 0))
        keep = lambda: kept(allowed, params.top_k[:, None], params.top_p[:, None])  # noqa: E731
        mask = jax.lax.cond(cut, keep, lambda: jnp.ones(allowed.shape, bool))
        drawn = jnp.argmax(jnp.where(mask, allowed, -jnp.inf) + _noise(params, step, allowed.shape), -1)
        return jnp.where(hot[:, None], drawn, jnp.argmax(allowed, -1)).astype(jnp.int32)

    tokens = jax.lax.cond(jnp.any(hot), draw, lambda: jnp.argmax(allowed, -1).astype(jnp.int32))
    return tokens, jnp.take_along_axis(jax.nn.log_softmax(scaled), tokens[..., None], -1)[..., 0]


def kept(logits: Float[Array, "*lead V"], top_k: Int[Array, "*#lead"], top_p: Float[Array, "*#lead"]) -> Bool[Array, "*lead V"]:
    """True on the `top_k` largest logits (0: all) that also lie in the smallest set of those holding `top_p` of their probability."""
    v = logits.shape[-1]
    ordered = -jnp.sort(-logits, -1)
    k = jnp.where(top_k > 0, jnp.minimum(top_k, v), v)[..., None]
    p = jax.nn.softmax(jnp.where(jnp.arange(v) < k, ordered, -jnp.inf), -1)
    before = jnp.cumsum(p, -1) - p  # probability of all that are larger
    inside = (jnp.arange(v) < k) & ((before < top_p[..., None]) | (top_p[..., None] >= 1))
    least = jnp.min(jnp.where(inside, ordered, jnp.inf), -1, keepdims=True)
    return logits >= least


def _noise(params: Sampling, step: Array, shape: tuple[int, int, int]) -> Array:
    """Gumbel noise [B, G, V]; each sample folds its own key."""

    def one(seed, prompt, number):
        key = jax.random.key(seed)
        for part in (prompt, number, step):
            key = jax.random.fold_in(key, part)
        return jax.random.gumbel(key, shape[-1:])

    samples = jax.vmap(one, (None, None, 0))
    return jax.vmap(samples, (0, 0, None))(params.seed, params.prompt_id, jnp.arange(shape[1]))
