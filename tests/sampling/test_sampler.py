"""Oracles: transformers' `generate` on tiny random Qwen2.5-VL models, and our own forward pass over prompt and completion."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from sv_jax.errors import UserError
from sv_jax.inputs.packing import Sample, pack_prompts
from sv_jax.models.batch import Batch
from sv_jax.models.qwen2_5_vl.config import QwenConfig, TextConfig, VisionConfig
from sv_jax.models.qwen2_5_vl.mrope import position_ids
from sv_jax.models.spacevista.config import ExpertsConfig, SpaceVistaConfig, XLoRAConfig
from sv_jax.models.spacevista.model import SpaceVista, forward, logits
from sv_jax.sampling import sampler
from sv_jax.sampling.choose import sampling
from sv_jax.sampling.sampler import SamplerConfig, prefill, sample, stream

V, STOP = 64, 5
STOPS = [STOP, 7, 11, 19, 23, 31, 37, 41]
VISION_START, VISION_END, IMAGE, VIDEO = 59, 60, 62, 63
TINY = SpaceVistaConfig(
    QwenConfig(
        TextConfig(V, 32, 48, 2, 4, 2, mrope_section=(1, 1, 2), rope_theta=1000.0),
        VisionConfig(2, 16, 24, 2, out_hidden_size=32, fullatt_block_indexes=(1,), tokens_per_second=2),
        image_token_id=IMAGE,
        video_token_id=VIDEO,
        vision_start_token_id=VISION_START,
        vision_end_token_id=VISION_END,
        vision_token_id=61,
        mrope="spatial",
    )
)
G, CFG = 3, SamplerConfig(max_new_tokens=8)
EXPERTS = dataclasses.replace(TINY, experts=ExpertsConfig(num_experts=3, rank=2))


def random_model(cfg, seed=0):
    """Every weight random, biases, norms and zero-initialised arrays too, so that nothing can hide behind a zero; and of a size that
    keeps attention soft, so that no token can hide behind another."""
    rng = np.random.default_rng(seed)
    graph, state = nnx.split(nnx.eval_shape(lambda: SpaceVista(cfg, nnx.Rngs(0))))

    def fill(path, leaf):
        name = path[-2].key  # of the parameter; behind it stands the leaf's value
        spread = {"kernel": leaf.shape[-2:][0] ** -0.5, "embedding": 0.3, "lora_a": 0.1, "lora_b": 0.2}.get(name, 0.2)
        return jnp.asarray((name == "scale") + spread * rng.normal(size=leaf.shape), jnp.float32)

    return nnx.merge(graph, jax.tree.map_with_path(fill, state))


@pytest.fixture(scope="module")
def model():
    return random_model(EXPERTS)


def prompt(seed, length, grids=()):
    """Random text around pictures; a grid (t, h, w) of t > 1 slices is a video, at 0.5 s a slice."""
    rng = np.random.default_rng(seed)
    tokens, patches, seconds = [], [], []
    for t, h, w in grids:
        tokens += [*rng.integers(6, 59, 2), VISION_START, *[VIDEO if t > 1 else IMAGE] * (t * h * w // 4), VISION_END]
        patches.append(rng.normal(size=(t * h * w, 1176)).astype(np.float32))
        seconds.append(0.5)
    tokens = np.array([*tokens, *rng.integers(6, 59, length - len(tokens))], np.int32)
    is_vision = np.isin(tokens, (IMAGE, VIDEO))
    positions = position_ids(tokens, grids, seconds, TINY.qwen)
    return Sample(tokens, positions, is_vision, np.zeros(length, np.float32), tuple(grids), tuple(patches), None, 2)


def batch_of(prompts, length=24, rows=None) -> Batch:
    return pack_prompts(prompts, length, TINY.qwen.vision, rows=rows)[0]


TEXT = [prompt(1, 7), prompt(2, 20), prompt(3, 1), prompt(4, 13)]
MIXED = [prompt(5, 17, [(1, 4, 6)]), prompt(6, 24, [(1, 4, 4), (3, 4, 2)]), prompt(7, 5), prompt(8, 21, [(2, 4, 6)])]


@pytest.fixture(scope="module")
def oracle(tmp_path_factory):
    """A tiny random model of transformers and the same weights in ours."""
    torch = pytest.importorskip("torch")
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    from sv_jax.weights.load import load_model

    torch.manual_seed(0)
    hf = Qwen2_5_VLConfig(**TINY.to_hf(), bos_token_id=0, eos_token_id=STOP, pad_token_id=0, attn_implementation="eager")
    theirs = Qwen2_5_VLForConditionalGeneration(hf).eval()
    with torch.no_grad():
        for p in theirs.parameters():
            p.copy_(torch.randn_like(p) * p[0].numel() ** -0.5 if p.dim() > 1 else p + 0.2 * torch.randn_like(p))
    folder = tmp_path_factory.mktemp("hf")
    theirs.save_pretrained(folder)
    ours = load_model(folder)
    assert ours.cfg == TINY
    return theirs, ours


def generate(theirs, p: Sample, max_new_tokens):
    import torch

    images = [x for x, g in zip(p.patches, p.grids, strict=True) if g[0] == 1]
    videos = [x for x, g in zip(p.patches, p.grids, strict=True) if g[0] > 1]
    inputs = {"input_ids": torch.tensor(p.tokens[None]).long(), "attention_mask": torch.ones(1, len(p.tokens), dtype=torch.long)}
    inputs["mm_token_type_ids"] = torch.tensor((p.tokens == IMAGE) + 2 * (p.tokens == VIDEO))[None].int()
    if images:
        inputs |= {"pixel_values": torch.tensor(np.concatenate(images)), "image_grid_thw": torch.tensor([g for g in p.grids if g[0] == 1])}
    if videos:
        inputs |= {
            "pixel_values_videos": torch.tensor(np.concatenate(videos)),
            "video_grid_thw": torch.tensor([g for g in p.grids if g[0] > 1]),
        }
        inputs["second_per_grid_ts"] = torch.tensor([0.5] * len(videos))
    out = theirs.generate(
        **inputs,
        max_new_tokens=max_new_tokens,
        do_sample=False,
        repetition_penalty=1.0,
        suppress_tokens=list(TINY.qwen.vision_ids),
        eos_token_id=STOPS,
    )
    return out[0, len(p.tokens) :].tolist()


def scan_layers(monkeypatch):
    """Sample as everywhere but on a CPU."""
    monkeypatch.setattr(sampler, "one_by_one", lambda model: model)


@pytest.mark.parametrize("prompts", [TEXT, MIXED], ids=["text", "pictures"])
@pytest.mark.parametrize("scanned", [False, True])
def test_greedy_equals_transformers_generate(oracle, prompts, scanned, monkeypatch):
    theirs, ours = oracle
    if scanned:
        scan_layers(monkeypatch)
    out = sample(ours, batch_of(prompts), 1, sampling(4, stop=STOPS, temperature=0.0), SamplerConfig(max_new_tokens=24))
    ended, said = set(), set()
    for i, p in enumerate(prompts):
        expected = generate(theirs, p, 24)
        assert np.asarray(out.tokens)[i, 0, : int(out.lengths[i, 0])].tolist() == expected, i
        assert bool(out.stopped[i, 0]) == (expected[-1] in STOPS)
        ended.add(len(expected))
        said.update(expected)
    assert len(ended) > 1 and len(said) > 8  # the rows ended at different times, and are no monologues


def teacher_forced(model, prompts, completions, temperature):
    """Log-probabilities [rows][r] and gates [rows] [L, T, E] of completions by one plain forward pass over [prompt, completion] rows."""
    rows = []
    for p, completion in zip(prompts, completions, strict=True):
        r = len(completion)
        after = np.broadcast_to(p.positions[:, -1].max() + 1 + np.arange(r), (3, r))
        joined = {
            "tokens": np.concatenate([p.tokens, completion]).astype(np.int32),
            "positions": np.concatenate([p.positions, after], 1).astype(np.int32),
            "is_vision": np.concatenate([p.is_vision, np.zeros(r, bool)]),
            "weights": np.zeros(len(p.tokens) + r, np.float32),
        }
        rows.append(dataclasses.replace(p, **joined))
    batch = batch_of(rows, 32)
    for row, p in zip(batch.weights, prompts, strict=True):
        row[len(p.tokens) - 1] = 1  # here the prompt ends
    hidden, gates = jax.jit(forward)(model, batch)
    logp = np.asarray(jax.nn.log_softmax(logits(model, hidden) / temperature))
    steps = [np.arange(len(p.tokens) - 1, len(row.tokens) - 1) for p, row in zip(prompts, rows, strict=True)]
    return [logp[i, t, c] for i, (t, c) in enumerate(zip(steps, completions, strict=True))], np.moveaxis(np.asarray(gates), 1, 0)


XLORA = XLoRAConfig(depth=3, layerwise=False, top_k=2)
ROUTED = {
    "layer": EXPERTS.experts,
    "prompt": ExpertsConfig(num_experts=3, rank=2, router="prompt", temperature=0.3),
    "xlora": ExpertsConfig(num_experts=3, rank=2, router="xlora", temperature=0.3),
    "xlora model-wise": ExpertsConfig(num_experts=3, rank=2, router="xlora", router_hidden_size=5, xlora=XLORA),
}


@pytest.mark.parametrize("router, scanned", [("layer", False), ("prompt", False), ("xlora", True), ("xlora model-wise", False)])
def test_logps_and_router_equal_a_teacher_forced_pass(router, scanned, monkeypatch):
    if scanned:
        scan_layers(monkeypatch)
    model = random_model(dataclasses.replace(TINY, experts=ROUTED[router]))
    several = MIXED if router == "layer" else TEXT
    args = model, batch_of(several), G, sampling(4, stop=[STOP], temperature=0.7), CFG
    out = drain(stream(*args)) if router == "xlora model-wise" else sample(*args)
    tokens, lengths = np.asarray(out.tokens).reshape(-1, 8), np.asarray(out.lengths).ravel()
    prompts = [p for p in several for _ in range(G)]
    logps, gates = teacher_forced(model, prompts, [t[:n] for t, n in zip(tokens, lengths, strict=True)], 0.7)
    for i, p in enumerate(prompts):
        np.testing.assert_allclose(np.asarray(out.logps).reshape(-1, 8)[i, : lengths[i]], logps[i], atol=1e-4)
        read = len(p.tokens) + lengths[i] - 1
        np.testing.assert_allclose(out.router.reshape(-1, 2, 3)[i], gates[i, :, :read].mean(1), atol=1e-5)


def drain(steps):
    """The Samples that a stream ends with."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


def test_scan_and_unrolled_and_stream_agree(model, monkeypatch):
    batch, params = batch_of(MIXED), sampling(4, stop=[STOP], temperature=1.0, top_p=0.9)
    a = sample(model, batch, G, params, CFG)
    steps, generator = [], stream(model, batch, G, params, CFG)
    try:
        while True:
            steps.append(next(generator))
    except StopIteration as end:
        c = end.value
    scan_layers(monkeypatch)
    b = sample(model, batch, G, params, CFG)
    for other in (b, c):
        np.testing.assert_array_equal(a.tokens, other.tokens)
        np.testing.assert_array_equal(a.lengths, other.lengths)
        np.testing.assert_allclose(a.logps, other.logps, atol=1e-5)
        np.testing.assert_allclose(a.router, other.router, atol=1e-5)
    tokens, live = (np.stack(x, -1) for x in zip(*steps, strict=True))
    np.testing.assert_array_equal(live.sum(-1), a.lengths)
    np.testing.assert_array_equal(np.where(live, tokens, 0), np.asarray(a.tokens)[..., : live.shape[-1]])


def test_group_equals_repeated_rows_and_batch_does_not_matter(model):
    """The same prompt id gives the same samples elsewhere in another batch, in a longer row, twice in one batch, in a smaller group."""
    params = lambda ids: sampling(len(ids), stop=[STOP], temperature=1.0, top_k=20, seed=3, prompt_ids=ids)  # noqa: E731
    whole = sample(model, batch_of(MIXED), G, params([10, 11, 12, 13]), CFG)
    assert len({tuple(row) for row in np.asarray(whole.tokens).reshape(-1, 8)}) > 6
    other = sample(model, batch_of([*MIXED[::-1], MIXED[2], MIXED[2]], 32, rows=7), G, params([13, 12, 11, 10, 12, 12, 0]), CFG)
    order = [3, 2, 1, 0]
    np.testing.assert_array_equal(np.asarray(other.tokens)[order], whole.tokens)
    np.testing.assert_allclose(np.asarray(other.logps)[order], whole.logps, atol=1e-4)
    for row in np.asarray(other.tokens)[[4, 5]]:
        np.testing.assert_array_equal(row, whole.tokens[2])
    one = sample(model, batch_of(MIXED), 1, params([10, 11, 12, 13]), CFG)
    np.testing.assert_array_equal(one.tokens[:, 0], whole.tokens[:, 0])


def test_rows_of_padding_are_empty_and_the_label_router_follows_the_scale():
    experts = dataclasses.replace(EXPERTS.experts, router="label")
    model = random_model(dataclasses.replace(EXPERTS, experts=experts))
    out = sample(model, batch_of(TEXT[:1], rows=3), G, sampling(3, stop=[STOP]), CFG)
    assert (np.asarray(out.lengths)[1:] == 0).all() and not np.asarray(out.stopped)[1:].any() and not np.asarray(out.tokens)[1:].any()
    assert (np.asarray(out.lengths)[0] > 0).all()
    one_hot = np.eye(3)[experts.expert_of("indoor")]
    np.testing.assert_allclose(np.asarray(out.router)[0], np.broadcast_to(one_hot, (G, 2, 3)), atol=1e-6)


def test_nothing_follows_the_stop_token(model):
    out = sample(model, batch_of(TEXT), G, sampling(4, stop=[STOP, *range(6, 30)]), CFG)
    tokens, lengths, stopped = (np.asarray(x) for x in (out.tokens, out.lengths, out.stopped))
    assert stopped.any()
    for t, lp, n, s in zip(tokens.reshape(-1, 8), np.asarray(out.logps).reshape(-1, 8), lengths.ravel(), stopped.ravel(), strict=True):
        ends = np.isin(t[:n], [STOP, *range(6, 30)])
        assert ends[-1] == s and not ends[:-1].any()
        assert not t[n:].any() and not lp[n:].any() and (lp[:n] < 0).all()
        assert s or n == 8
    assert not np.isin(tokens, TINY.qwen.vision_ids).any()


def test_the_loop_ends_with_its_last_row(model, monkeypatch):
    steps, real = [], sampler._advance

    def counted(*args):
        jax.debug.callback(lambda: steps.append(1))
        return real(*args)

    monkeypatch.setattr(sampler, "_advance", counted)
    cfg = SamplerConfig(max_new_tokens=20)  # a program that no other test has compiled
    for stop in (list(range(V)), STOPS + list(range(12, 40))):
        steps.clear()
        out = jax.block_until_ready(sample(model, batch_of(TEXT), G, sampling(4, stop=stop), cfg))
        jax.effects_barrier()
        assert len(steps) == int(out.lengths.max()) - 1 < 19


def test_other_parameters_and_weights_never_recompile(model, monkeypatch):
    traces = []
    real = sampler.choose
    monkeypatch.setattr(sampler, "choose", lambda *a: traces.append(1) or real(*a))
    cfg = SamplerConfig(max_new_tokens=7)  # a program that no other test has compiled
    run = lambda m, prompts, **kw: sample(m, batch_of(prompts), 1, sampling(4, stop=[STOP], **kw), cfg)  # noqa: E731
    run(model, TEXT, seed=1)
    first = len(traces)
    assert first > 0
    for kw in (
        {"seed": 2},
        {"temperature": 0.0},
        {"top_p": 0.5},
        {"top_k": 3},
        {"temperature": [0.0, 1.0, 2.0, 3.0]},
        {"prompt_ids": [4, 5, 6, 7]},
    ):
        run(model, TEXT, **kw)
    run(random_model(EXPERTS, 1), TEXT[::-1])
    run(model, [prompt(s, 9) for s in range(4)])
    assert len(traces) == first


def test_half_precision(model):
    half = jax.tree.map(lambda x: x.astype(jnp.bfloat16), model)
    cfg = dataclasses.replace(CFG, dtype="bfloat16")
    batch = batch_of(TEXT)
    assert prefill(half, batch, "bfloat16").kv.keys.dtype == jnp.bfloat16
    out = sample(half, batch, G, sampling(4, stop=[STOP], temperature=0.0), cfg)
    assert np.isfinite(out.logps).all() and out.logps.dtype == jnp.float32


def test_config_refuses():
    with pytest.raises(UserError, match="max_new_tokens 0"):
        SamplerConfig(max_new_tokens=0)
