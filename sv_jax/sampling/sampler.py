"""The sampler: prefill each prompt once, then decode all samples of all prompts in one compiled loop that ends when every row has.

    prompt 0   [p p p p . .]──┬─ sample 0  [a b c STOP]         T = 6 prompt tokens, padded on the right
               prefilled once ├─ sample 1  [d STOP . .]         R = 4 completion tokens
    prompt 1   [q q q q q q]──┴─ …

B prompts, G samples of each, T prompt tokens, R = max_new_tokens, L layers, D width, V vocabulary, E experts.
"""

from __future__ import annotations

import functools
from collections.abc import Generator
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from sv_jax.errors import UserError
from sv_jax.models.batch import Batch
from sv_jax.models.layers import causal_attention, one_by_one
from sv_jax.models.qwen2_5_vl.text import mrope_angles, packed_mask, run_layers
from sv_jax.models.spacevista import model as spacevista
from sv_jax.models.spacevista.model import SpaceVista
from sv_jax.sampling import cache
from sv_jax.sampling.cache import KV
from sv_jax.sampling.choose import Sampling, choose


@dataclass(frozen=True)
class SamplerConfig:
    """What shapes the compiled program."""

    max_new_tokens: int = 256
    dtype: str = "float32"

    def __post_init__(self):
        if self.max_new_tokens < 1:
            raise UserError(f"max_new_tokens {self.max_new_tokens}: expected at least 1")


class Prompt(NamedTuple):
    """What prefill leaves of a batch of prompts."""

    logits: Array  # f32 [B, V] after the last prompt token
    kv: KV | tuple[KV, ...] | None  # [L, B, K, T, H], or one [B, K, T, H] per layer; stored once for all samples of a prompt
    first_kv: KV | tuple[KV, ...] | None  # the same of the first pass, where the router has one
    mask: Array  # bool [B, T] true on prompt tokens
    length: Array  # i32 [B] prompt tokens; a row of 0 is padding and is never sampled
    position: Array  # i32 [B] M-RoPE position of the last prompt token; completions continue from it on all three axes
    signal: Array | None  # [B, …] what the router reads beside a layer's input, where that stays the same: a scale, a prompt's gate
    gates: Array | None  # f32 [L, B, E] sum of the router's gates over the prompt's tokens


class State(NamedTuple):
    """All that changes while decoding."""

    step: Array  # i32 [] tokens emitted so far; the model has read step - 1 of them
    token: Array  # i32 [B, G] last emitted token, the model's next input
    tokens: Array  # i32 [B, G, R] emitted tokens, 0 after the stop token
    logps: Array  # f32 [B, G, R] their log-probabilities (see `choose`), 0 after the stop token
    lengths: Array  # i32 [B, G] emitted tokens of each sample, the stop token included
    done: Array  # bool [B, G] the sample has emitted its stop token, or its row is padding
    kv: KV | tuple[KV, ...]  # [L, B, K, G, R, H], or one [B, K, G, R, H] per layer
    first_kv: KV | tuple[KV, ...] | None  # the same of the first pass, where the router has one
    gates: Array | None  # f32 [L, B, G, E] sum of the router's gates over the completion's tokens


class Samples(NamedTuple):
    tokens: Array  # i32 [B, G, R] 0 after the stop token
    logps: Array  # f32 [B, G, R] of softmax(logits / temperature) over the whole vocabulary, 0 after the stop token
    lengths: Array  # i32 [B, G] tokens, the stop token included
    stopped: Array  # bool [B, G] false: cut off at max_new_tokens
    router: Array | None  # f32 [B, G, L, E] mean gate over the tokens of prompt and completion that the model has read


@functools.partial(jax.jit, static_argnames="dtype")
def prefill(model: SpaceVista, batch: Batch, dtype: str = "float32") -> Prompt:
    """Read a batch of prompts, one a row, padded on the right (segment 1; padding 0)."""
    dtype = jnp.dtype(dtype)
    features = None if batch.vision is None else spacevista.vision_features(model, batch.vision, dtype)
    mask = packed_mask(batch.segments, batch.branches)
    angles = mrope_angles(batch.positions, model.cfg.qwen.text)
    attend = lambda q, k, v, _: (causal_attention(q, k, v, mask), KV(k, v))  # noqa: E731
    x, first, first_kv = spacevista.embed(model, batch, features, dtype), None, None
    if spacevista.has_first_pass(model):
        first, first_kv, _ = run_layers(model.text.layers, x, angles, attend, spacevista.no_route)
        first = model.text.norm(first)
    signal = spacevista.signal(model, batch, x, first)
    x, kv, gates = run_layers(model.text.layers, x, angles, attend, spacevista.route(model, signal))
    valid = batch.segments > 0
    length = valid.sum(1, dtype=jnp.int32)
    last = jnp.maximum(length - 1, 0)[:, None]
    at_last = lambda a: jnp.take_along_axis(a, last if a.ndim == 2 else last[..., None], 1)[:, 0]  # noqa: E731
    hidden = model.text.norm(at_last(x))
    return Prompt(
        logits=spacevista.logits(model, hidden),
        kv=kv,
        first_kv=first_kv,
        mask=valid,
        length=length,
        position=at_last(batch.positions.max(0)),
        signal=None if signal is None or first is not None else at_last(signal),
        gates=None if gates is None else jnp.einsum("lbte,bt->lbe", gates, valid.astype(jnp.float32)),
    )


def sample(model: SpaceVista, batch: Batch, group: int, params: Sampling, cfg: SamplerConfig) -> Samples:
    """`group` completions of each prompt of `batch` (one prompt a row, padded on the right).

    Two compiled programs for each shape of `batch`, `group` and `cfg`; other weights and `params` use the same ones.
    """
    model = one_by_one(model)
    return _loop(model, prefill(model, batch, cfg.dtype), params, group, cfg)


def stream(
    model: SpaceVista, batch: Batch, group: int, params: Sampling, cfg: SamplerConfig
) -> Generator[tuple[np.ndarray, np.ndarray], None, Samples]:
    """As `sample`, token by token: yields (tokens i32 [B, G], live bool [B, G]), live where the token belongs to a completion.
    The generator's return value is the Samples."""
    model = one_by_one(model)
    prompt = prefill(model, batch, cfg.dtype)
    state = _start(model, prompt, params, group, cfg)
    emitted = np.zeros(state.lengths.shape, np.int32)
    while True:
        token, lengths, done = (np.array(x) for x in (state.token, state.lengths, state.done))  # copies: the step takes the state's memory
        yield token, lengths > emitted
        emitted = lengths
        if done.all() or int(state.step) >= cfg.max_new_tokens:
            return _end(prompt, state)
        state = _step(model, prompt, params, state)


def _begin(model, prompt: Prompt, params: Sampling, group: int, cfg: SamplerConfig) -> State:
    """The state after the first token, which prefill's logits give."""
    kv = jax.tree.map(lambda one: cache.empty(one, group, cfg.max_new_tokens), (prompt.kv, prompt.first_kv), is_leaf=_is_kv)
    b, r = prompt.length.shape[0], cfg.max_new_tokens
    ints = lambda *shape: jnp.zeros(shape, jnp.int32)  # noqa: E731
    gates = None if prompt.gates is None else jnp.zeros((*prompt.gates.shape[:2], group, prompt.gates.shape[2]))
    done = jnp.broadcast_to(prompt.length[:, None] == 0, (b, group))
    state = State(ints(), ints(b, group), ints(b, group, r), jnp.zeros((b, group, r)), ints(b, group), done, *kv, gates)
    return _emit(model, params, state, jnp.broadcast_to(prompt.logits[:, None], (b, group, prompt.logits.shape[1])))


def _is_kv(x) -> bool:
    return isinstance(x, KV)


def _advance(model, prompt: Prompt, params: Sampling, state: State) -> State:
    """The one step, shared by the compiled loop and by `stream`: read the last token, emit the next."""
    positions = jnp.broadcast_to((prompt.position + state.step)[None, :, None], (3, *state.token.shape))
    angles = mrope_angles(positions, model.cfg.qwen.text)
    filled = state.step - 1

    def attend(q, k, v, kv):
        new = KV(k[:, :, :, None], v[:, :, :, None])
        return cache.attend(q, new, *kv, prompt.mask, filled), new

    x = model.text.embed(state.token).astype(jax.tree.leaves(prompt.kv)[0].dtype)
    signal, first_new = prompt.signal, None
    if spacevista.has_first_pass(model):
        first, first_new, _ = _run(model, x, angles, attend, spacevista.no_route, prompt.first_kv, state.first_kv)
        signal = model.text.router(model.text.norm(first))
    elif signal is not None:
        signal = jnp.broadcast_to(signal[:, None], (*state.token.shape, *signal.shape[1:]))
    x, new, gates = _run(model, x, angles, attend, spacevista.route(model, signal), prompt.kv, state.kv)
    if gates is not None:
        gates = state.gates + jnp.where(state.done[..., None], 0.0, gates)
    write = lambda old, one: cache.write(old, one, filled)  # noqa: E731
    kv, first_kv = jax.tree.map(write, (state.kv, state.first_kv), (new, first_new), is_leaf=_is_kv)
    state = state._replace(kv=kv, first_kv=first_kv, gates=gates)
    return _emit(model, params, state, spacevista.logits(model, model.text.norm(x)))


def _run(model, x: Float[Array, "B G D"], angles, attend, route, prompt_kv, kv):
    """The layers, each with its part of the two caches -> (x, new keys and values in the form of `kv`, gates [L, B, G, E] or None)."""
    caches = tuple(zip(prompt_kv, kv, strict=True)) if isinstance(model.text.layers, nnx.List) else (prompt_kv, kv)
    return run_layers(model.text.layers, x, angles, attend, route, caches)


def _emit(model, params: Sampling, state: State, logits: Float[Array, "B G V"]) -> State:
    token, logp = choose(logits, params, state.step, model.cfg.qwen.vision_ids)
    live = ~state.done
    token = jnp.where(live, token, 0)
    return state._replace(
        step=state.step + 1,
        token=token,
        tokens=state.tokens.at[:, :, state.step].set(token),
        logps=state.logps.at[:, :, state.step].set(jnp.where(live, logp, 0.0)),
        lengths=state.lengths + live,
        done=state.done | (token[..., None] == params.stop).any(-1),
    )


@functools.partial(jax.jit, static_argnames=("group", "cfg"))
def _loop(model, prompt: Prompt, params: Sampling, group: int, cfg: SamplerConfig) -> Samples:
    state = _begin(model, prompt, params, group, cfg)
    more = lambda s: (s.step < cfg.max_new_tokens) & ~s.done.all()  # noqa: E731
    state = jax.lax.while_loop(more, lambda s: _advance(model, prompt, params, s), state)
    return _finish(prompt, state)


def _finish(prompt: Prompt, state: State) -> Samples:
    router = None
    if state.gates is not None:
        read = prompt.length[:, None] + jnp.maximum(state.lengths - 1, 0)  # the last token emitted is never read
        total = jnp.moveaxis(prompt.gates[:, :, None] + state.gates, 0, 2)
        router = total / jnp.maximum(read, 1)[..., None, None]
    return Samples(state.tokens, state.logps, state.lengths, state.done & (state.lengths > 0), router)


_start = functools.partial(jax.jit, static_argnames=("group", "cfg"))(_begin)
_step = functools.partial(jax.jit, donate_argnames="state")(_advance)
_end = jax.jit(_finish)
