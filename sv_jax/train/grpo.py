"""GRPO: rollouts, rewards, group advantages, one update. Read `train` from top to bottom.

B prompts of a step, G completions of each, R tokens of a completion, T tokens of a row. The update packs each prompt once with its G
completions (`sv_jax.inputs.packing.pack_groups`): prompt and pictures are encoded once, and the gradient is that of the plain form.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from sv_jax.data.batches import DataConfig, PromptStream, ShapeConfig
from sv_jax.errors import UserError, unknown
from sv_jax.inputs.chat import Processor
from sv_jax.inputs.packing import GroupBatch, Sample, pack_groups, pack_prompts
from sv_jax.mesh import batch_shardings, leaf_shardings, make_mesh, param_shardings, place, replicated
from sv_jax.models.spacevista.model import forward
from sv_jax.rewards.rewards import RewardConfig, score
from sv_jax.sampling.choose import sampling
from sv_jax.sampling.sampler import SamplerConfig, sample
from sv_jax.train.checkpoint import Checkpoints, folder_id
from sv_jax.train.grpo_loss import SCALINGS, LossConfig, advantages, grpo_loss
from sv_jax.train.loss import token_logps
from sv_jax.train.metrics import RunLogger
from sv_jax.train.sft import DTYPES
from sv_jax.train.state import OptimConfig, TrainState, check_parts, init_state, make_optimizer, partition, schedule
from sv_jax.weights import find_folder, load_model, save_model


@dataclass(frozen=True)
class GRPOConfig:
    """`sv-jax grpo`: improve the model folder `model` on the questions of `data` by the progressive reward. `shape.rows` is the number of
    prompts of a step and `shape.length` the room for one prompt."""

    model: str  # a SpaceVista or Qwen2.5-VL folder, or a hub id
    run: str  # the run folder to make
    data: DataConfig
    steps: int
    shape: ShapeConfig = field(default_factory=lambda: ShapeConfig(rows=1, length=16384))
    parts: tuple[str, ...] = ("text",)  # of vision, text, dino, fusion, experts, router
    group: int = 8  # completions of each prompt
    max_new_tokens: int = 1024
    temperature: float = 1.0
    loss: LossConfig = field(default_factory=LossConfig)
    scale_rewards: str = "group"  # what advantages are divided by: group, batch or none
    reward: RewardConfig = field(default_factory=RewardConfig)
    optim: OptimConfig = field(default_factory=lambda: OptimConfig(learning_rate=1e-6, weight_decay=0.01))
    dtype: str = "float32"
    remat: bool = True
    mesh: str | None = None
    seed: int = 0
    log_every: int = 1
    save_every: int = 100
    keep: int = 2

    def __post_init__(self):
        for name, least in {"steps": 1, "group": 2, "max_new_tokens": 1, "log_every": 1, "save_every": 1, "keep": 1}.items():
            if getattr(self, name) < least:
                raise UserError(f"{name} {getattr(self, name)}: expected at least {least}")
        check_parts(self.parts)
        if self.temperature <= 0:
            raise UserError(f"temperature {self.temperature}: expected a positive number, completions of a group must differ")
        for name, known in (("dtype", DTYPES), ("scale_rewards", SCALINGS)):
            if getattr(self, name) not in known:
                raise unknown(name, getattr(self, name), known)


def completion_logps(model, batch: GroupBatch, temperature: float, dtype: str, remat: bool) -> tuple[jax.Array, jax.Array]:
    """Log-probability and entropy of every completion token, f32 [B*G, R], at the sampling temperature."""
    hidden, _ = forward(model, batch.batch, jnp.dtype(dtype), remat)
    b, g, r = batch.ids.shape
    chosen = jnp.take_along_axis(hidden, batch.index.reshape(b, g * r, 1), axis=1)
    logps, entropy, _ = token_logps(chosen.reshape(b * g * r, -1), model.text.head_kernel(), batch.ids.reshape(-1), temperature)
    return logps.reshape(b * g, r), entropy.reshape(b * g, r)


def update_step(graphdef, tx: optax.GradientTransformation, cfg: GRPOConfig, state: TrainState, reference, frozen, batch, advantage, old):
    """One update on fresh rollouts -> (state, metrics []). `old` f32 [B*G, R] are the sampler's log-probabilities, only compared here:
    with one update per rollout the policy's own, gradient stopped, are the old ones. `reference` are the trainable arrays of step 0."""
    mask = batch.mask.reshape(-1, batch.mask.shape[-1]) > 0
    reference_logps = None
    if cfg.loss.beta:
        reference_logps, _ = completion_logps(nnx.merge(graphdef, reference, frozen), batch, cfg.temperature, cfg.dtype, False)

    def loss_fn(trainable):
        logps, entropy = completion_logps(nnx.merge(graphdef, trainable, frozen), batch, cfg.temperature, cfg.dtype, cfg.remat)
        loss, metrics = grpo_loss(logps, None, reference_logps, advantage.reshape(-1), mask, cfg.loss)
        gap = jnp.where(mask, jnp.abs(jax.lax.stop_gradient(logps) - old), 0.0)
        tokens = jnp.maximum(mask.sum(), 1)
        metrics |= {"entropy": ((entropy * mask).sum(), tokens), "sampling/sampling_logp_difference/mean": (gap.sum(), tokens)}
        return loss, metrics | {"sampling/sampling_logp_difference/max": gap.max()}

    (loss, metrics), grads = jax.value_and_grad(loss_fn, has_aux=True)(state.trainable)
    updates, opt_state = tx.update(grads, state.opt_state, state.trainable)
    state = TrainState(state.step + 1, optax.apply_updates(state.trainable, updates), opt_state)
    return state, {"loss": loss, "grad_norm": optax.tree.norm(grads), **metrics}


@dataclass(frozen=True)
class Rollout:
    """What one phase of sampling leaves: the prompts, their completions, and what each was worth."""

    prompts: list[Sample]
    completions: list[list[list[int]]]  # [B][G] token ids, the stop token included
    logps: np.ndarray  # f32 [B, G, R] of the sampler
    texts: list[list[str]]  # [B][G]
    rewards: dict[str, np.ndarray]  # f64 [B, G] by name, "total" among them; NaN where one does not apply
    stopped: np.ndarray  # bool [B, G]


def roll_out(model, processor: Processor, samples: list[dict], prompts: list[Sample], step: int, cfg: GRPOConfig, mesh) -> Rollout:
    """Draw a group of completions for each prompt and score them. The draw depends on (seed, step, number of the prompt) alone."""
    vision = processor.cfg.vision
    batch, _ = pack_prompts(prompts, cfg.shape.length, vision, cfg.shape.buckets(vision), rows=cfg.shape.rows)
    ids = [step * cfg.shape.rows + i for i in range(cfg.shape.rows)]
    params = sampling(cfg.shape.rows, stop=processor.stop_ids, temperature=cfg.temperature, seed=cfg.seed, prompt_ids=ids)
    drawn = sample(model, place(batch, batch_shardings(batch, mesh)), cfg.group, params, SamplerConfig(cfg.max_new_tokens, cfg.dtype))
    tokens, lengths = np.asarray(drawn.tokens), np.asarray(drawn.lengths)
    completions = [[tokens[b, g, : lengths[b, g]].tolist() for g in range(cfg.group)] for b in range(len(prompts))]
    texts = [[processor.decode(c) for c in group] for group in completions]
    flat = score([t for group in texts for t in group], [s["qa"] for s in samples for _ in range(cfg.group)], cfg.reward)
    rewards = {name: values.reshape(len(prompts), cfg.group) for name, values in flat.items()}
    return Rollout(prompts, completions, np.asarray(drawn.logps), texts, rewards, np.asarray(drawn.stopped))


def rollout_metrics(rollout: Rollout) -> dict[str, float]:
    """TRL's names for what a rollout was like."""
    lengths = np.array([[len(c) for c in group] for group in rollout.completions])
    done = lengths[rollout.stopped]
    total = rollout.rewards["total"]
    out = {"reward": total.mean(), "reward_std": total.std(ddof=1), "frac_reward_zero_std": (total.std(axis=1) == 0).mean()}
    for name, values in rollout.rewards.items():
        if name != "total" and not np.isnan(values).all():
            out |= {f"rewards/{name}/mean": np.nanmean(values), f"rewards/{name}/std": np.nanstd(values)}
    ended = {"mean": done.mean(), "min": done.min(), "max": done.max()} if done.size else dict.fromkeys(("mean", "min", "max"), 0.0)
    out |= {"completions/mean_length": lengths.mean(), "completions/min_length": lengths.min(), "completions/max_length": lengths.max()}
    out |= {f"completions/{k}_terminated_length": v for k, v in ended.items()}
    return {k: float(v) for k, v in out.items()} | {"completions/clipped_ratio": float(1 - rollout.stopped.mean())}


def train(cfg: GRPOConfig, *, resume: bool = False) -> Path:
    """Run GRPO; returns the folder of the trained model. `resume` continues exactly from the newest checkpoint of `cfg.run`."""
    run, source, mesh = Path(cfg.run), find_folder(cfg.model), make_mesh(cfg.mesh)
    checkpoints = Checkpoints(run / "checkpoints", cfg, keep=cfg.keep, frozen=folder_id(source))
    if checkpoints.steps and not resume:
        raise UserError(f"run {cfg.run!r}: holds checkpoints already; continue it with --resume, or name another run")

    processor = Processor.from_folder(source)
    graphdef, trainable, frozen = partition(load_model(source, shardings=leaf_shardings(mesh)), cfg.parts)
    tx, rate = make_optimizer(cfg.optim, cfg.steps), schedule(cfg.optim, cfg.steps)
    reference = jax.tree.map(jnp.copy, trainable) if cfg.loss.beta else None
    state, start, position = init_state(tx, trainable, mesh), 0, 0
    if resume:
        state, record = checkpoints.restore(state)
        start, position = int(state.step), record["data"]
    update = jax.jit(update_step, static_argnums=(0, 1, 2), donate_argnums=3, out_shardings=(param_shardings(state, mesh), None))
    stream = PromptStream(cfg.data, cfg.shape.rows, processor, cfg.seed, state=position)

    with checkpoints, RunLogger(run, cfg, start) as log, log.progress("grpo", cfg.steps, start) as bar:
        for step in range(start + 1, cfg.steps + 1):
            samples, prompts, position = next(stream)
            rollout = roll_out(nnx.merge(graphdef, state.trainable, frozen), processor, samples, prompts, step, cfg, mesh)
            batch = group_batch(rollout, processor, cfg)
            inputs = (batch, np.float32(advantages(rollout.rewards["total"], cfg.scale_rewards)), _rows(rollout.logps))
            state, metrics = update(graphdef, tx, cfg, state, reference, frozen, *_place(inputs, mesh))
            tokens = int((batch.batch.segments > 0).sum())
            bar.advance(step, metrics | rollout_metrics(rollout) | {"num_tokens": tokens})
            saving = step % cfg.save_every == 0 or step == cfg.steps
            if saving or step % cfg.log_every == 0:
                log.write(step, bar.window() | {"learning_rate": rate(step - 1)})
            if saving:
                checkpoints.save(step, state, {"data": position})
    save_model(nnx.merge(graphdef, state.trainable, frozen), run / "model", source=source)
    return run / "model"


def group_batch(rollout: Rollout, processor: Processor, cfg: GRPOConfig) -> GroupBatch:
    vision, length = processor.cfg.vision, cfg.shape.length + cfg.group * cfg.max_new_tokens
    return pack_groups(rollout.prompts, rollout.completions, length, cfg.max_new_tokens, vision, cfg.shape.buckets(vision))


def _rows(x: np.ndarray) -> np.ndarray:
    return x.reshape(-1, x.shape[-1])


def _place(inputs: tuple[GroupBatch, Any, Any], mesh):
    batch, *rest = inputs
    rows = GroupBatch(
        place(batch.batch, batch_shardings(batch.batch, mesh)), *place(tuple(batch[1:]), batch_shardings(tuple(batch[1:]), mesh))
    )
    return rows, *(place(x, replicated(mesh)) for x in rest)
