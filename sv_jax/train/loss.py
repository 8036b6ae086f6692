"""Next-token cross-entropy, and log-probabilities of given tokens, without logits of size [B, T, V].

N tokens (flattened rows), D width, V vocabulary.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

CHUNK = 1024  # tokens whose logits exist at one time


def token_logps(
    hidden: Float[Array, "N D"],
    kernel: Float[Array, "D V"],
    ids: Int[Array, " N"],
    temperature: float | jax.Array = 1.0,
    chunk: int = CHUNK,
) -> tuple[Float[Array, " N"], Float[Array, " N"], Float[Array, " N"]]:
    """f32 log-probability of `ids`, entropy (nats) of the distribution and whether `ids` is its mode, at `temperature`.

    A chunk's logits are made again in the backward pass instead of being kept.
    """
    n, d = hidden.shape
    chunk = min(chunk, n)
    pad = -n % chunk
    hidden = jnp.pad(hidden, ((0, pad), (0, 0))).reshape(-1, chunk, d)
    ids = jnp.pad(ids, (0, pad)).reshape(-1, chunk)

    @jax.checkpoint
    def one(carry, inputs):
        h, i = inputs
        logits = jnp.dot(h, kernel.astype(h.dtype), preferred_element_type=jnp.float32) / temperature
        logp = jax.nn.log_softmax(logits)
        entropy = -jnp.sum(jnp.exp(logp) * logp, axis=-1)
        return carry, (jnp.take_along_axis(logp, i[:, None], -1)[:, 0], entropy, (logits.argmax(-1) == i).astype(jnp.float32))

    _, out = jax.lax.scan(one, None, (hidden, ids))
    return tuple(x.reshape(-1)[:n] for x in out)


def sft_loss(hidden: Float[Array, "B T D"], kernel: Float[Array, "D V"], targets: Int[Array, "B T"], weights: Float[Array, "B T"]):
    """Mean cross-entropy over the weighted tokens -> (loss [], {"tokens", "mean_token_accuracy"})."""
    d = hidden.shape[-1]
    logp, _, hit = token_logps(hidden.reshape(-1, d), kernel, targets.reshape(-1))
    w = weights.reshape(-1)
    total = jnp.maximum(w.sum(), 1e-6)
    return -(logp * w).sum() / total, {"target_tokens": (w > 0).sum(), "mean_token_accuracy": (hit * w).sum() / total}
