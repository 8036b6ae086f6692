"""GRPO on a tiny fused model: the shared prefix gives the plain gradient, sampler and trainer agree, rewards rise, meshes and restarts
change nothing. The reward is the share of ASCII characters, so that a random model gets some and no embedding model is needed."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from sv_jax.compiles import counting
from sv_jax.data.batches import DataConfig, PromptStream, ShapeConfig
from sv_jax.errors import UserError
from sv_jax.inputs.chat import Processor
from sv_jax.inputs.packing import pack_prompts
from sv_jax.models.qwen2_5_vl.mrope import position_ids
from sv_jax.models.spacevista.model import forward, logits
from sv_jax.train import grpo
from sv_jax.train.grpo_loss import LossConfig, grpo_loss
from sv_jax.train.metrics import read_metrics
from sv_jax.train.state import partition
from sv_jax.weights import load_model
from tests.train.conftest import Tiny, by_path, grpo_config, leaves_of

TIMES = {"step_time", "tokens_per_second"}


def ascii_share(completions, qas, cfg) -> dict[str, np.ndarray]:
    share = np.array([np.mean([ord(c) < 128 for c in text]) if text else 0.0 for text in completions])
    return {"ascii": share, "semantic": np.full(len(share), np.nan), "total": share}


@pytest.fixture(autouse=True, scope="module")
def simple_reward():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(grpo, "score", ascii_share)
        yield


def rows(folder) -> list[dict]:
    """What was logged, without times."""
    return [{k: v for k, v in row.items() if k not in TIMES} for row in read_metrics(folder)]


@pytest.fixture(scope="module")
def alone(tiny, tmp_path_factory):
    """(run folder, compilations) of eight steps on one device, never interrupted."""
    cfg = grpo_config(tiny, tmp_path_factory.mktemp("grpo") / "alone")
    with counting() as compiles:
        grpo.train(cfg)
    return Path(cfg.run), compiles


@dataclasses.dataclass(frozen=True)
class Drawn:
    """A rollout whose completions were cut to different lengths, with what it was drawn from."""

    cfg: grpo.GRPOConfig
    processor: Processor
    parts: tuple  # graphdef, trainable, frozen
    rollout: grpo.Rollout


@pytest.fixture(scope="module")
def drawn(tiny: Tiny) -> Drawn:
    cfg = grpo_config(tiny, "run", temperature=0.8)
    processor = Processor.from_folder(tiny.spacevista)
    parts = partition(load_model(tiny.spacevista), cfg.parts)
    samples, prompts, _ = next(PromptStream(cfg.data, cfg.shape.rows, processor, cfg.seed))
    rollout = grpo.roll_out(nnx.merge(*parts), processor, samples, prompts, 1, cfg, None)
    cut = [[c[: 1 + (3 * b + 5 * g) % len(c)] for g, c in enumerate(group)] for b, group in enumerate(rollout.completions)]
    assert len({len(c) for group in cut for c in group}) > 4
    return Drawn(cfg, processor, parts, dataclasses.replace(rollout, completions=cut))


def plain_logps(model, batch, tokens, starts, lengths, temperature: float):
    """Log-probabilities [N, R] of the completions that stand in row n from `starts[n]` on, from whole rows of logits."""
    logp = jax.nn.log_softmax(logits(model, forward(model, batch)[0]) / temperature)
    at = starts[:, None] - 1 + np.arange(tokens.shape[1])
    picked = jnp.take_along_axis(logp, np.minimum(at, logp.shape[1] - 1)[..., None], 1)
    return jnp.take_along_axis(picked, tokens[..., None], -1)[..., 0] * (np.arange(tokens.shape[1]) < lengths[:, None])


def plain_batch(drawn: Drawn):
    """Each prompt once for each of its completions, in a row of its own: no packing, no branches, positions made anew."""
    cfg, qwen, rollout = drawn.cfg, drawn.processor.cfg, drawn.rollout
    whole, starts = [], []
    for prompt, group in zip(rollout.prompts, rollout.completions, strict=True):
        for completion in group:
            tokens = np.concatenate([prompt.tokens, np.array(completion, np.int32)])
            seconds = [1.0] * len(prompt.grids)  # two frames a patch at two frames a second
            whole.append(
                dataclasses.replace(
                    prompt, tokens=tokens, positions=position_ids(tokens, prompt.grids, seconds, qwen),
                    is_vision=np.pad(prompt.is_vision, (0, len(completion))), weights=np.zeros(len(tokens), np.float32),
                )
            )  # fmt: skip
            starts.append(len(prompt.tokens))
    completions = [c for group in rollout.completions for c in group]
    ids = np.zeros((len(whole), cfg.max_new_tokens), np.int32)
    for row, completion in zip(ids, completions, strict=True):
        row[: len(completion)] = completion
    shape = dataclasses.replace(cfg.shape, patches=cfg.shape.patches * cfg.group)
    batch, _ = pack_prompts(whole, cfg.shape.length + cfg.max_new_tokens, qwen.vision, shape.buckets(qwen.vision))
    return batch, ids, np.array(starts), np.array([len(c) for c in completions])


@pytest.fixture(scope="module")
def gradients(drawn):
    """(loss, log-probabilities, gradient) of the shared-prefix and of the plain form, on the same completions and advantages."""
    graphdef, trainable, frozen = drawn.parts
    shared = grpo.group_batch(drawn.rollout, drawn.processor, drawn.cfg)
    mask = jnp.asarray(shared.mask.reshape(-1, shared.mask.shape[-1]) > 0)
    advantage = jnp.asarray(np.random.default_rng(0).standard_normal(len(mask)), jnp.float32)
    batch, ids, starts, lengths = plain_batch(drawn)

    def loss(logps_of, batch):
        def f(trainable, frozen, batch):
            logps = logps_of(nnx.merge(graphdef, trainable, frozen), batch)
            return grpo_loss(logps, None, jnp.full(mask.shape, -5.0), advantage, mask, LossConfig(beta=0.04))[0], logps

        (value, logps), grads = jax.jit(jax.value_and_grad(f, has_aux=True))(trainable, frozen, batch)
        return float(value), np.where(mask, logps, 0.0), jax.device_get(by_path(grads))

    return (
        loss(lambda model, batch: grpo.completion_logps(model, batch, drawn.cfg.temperature, "float32", True)[0], shared),
        loss(lambda model, batch: plain_logps(model, batch, ids, starts, lengths, drawn.cfg.temperature), batch),
    )


def test_the_shared_prefix_gives_value_and_gradient_of_the_plain_form(gradients):
    (value, logps, grads), (plain_value, plain_logps, plain_grads) = gradients
    assert value == pytest.approx(plain_value, rel=1e-5)
    np.testing.assert_allclose(logps, plain_logps, atol=1e-5)
    largest = max(np.linalg.norm(g) for g in plain_grads.values())
    for path, grad in plain_grads.items():
        assert np.linalg.norm(grad) > 1e-6 * largest, path
        error = np.linalg.norm(grads[path] - grad)
        assert error <= 1e-5 * np.linalg.norm(grad) + 1e-8 * largest, (path, error / np.linalg.norm(grad))


def test_log_probabilities_of_sampler_and_trainer_agree(drawn, gradients):
    lengths = np.array([[len(c) for c in group] for group in drawn.rollout.completions])
    mask = np.arange(drawn.cfg.max_new_tokens) < lengths[..., None]
    trainer = gradients[0][1].reshape(mask.shape)
    np.testing.assert_allclose(trainer[mask], drawn.rollout.logps[mask], atol=1e-4)
    assert (trainer[mask] < -0.5).all()


def test_the_reward_rises(alone):
    reward = [row["reward"] for row in rows(alone[0])]
    assert np.mean(reward[-2:]) > np.mean(reward[:2]) + 0.1, reward


def test_what_a_run_logs(alone):
    first = rows(alone[0])[0]
    assert [row["step"] for row in rows(alone[0])] == list(range(1, 9))
    assert max(row["sampling/sampling_logp_difference/max"] for row in rows(alone[0])) < 1e-4
    assert first["kl"] == pytest.approx(0, abs=1e-9) and rows(alone[0])[-1]["kl"] > 1e-3  # the reference is step 0
    assert 5 < first["entropy"] < np.log(320) and first["completions/max_length"] == 8
    assert first["rewards/ascii/mean"] == first["reward"] and "rewards/semantic/mean" not in first
    assert first["grad_norm"] > 0 and first["num_tokens"] > 8 * (70 + 4 * 4)


def test_every_program_compiles_once(alone):
    names = [name for name, *_ in alone[1].programs.elements()]
    assert names.count("update_step") == 1 and not alone[1].repeated, alone[1].report()
    assert names.count("prefill") <= 1 and names.count("_loop") <= 1  # 0 where another test has sampled before


def test_only_the_parts_move(tiny, alone):
    before, after = leaves_of(tiny.spacevista), leaves_of(alone[0] / "model")
    moved = {path for path in before if before[path].tobytes() != after[path].tobytes()}
    assert moved == {path for path in before if path.startswith("text.")}


def test_a_step_on_a_mesh_equals_one_device(tiny, alone, tmp_path):
    """Rewards, loss and gradient of the first step; those of the second, which stand on its update."""
    with counting() as compiles:
        grpo.train(grpo_config(tiny, tmp_path / "run", mesh="fsdp=8", steps=2))
    names = [name for name, *_ in compiles.programs.elements()]
    assert [names.count(name) for name in ("update_step", "prefill", "_loop")] == [1, 1, 1], compiles.report()
    for there, here in zip(rows(tmp_path / "run"), rows(alone[0])[:2], strict=True):
        assert there["sampling/sampling_logp_difference/max"] < 1e-4
        for key in [k for k in here if k != "learning_rate" and not k.startswith("sampling/")]:
            assert there[key] == pytest.approx(here[key], rel=1e-4, abs=1e-7), key


def test_interrupted_and_resumed_equals_uninterrupted_bit_for_bit(tiny, alone, tmp_path, monkeypatch):
    """Stopped while it scores step 7, after the checkpoint of step 4."""
    cfg, scored = grpo_config(tiny, tmp_path / "run"), []

    def stop(completions, qas, config):
        scored.append(0)
        if len(scored) == 7:
            raise KeyboardInterrupt
        return ascii_share(completions, qas, config)

    monkeypatch.setattr(grpo, "score", stop)
    with pytest.raises(KeyboardInterrupt):
        grpo.train(cfg)
    assert [row["step"] for row in rows(cfg.run)] == [1, 2, 3, 4, 5, 6]
    monkeypatch.setattr(grpo, "score", ascii_share)
    grpo.train(cfg, resume=True)
    assert rows(cfg.run) == rows(alone[0])
    here, there = leaves_of(alone[0] / "model"), leaves_of(tmp_path / "run" / "model")
    assert all(here[path].tobytes() == there[path].tobytes() for path in here)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"parts": ("rooter",)}, "parts 'rooter' is not one of .*; did you mean 'router'"),
        ({"group": 1}, "group 1: expected at least 2"),
        ({"steps": 0}, "steps 0: expected at least 1"),
        ({"temperature": 0.0}, "temperature 0.0: expected a positive number"),
        ({"dtype": "half"}, "dtype 'half' is not one of"),
        ({"scale_rewards": "groups"}, "scale_rewards 'groups' is not one of .*; did you mean 'group'"),
    ],
)
def test_an_impossible_config_is_refused_at_once(changes, message, tiny):
    with pytest.raises(UserError, match=message):
        grpo_config(tiny, "run", **changes)


def test_what_a_user_gets_wrong_is_one_line(tiny, alone, tmp_path):
    for message, changes, options in [
        ("holds checkpoints already; continue it with --resume", {"run": str(alone[0])}, {}),
        ("resume: .* holds no checkpoint", {}, {"resume": True}),
        (r"prompt of \d+ tokens does not fit a row of 64", {"shape": ShapeConfig(8, 64, 256, 16)}, {}),
        ("split 'val'", {"data": DataConfig(tiny.data, split="val")}, {}),
    ]:
        with pytest.raises(UserError, match=message) as caught:
            grpo.train(dataclasses.replace(grpo_config(tiny, tmp_path / "run"), **changes), **options)
        assert "\n" not in str(caught.value)
