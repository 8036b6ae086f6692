"""The KV cache, in two parts: a prompt's keys and values once per group, a completion's per sample.

B prompts, G samples of each, T prompt tokens, R completion tokens, N query heads, K KV heads, H head size, Q = N / K.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int


class KV(NamedTuple):
    """Keys and values of one layer, or of all with a leading L. Prompt: [B, K, T, H]. Completions: [B, K, G, R, H]."""

    keys: Array
    values: Array


def empty(like: KV, group: int, length: int) -> KV:
    """Room for `length` completion tokens of each of `group` samples beside the prompt cache `like` of one layer or of all."""
    *lead, _, h = like.keys.shape
    zeros = jnp.zeros((*lead, group, length, h), like.keys.dtype)
    return KV(zeros, zeros)


def write(cache: KV, new: KV, index: Int[Array, ""]) -> KV:
    """Put one token's keys and values ([…, G, 1, H]) at `index` of the completion axis."""
    return jax.tree.map(lambda c, n: jax.lax.dynamic_update_slice_in_dim(c, n, index, axis=c.ndim - 2), cache, new)


def attend(
    q: Float[Array, "B N G H"],
    new: KV,
    prompt: KV,
    completion: KV,
    prompt_mask: Bool[Array, "B T"],
    filled: Int[Array, ""],
) -> Float[Array, "B N G H"]:
    """One new token of each sample sees its prompt, the first `filled` tokens of its own completion, and itself (`new` [B, K, G, 1, H]).

    The parts are attended to apart and merged by log-sum-exp, so the prompt is read once for its G samples and never copied.
    """
    b, n, g, h = q.shape
    k, t = prompt.keys.shape[1:3]
    r = completion.keys.shape[3]
    q = jnp.swapaxes(q.reshape(b, k, n // k, g, h), 2, 3)  # [B, K, G, Q, H]
    shared = _part(q.reshape(b, k, g * (n // k), h), prompt, prompt_mask[:, None, None, :])
    shared = tuple(x.reshape(b, k, g, n // k, -1) for x in shared)
    own = _part(q, completion, jnp.arange(r) < filled)
    itself = _part(q, new, jnp.ones(1, bool))
    out = _merge(shared, own, itself).astype(q.dtype)
    return jnp.swapaxes(out, 2, 3).reshape(b, n, g, h)


def _part(q: Float[Array, "*lead Q H"], kv: KV, mask: Array) -> tuple[Array, Array, Array]:
    """Unnormalised attention over some keys (`mask` broadcasts to [..., Q, S]): (sum of e^(s - m) v, m, sum of e^(s - m)), all f32."""
    scores = jnp.einsum("...qh,...sh->...qs", q, kv.keys, preferred_element_type=jnp.float32) * q.shape[-1] ** -0.5
    scores = jnp.where(mask, scores, -1e30)  # finite: a part with nothing to see gets weight e^-huge, not nan
    top = scores.max(-1, keepdims=True)
    e = jnp.exp(scores - top)
    out = jnp.einsum("...qs,...sh->...qh", e.astype(kv.values.dtype), kv.values, preferred_element_type=jnp.float32)
    return out, top, e.sum(-1, keepdims=True)


def _merge(*parts: tuple[Array, Array, Array]) -> Array:
    top = jnp.stack([m for _, m, _ in parts]).max(0)
    weights = [jnp.exp(m - top) for _, m, _ in parts]
    return sum(w * out for w, (out, _, _) in zip(weights, parts, strict=True)) / sum(
        w * total for w, (_, _, total) in zip(weights, parts, strict=True)
    )
