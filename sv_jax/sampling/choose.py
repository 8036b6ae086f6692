"""From logits to tokens: temperature, top-k, top-p and banned ids, all of them arrays, so that a change never recompiles.

B prompts, G samples of each, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from sv_jax.errors import UserError

INT32 = np.iinfo(np.int32)


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
    best = allowed.max(-1, keepdims=True)
    greedy = _first(allowed == best)

    def draw():
        cut = jnp.any((params.top_p < 1) | (params.top_k > 0))
        top = lambda: kept(allowed, jnp.asarray(params.top_k)[:, None], jnp.asarray(params.top_p)[:, None])  # noqa: E731
        mask = jax.lax.cond(cut, top, lambda: jnp.ones(allowed.shape, bool))
        return jnp.where(
            hot[:, None], _draw(jnp.where(mask, jnp.exp(allowed - best), 0.0), _uniform(params, step, logits.shape[1])), greedy
        )

    tokens = jax.lax.cond(jnp.any(hot), draw, lambda: greedy)
    return tokens, jnp.take_along_axis(jax.nn.log_softmax(scaled), tokens[..., None], -1)[..., 0]


def kept(logits: Float[Array, "*lead V"], top_k: Int[Array, "*#lead"], top_p: Float[Array, "*#lead"]) -> Bool[Array, "*lead V"]:
    """True on the `top_k` largest logits (0: all) that also lie in the smallest set of those holding `top_p` of their probability.

    Both cuts are thresholds, found exactly by bisection over the bits of a float: sorting 150,000 logits takes twenty times as long.
    """
    bits = jax.lax.bitcast_convert_type(logits, jnp.int32)
    key = jnp.where(bits < 0, bits ^ INT32.max, bits)  # integers in the order of the floats
    shape = (*logits.shape[:-1], 1)
    k = jnp.where(top_k > 0, top_k, logits.shape[-1])[..., None]
    threshold = _largest(lambda t: (key >= t).sum(-1, keepdims=True) >= k, shape)
    weights = jnp.where(key >= threshold, jnp.exp(logits - logits.max(-1, keepdims=True)), 0.0)
    mass = top_p[..., None] * weights.sum(-1, keepdims=True)
    nucleus = _largest(lambda t: jnp.where(key >= t, weights, 0.0).sum(-1, keepdims=True) >= mass, shape)
    return key >= jnp.where(top_p[..., None] < 1, jnp.maximum(threshold, nucleus), threshold)


def _largest(holds: Callable[[Array], Array], shape: tuple[int, ...]) -> Array:
    """The largest i32 for which `holds`, a condition that is true up to some number and false beyond."""

    def halve(_, bounds):
        low, high = bounds
        middle = (low >> 1) + (high >> 1) + (low & high & 1)  # their mean, without overflow
        true = holds(middle)
        return jnp.where(true, middle, low), jnp.where(true, high, middle)

    bounds = jnp.full(shape, INT32.min, jnp.int32), jnp.full(shape, INT32.max, jnp.int32)
    return jax.lax.fori_loop(0, 32, halve, bounds)[0]


def _draw(weights: Float[Array, "B G V"], uniform: Float[Array, "B G"]) -> Int[Array, "B G"]:
    """The token at which the running sum of the weights passes `uniform` of the whole. Rounding never lands on a token of weight 0."""
    total = jnp.where(weights > 0, jnp.cumsum(weights, -1), 0.0)
    return _first(total > uniform[..., None] * total.max(-1, keepdims=True))


def _first(mask: Bool[Array, "*lead V"]) -> Int[Array, "*lead"]:
    """Index of the first True: two plain reductions, where argmax is slow on a CPU."""
    v = mask.shape[-1]
    return jnp.minimum(jnp.where(mask, jnp.arange(v, dtype=jnp.int32), v).min(-1), v - 1)


def _uniform(params: Sampling, step: Array, group: int) -> Float[Array, "B G"]:
    """A number in [0, 1) for each sample, from its own key."""

    def one(seed, prompt, number):
        key = jax.random.key(seed)
        for part in (prompt, number, step):
            key = jax.random.fold_in(key, part)
        return jax.random.uniform(key)

    samples = jax.vmap(one, (None, None, 0))
    return jax.vmap(samples, (0, 0, None))(params.seed, params.prompt_id, jnp.arange(group))
