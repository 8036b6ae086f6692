"""Supervised fine-tuning: one loop for every stage. A stage is a config: which parts train, which router gates, on which data.

Read `train` from top to bottom: model, state, resume, loop, save.
"""

from __future__ import annotations

import dataclasses
import functools
import time
from dataclasses import dataclass, field
from pathlib import Path

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from sv_jax.config import config_hash
from sv_jax.data.batches import BatchStream, DataConfig, ShapeConfig
from sv_jax.errors import UserError, unknown
from sv_jax.inputs.chat import Processor
from sv_jax.mesh import batch_shardings, make_mesh, param_shardings, state_shardings
from sv_jax.models.spacevista.config import ROUTERS
from sv_jax.models.spacevista.model import SpaceVista, forward
from sv_jax.train.checkpoint import Checkpoints
from sv_jax.train.loss import sft_loss
from sv_jax.train.metrics import RunLogger
from sv_jax.train.state import OptimConfig, TrainState, make_optimizer, partition
from sv_jax.weights import load_model, save_model

DTYPES = ("float32", "bfloat16")


@dataclass(frozen=True)
class SFTConfig:
    """`sv-jax sft`: from the model folder `model`, train `parts` on `data` and leave a model folder in `run`/model."""

    model: str  # a Qwen2.5-VL or SpaceVista folder
    run: str  # the run folder to make
    data: DataConfig
    parts: tuple[str, ...]  # of vision, text, dino, fusion, experts, router
    steps: int
    shape: ShapeConfig = field(default_factory=ShapeConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    router: str | None = None  # gate by another router than the model's own during this stage (`label` to train the experts)
    dtype: str = "float32"  # of the activations; trained parameters are always f32
    remat: bool = True  # make activations again in the backward pass instead of keeping them
    mesh: str | None = None  # "data=8", "fsdp=2,tensor=4"; None is one device
    seed: int = 0
    log_every: int = 10
    save_every: int = 500
    keep: int = 2  # checkpoints

    def __post_init__(self):
        if self.steps < 1:
            raise UserError(f"steps {self.steps}: expected at least 1")
        if self.router is not None and self.router not in ROUTERS:
            raise unknown("router", self.router, ROUTERS)
        if self.dtype not in DTYPES:
            raise unknown("dtype", self.dtype, DTYPES)


def with_router(model: SpaceVista, router: str | None) -> SpaceVista:
    """The model gating by another router; its parameters are shared."""
    if router is not None and model.cfg.experts is not None:
        model.cfg = dataclasses.replace(model.cfg, experts=dataclasses.replace(model.cfg.experts, router=router))
    return model


@functools.partial(jax.jit, static_argnums=(0, 1, 2), donate_argnums=3)
def train_step(graphdef, cfg: SFTConfig, tx: optax.GradientTransformation, state: TrainState, frozen, batch):
    """One AdamW step -> (state, metrics []). Gradients with respect to the trainable arrays only."""

    def loss_fn(trainable):
        model = nnx.merge(graphdef, trainable, frozen)
        hidden, _ = forward(model, batch, jnp.dtype(cfg.dtype), cfg.remat)
        return sft_loss(hidden, model.text.head_kernel(), batch.targets, batch.weights)

    (loss, metrics), grads = jax.value_and_grad(loss_fn, has_aux=True)(state.trainable)
    updates, opt_state = tx.update(grads, state.opt_state, state.trainable)
    state = TrainState(state.step + 1, optax.apply_updates(state.trainable, updates), opt_state)
    tokens = (batch.segments > 0).sum()
    return state, {"loss": loss, "grad_norm": optax.global_norm(grads), "num_tokens": tokens, **metrics}


def train(cfg: SFTConfig, *, resume: bool = False) -> Path:
    """Run the stage; returns the folder of the trained model. `resume` continues exactly where the newest checkpoint of `cfg.run` stands."""
    run, mesh = Path(cfg.run), make_mesh(cfg.mesh)
    processor = Processor.from_folder(cfg.model)
    model = with_router(load_model(cfg.model, mesh=mesh), cfg.router)
    graphdef, trainable, frozen = partition(model, cfg.parts)
    del model  # its arrays live on in `trainable` (f32 copies where they were not f32) and `frozen`
    tx = make_optimizer(cfg.optim, cfg.steps)
    state = init_state(tx, trainable, mesh)

    checkpoints = Checkpoints(run / "checkpoints", config_hash(cfg), keep=cfg.keep)
    position = 0
    if resume:
        state, extra = checkpoints.restore(state)
        position = extra["data"]
    stream = BatchStream(cfg.data, cfg.shape, processor, cfg.seed, state=position)

    start = int(state.step)
    with RunLogger(run, cfg, start=start) as log, log.progress("sft", total=cfg.steps, start=start) as bar:
        for step in range(start + 1, cfg.steps + 1):
            batch, samples, position = next(stream)
            began = time.perf_counter()
            state, metrics = train_step(graphdef, cfg, tx, state, frozen, jax.device_put(batch, batch_shardings(batch, mesh)))
            bar.advance(step, metrics, samples=samples)
            if step % cfg.log_every == 0 or step == cfg.steps:
                log.write(step, bar.window() | {"step_time": time.perf_counter() - began})
            if step % cfg.save_every == 0 or step == cfg.steps:
                checkpoints.save(step, state, {"data": position})
    stream.close()
    return save_model(nnx.merge(graphdef, state.trainable, frozen), run / "model", source=cfg.model)
