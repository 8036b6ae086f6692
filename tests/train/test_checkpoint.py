"""Checkpoints: bit for bit, the last few kept, never half of one, and a clear word when a run cannot be resumed."""

from __future__ import annotations

import dataclasses
import json
import re
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from jax.sharding import PartitionSpec as P

from sv_jax import mesh as m
from sv_jax.errors import UserError
from sv_jax.train.checkpoint import Checkpoints, folder_id
from sv_jax.train.state import OptimConfig, TrainState, make_optimizer


@dataclass(frozen=True)
class Config:
    name: str = "run"
    optim: OptimConfig = OptimConfig()


CONFIG = Config()


def make_state(seed: int = 0) -> TrainState:
    """A train state with every kind of leaf: f32 and bf16 weights as nnx parameters, moments, counters, odd values."""
    rng = np.random.default_rng(seed)
    kernel = jnp.asarray(rng.standard_normal((2, 8, 16)), jnp.float32).at[0, 0, 0].set(-0.0).at[0, 0, 1].set(1e-42)
    tree = {"text": {"layers": {"attn": {"q": {"kernel": kernel, "bias": jnp.asarray(rng.standard_normal((2, 16)), jnp.bfloat16)}}}}}
    params = nnx.State(jax.tree.map(nnx.Param, tree))
    opt_state = jax.eval_shape(make_optimizer(OptimConfig(weight_decay=0.1), 10).init, params)
    opt_state = jax.tree.map(lambda x: jnp.asarray(rng.standard_normal(x.shape), x.dtype), opt_state)
    return TrainState(jnp.int32(seed), params, opt_state)


def bits(tree) -> dict[str, bytes]:
    return {jax.tree_util.keystr(path): np.asarray(x).tobytes() for path, x in jax.tree_util.tree_flatten_with_path(tree)[0]}


def test_everything_comes_back_bit_for_bit_with_its_types_and_record(tmp_path):
    state, frozen = make_state(3), {"folder": "base", "hash": "ab"}
    record = {"seed": 7, "data": {"epoch": 1, "positions": [1, 2**40]}, "phase": None}
    with Checkpoints(tmp_path / "c", CONFIG, frozen=frozen) as c:
        c.save(3, state, record)
    with Checkpoints(tmp_path / "c", CONFIG, frozen=frozen) as c:
        got, got_record = c.restore(jax.eval_shape(lambda: make_state(0)))
    assert bits(got) == bits(state) and got_record == record
    assert jax.tree.structure(got) == jax.tree.structure(state)
    assert jax.tree.map(lambda x: x.dtype, got) == jax.tree.map(lambda x: x.dtype, state)
    optax.apply_updates(got.trainable, got.trainable)  # parameters are parameters again


def test_arrays_come_back_where_the_template_says(tmp_path):
    mesh, state = m.make_mesh("fsdp=2,tensor=4"), make_state(1)
    shapes = jax.eval_shape(lambda: make_state(0))
    template = jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), shapes, m.param_shardings(shapes, mesh))
    with Checkpoints(tmp_path, CONFIG) as c:
        c.save(1, state)
        got, _ = c.restore(template)
    kernel = got.trainable["text"]["layers"]["attn"]["q"]["kernel"][...]
    assert kernel.sharding.spec == P(None, "fsdp", "tensor") and bits(got) == bits(state)


def test_the_last_few_steps_are_kept_and_any_of_them_restored(tmp_path):
    with Checkpoints(tmp_path, CONFIG, keep=2) as c:
        for step in (2, 4, 10):
            c.save(step, make_state(step))
        c.save(10, make_state(99))  # there already
        assert c.steps == [4, 10]
    with Checkpoints(tmp_path, CONFIG, keep=None) as c:
        for step in (4, 10):
            assert bits(c.restore(make_state(), step)[0]) == bits(make_state(step))
        with pytest.raises(UserError, match="checkpoint step 5 is not one of 10, 4"):
            c.restore(make_state(), 5)


def test_resuming_from_nothing_is_one_line_and_makes_no_folder(tmp_path):
    for folder in (tmp_path, tmp_path / "absent"):
        with Checkpoints(folder, CONFIG) as c, pytest.raises(UserError, match=re.escape(f"resume: {folder} holds no checkpoint; expected")):
            c.restore(make_state())
    assert not (tmp_path / "absent").exists()


def test_another_config_other_weights_or_other_arrays_are_named(tmp_path):
    changed = dataclasses.replace(CONFIG, optim=OptimConfig(learning_rate=1.0))
    other = make_state()
    other.trainable["text"]["layers"]["attn"]["q"]["lora_a"] = nnx.Param(jnp.ones((2, 8, 4, 2)))
    narrow = jax.tree.map(lambda x: x[:, :1] if x.ndim > 1 else x, make_state())
    with Checkpoints(tmp_path, CONFIG, frozen={"folder": "base", "hash": "ab"}) as c:
        c.save(1, make_state())
    for message, template, config, weights in [
        ("resume: the config is not .*: optim.learning_rate 5e-06 -> 1.0", make_state(), changed, "ab"),
        ("resume: .* frozen weights .*'hash': 'ab'.*, found .*'hash': 'cd'", make_state(), CONFIG, "cd"),
        ("'trainable.text.layers.attn.q.lora_a' is not in the checkpoint", other, CONFIG, "ab"),
        (r"attn.q.\w+' has shape \(2, \d+.*\) in the checkpoint, expected \(2, 1.*\)", narrow, CONFIG, "ab"),
    ]:
        with Checkpoints(tmp_path, config, frozen={"folder": "base", "hash": weights}) as c, pytest.raises(UserError, match=message):
            c.restore(template)


SAVER = """
    import sys
    import jax
    import numpy as np
    from sv_jax.train.checkpoint import Checkpoints
    with Checkpoints(sys.argv[1], {}, keep=2) as c:
        for step in range((c.steps or [0])[-1] + 1, 10_000):
            state = {f"weights{i}": jax.device_put(np.full((64, 64), step, np.float32)) for i in range(16)}
            print(step, flush=True)
            c.save(step, state, {"seed": step})
"""


@pytest.mark.parametrize("delay", [0.0, 0.01, 0.02])
def test_a_save_killed_at_any_moment_leaves_the_one_before(tmp_path, delay):
    folder = tmp_path / "c"
    for _ in range(2):  # the second life begins with what the first one left
        command = [sys.executable, "-c", textwrap.dedent(SAVER), str(folder)]
        child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        started = [int(child.stdout.readline()) for _ in range(4)][-1]
        time.sleep(delay)
        child.send_signal(signal.SIGKILL)
        reached = ([started] + [int(line) for line in child.stdout.read().split()])[-1]
        child.wait()
        template = {f"weights{i}": jax.ShapeDtypeStruct((64, 64), jnp.float32) for i in range(16)}
        with Checkpoints(folder, {}, keep=None) as c:
            step, (state, record) = c.steps[-1], c.restore(template)
        assert step in (reached - 1, reached) and record["seed"] == step
        assert all(np.array_equal(x, np.full((64, 64), step)) for x in state.values())


def test_a_folders_identity_is_the_content_of_its_config_and_weights(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"a": 1}))
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    first = folder_id(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    assert folder_id(tmp_path) == first and first["folder"] == str(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"weightz")
    assert folder_id(tmp_path)["hash"] != first["hash"]
