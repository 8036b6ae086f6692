"""Supervised fine-tuning: one loop for every stage. A stage is a config: which parts train, which router gates, on which data.

Read `train` from top to bottom: model, state, resume, loop, save.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from pathlib import Path

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from sv_jax.data.batches import BatchStream, DataConfig, ShapeConfig
from sv_jax.errors import UserError, unknown
from sv_jax.inputs.chat import Processor
from sv_jax.inputs.media import NO_COMPAT, Compat
from sv_jax.mesh import batch_shardings, leaf_shardings, make_mesh, param_shardings, place
from sv_jax.models.spacevista.config import ROUTERS
from sv_jax.models.spacevista.model import forward, with_router
from sv_jax.train.checkpoint import Checkpoints, folder_id
from sv_jax.train.loss import sft_loss
from sv_jax.train.metrics import RunLogger
from sv_jax.train.state import OptimConfig, TrainState, check_parts, init_state, make_optimizer, partition, schedule
from sv_jax.weights import find_folder, load_model, save_model

DTYPES = ("float32", "bfloat16")


@dataclass(frozen=True)
class SFTConfig:
    """`sv-jax sft`: from the model folder `model`, train `parts` on `data` and leave a model folder in `run`/model."""

    model: str  # a Qwen2.5-VL or SpaceVista folder, or a hub id
    run: str  # the run folder to make
    data: DataConfig
    parts: tuple[str, ...]  # of vision, text, dino, fusion, experts, router
    steps: int
    shape: ShapeConfig = field(default_factory=ShapeConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    router: str | None = None  # gate by another router than the model's own during this stage (`label` to train the experts)
    compat: Compat = NO_COMPAT  # with the released code's treatment of videos
    dtype: str = "float32"  # of the activations; trained parameters are always f32
    remat: bool = True  # make activations again in the backward pass instead of keeping them
    mesh: str | None = None  # "data=8", "fsdp=2,tensor=4"; None is one device
    seed: int = 0
    log_every: int = 10
    save_every: int = 500
    keep: int = 2  # checkpoints

    def __post_init__(self):
        for name in ("steps", "log_every", "save_every", "keep"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} {getattr(self, name)}: expected at least 1")
        check_parts(self.parts)
        if self.router is not None and self.router not in ROUTERS:
            raise unknown("router", self.router, ROUTERS)
        if self.dtype not in DTYPES:
            raise unknown("dtype", self.dtype, DTYPES)


def train_step(graphdef, tx: optax.GradientTransformation, dtype: str, remat: bool, state: TrainState, frozen, batch):
    """One AdamW step -> (state, metrics []). Gradients with respect to the trainable arrays only."""

    def loss_fn(trainable):
        model = nnx.merge(graphdef, trainable, frozen)
        hidden, _ = forward(model, batch, jnp.dtype(dtype), remat)
        return sft_loss(hidden, model.text.head_kernel(), batch.targets, batch.weights)

    (loss, metrics), grads = jax.value_and_grad(loss_fn, has_aux=True)(state.trainable)
    updates, opt_state = tx.update(grads, state.opt_state, state.trainable)
    state = TrainState(state.step + 1, optax.apply_updates(state.trainable, updates), opt_state)
    return state, {"loss": loss, "grad_norm": optax.tree.norm(grads), **metrics}


def train(cfg: SFTConfig, *, resume: bool = False) -> Path:
    """Run the stage; returns the folder of the trained model. `resume` continues exactly from the newest checkpoint of `cfg.run`."""
    run, source, mesh = Path(cfg.run), find_folder(cfg.model), make_mesh(cfg.mesh)
    checkpoints = Checkpoints(run / "checkpoints", cfg, keep=cfg.keep, frozen=folder_id(source))
    if checkpoints.steps and not resume:
        raise UserError(f"run {cfg.run!r}: holds checkpoints already; continue it with --resume, or name another run")

    processor = Processor.from_folder(source, cfg.compat)
    model = load_model(source, shardings=leaf_shardings(mesh))
    own = model.cfg
    graphdef, trainable, frozen = partition(with_router(model, cfg.router), cfg.parts)
    del model  # its arrays live on in `trainable` and `frozen`
    tx, rate = make_optimizer(cfg.optim, cfg.steps), schedule(cfg.optim, cfg.steps)
    state, start, position = init_state(tx, trainable, mesh), 0, 0
    if resume:
        state, record = checkpoints.restore(state)
        start, position = int(state.step), record["data"]
    shardings = param_shardings(state, mesh)  # left to XLA, arrays would move and the second step compile again
    step_fn = jax.jit(train_step, static_argnums=(0, 1, 2, 3), donate_argnums=4, out_shardings=(shardings, None))
    stream = BatchStream(cfg.data, cfg.shape, processor, cfg.seed, state=position)

    last = None
    with checkpoints, contextlib.closing(stream), RunLogger(run, cfg, start) as log, log.progress("sft", cfg.steps, start) as bar:
        for step in range(start + 1, cfg.steps + 1):
            batch, position = next(stream)
            tokens = int((batch.segments > 0).sum())
            batch = place(batch, batch_shardings(batch, mesh))  # while the step before it runs
            state, metrics = step_fn(graphdef, tx, cfg.dtype, cfg.remat, state, frozen, batch)
            jax.block_until_ready(last)  # the step before: two batches are on the devices, never a queue of them
            last = metrics["loss"]
            bar.advance(step, metrics | {"num_tokens": tokens})
            saving = step % cfg.save_every == 0 or step == cfg.steps
            if saving or step % cfg.log_every == 0:  # every checkpoint has its line: a resumed run counts on from there
                log.write(step, bar.window() | stream.realised_mix() | {"learning_rate": rate(step - 1)})
            if saving:
                checkpoints.save(step, state, {"data": position})
    trained = nnx.merge(graphdef, state.trainable, frozen)
    trained.cfg = own
    save_model(trained, run / "model", source=source)
    return run / "model"
