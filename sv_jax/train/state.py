"""What a training step owns: the trainable arrays and their optimiser state. Everything else is frozen and shared."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from sv_jax.errors import UserError, unknown
from sv_jax.mesh import param_shardings, place, replicated

# Which parameters a part of the model names, by path (see sv_jax/mesh.py for the whole list).
PARTS = {
    "vision": r"vision\..*",
    "text": r"text\.(?!.*(?:lora_|router)).*",
    "dino": r"dino\..*",
    "fusion": r"(?:dino_merger|fusion)\..*",
    "experts": r"text\..*\.lora_[ab]",
    "router": r"text\.(?:layers\.)?router\..*",
}


@dataclass(frozen=True)
class OptimConfig:
    """AdamW with a warm-up and a cosine to `final_fraction` of the peak. Defaults: the released stage-1 recipe (official.md 2.3)."""

    learning_rate: float = 5e-6
    warmup_steps: int = 0
    final_fraction: float = 0.0
    weight_decay: float = 0.0
    b1: float = 0.9
    b2: float = 0.999
    max_grad_norm: float = 1.0

    def __post_init__(self):
        if self.learning_rate <= 0:
            raise UserError(f"optim.learning_rate {self.learning_rate}: expected a positive number")


class TrainState(NamedTuple):
    """The donated half of a step: `step` i32 [], `trainable` f32 arrays (nnx.State), `opt_state` of optax."""

    step: jax.Array
    trainable: Any
    opt_state: Any


def schedule(cfg: OptimConfig, steps: int) -> optax.Schedule:
    return optax.warmup_cosine_decay_schedule(
        init_value=0.0 if cfg.warmup_steps else cfg.learning_rate,
        peak_value=cfg.learning_rate,
        warmup_steps=cfg.warmup_steps,
        decay_steps=max(steps, cfg.warmup_steps + 1),
        end_value=cfg.final_fraction * cfg.learning_rate,
    )


def make_optimizer(cfg: OptimConfig, steps: int) -> optax.GradientTransformation:
    """Norm clipping and AdamW; kernels and LoRA arrays decay; norms, biases, embeddings and special tokens do not."""

    def decay(params):
        return jax.tree.map_with_path(lambda path, _: bool(re.search("kernel|lora", jax.tree_util.keystr(path))), params)

    return optax.chain(
        optax.clip_by_global_norm(cfg.max_grad_norm),
        optax.adamw(schedule(cfg, steps), b1=cfg.b1, b2=cfg.b2, weight_decay=cfg.weight_decay, mask=decay),
    )


def check_parts(parts: tuple[str, ...]) -> None:
    """Raise UserError unless `parts` are names of PARTS, at least one."""
    if not parts:
        raise UserError(f"parts: none given; expected some of {', '.join(PARTS)}")
    for part in parts:
        if part not in PARTS:
            raise unknown("parts", part, PARTS)


def partition(model: nnx.Module, parts: tuple[str, ...]):
    """Split a model into (graphdef, trainable, frozen): `parts` are names of PARTS. Trainable arrays become f32: in bf16 small updates
    would be rounded away. UserError for a part that the model does not have."""
    pattern = re.compile("|".join(PARTS[p] for p in parts))
    graphdef, trainable, frozen = nnx.split(model, lambda path, _: bool(pattern.fullmatch(".".join(map(str, path)))), ...)
    names = [".".join(map(str, path)) for path, _ in nnx.to_flat_state(trainable)]
    for part in parts:
        if not any(re.fullmatch(PARTS[part], name) for name in names):
            raise UserError(f"parts: the model has no parameters of {part!r}")
    return graphdef, jax.tree.map(lambda x: x.astype(jnp.float32), trainable), frozen


def init_state(tx: optax.GradientTransformation, trainable, mesh) -> TrainState:
    """Step 0. The moments are made where their weights lie (left to itself, jit would put all of them on every device)."""
    abstract = jax.eval_shape(tx.init, trainable)
    opt_state = jax.jit(tx.init, out_shardings=param_shardings(abstract, mesh))(trainable)
    return TrainState(place(np.int32(0), replicated(mesh)), trainable, opt_state)
