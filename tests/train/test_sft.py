"""Supervised fine-tuning, whole runs of a tiny fused model: it learns, on any mesh alike, only what it should, and survives kill -9."""

from __future__ import annotations

import dataclasses
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from sv_jax.compiles import Compiles, counting
from sv_jax.config import dump_config
from sv_jax.data.batches import DataConfig, ShapeConfig
from sv_jax.errors import UserError
from sv_jax.train import sft
from sv_jax.train.metrics import read_metrics
from sv_jax.train.state import PARTS, OptimConfig, make_optimizer, partition
from sv_jax.weights import load_model
from tests.train.conftest import EXPERTS, by_path, leaves_of, sft_config

ROOT = Path(__file__).parents[2]
TIMES = {"step_time", "tokens_per_second"}


@dataclass(frozen=True)
class Run:
    folder: Path
    compiles: Compiles

    def rows(self) -> list[dict]:
        """What was logged, without times."""
        return [{k: v for k, v in row.items() if k not in TIMES} for row in read_metrics(self.folder)]

    def column(self, name: str) -> list[float]:
        return [row[name] for row in self.rows()]


def run(cfg: sft.SFTConfig, **options) -> Run:
    with counting() as compiles:
        sft.train(cfg, **options)
    return Run(Path(cfg.run), compiles)


@pytest.fixture(scope="module")
def alone(tiny, tmp_path_factory) -> Run:
    """Six steps on one device, never interrupted."""
    return run(sft_config(tiny, tmp_path_factory.mktemp("sft") / "alone"))


def compiled(compiles: Compiles, name: str) -> int:
    return sum(n for (program, *_), n in compiles.programs.items() if program == name)


def changed(before: dict[str, np.ndarray], after: dict[str, np.ndarray]) -> set[str]:
    """Paths of the leaves of which any bit differs."""
    assert before.keys() == after.keys()
    return {path for path in before if before[path].tobytes() != after[path].tobytes()}


def test_the_loss_goes_down_and_what_a_run_logs(alone):
    rows, loss = alone.rows(), alone.column("loss")
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6]
    assert loss[0] == pytest.approx(math.log(320), abs=0.5) and loss[-1] < loss[0] - 0.4
    assert all(later < loss[0] for later in loss[1:])  # each step has a batch of its own: the way down need not be even
    assert rows[-1]["mean_token_accuracy"] > rows[0]["mean_token_accuracy"]
    assert rows[0]["learning_rate"] == pytest.approx(3e-3) and 0 < rows[-1]["learning_rate"] < 3e-4
    assert {"grad_norm", "num_tokens", "target_tokens"} <= rows[0].keys()


def test_every_program_compiles_once(alone):
    assert compiled(alone.compiles, "train_step") == 1 and not alone.compiles.repeated, alone.compiles.report()


@pytest.mark.parametrize("mesh", ["data=8", "fsdp=8", "fsdp=2,tensor=4"])
def test_a_mesh_gives_the_losses_of_one_device(mesh, tiny, alone, tmp_path, monkeypatch):
    """And weights and moments are split, the step compiles once, and the model folder holds the trained arrays."""
    states = []
    monkeypatch.setattr(sft.Checkpoints, "save", lambda self, step, state, record: states.append(state))
    there = run(sft_config(tiny, tmp_path / "run", mesh=mesh, save_every=6))
    np.testing.assert_allclose(there.column("loss"), alone.column("loss"), rtol=1e-5)
    np.testing.assert_allclose(there.column("grad_norm"), alone.column("grad_norm"), rtol=1e-4)
    assert compiled(there.compiles, "train_step") == 1 and not there.compiles.repeated, there.compiles.report()
    (state,) = states
    moments = state.opt_state[1][0]
    for tree in (state.trainable, moments.mu, moments.nu):
        split = {path: leaf.size // leaf.addressable_shards[0].data.size for path, leaf in by_path(tree).items()}
        assert {n for path, n in split.items() if re.search("kernel|embedding", path)} == {1 if mesh == "data=8" else 8}
        assert {n for path, n in split.items() if path.endswith("scale")} == {1}
    trained = jax.device_get(by_path(state.trainable))
    saved = leaves_of(there.folder / "model")
    assert not changed(trained, {path: saved[path] for path in trained})


KILLED = """
    import sys, time
    import jax
    jax.config.update("jax_num_cpu_devices", 8)
    from sv_jax.compiles import persistent_cache
    from sv_jax.config import load_config
    from sv_jax.train import sft
    persistent_cache(sys.argv[2])
    place, steps = sft.place, []

    def wait_in_step_six(batch, shardings):
        steps.append(0)
        if len(steps) == 6:
            print("here", flush=True)
            time.sleep(600)
        return place(batch, shardings)

    sft.place = wait_in_step_six
    sft.train(load_config(sft.SFTConfig, sys.argv[1]))
"""


def test_killed_and_resumed_equals_uninterrupted_bit_for_bit(tiny, alone, tmp_path):
    """kill -9 in step 6, after the checkpoint of step 4 and the log line of step 5."""
    cfg = sft_config(tiny, tmp_path / "run")
    (tmp_path / "config.yaml").write_text(dump_config(cfg))
    command = [sys.executable, "-c", textwrap.dedent(KILLED), str(tmp_path / "config.yaml"), jax.config.jax_compilation_cache_dir]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)}) as child:
        assert child.stdout.readline() == "here\n"
        child.send_signal(signal.SIGKILL)
    assert [row["step"] for row in read_metrics(cfg.run)] == [1, 2, 3, 4, 5] and not (tmp_path / "run" / "model").exists()
    resumed = run(cfg, resume=True)
    assert resumed.rows() == alone.rows()  # each step once, with the same figures
    assert not changed(leaves_of(alone.folder / "model"), leaves_of(resumed.folder / "model"))


def test_a_checkpoint_between_two_lines_of_the_log_gets_a_line_of_its_own(tiny, tmp_path, monkeypatch):
    """Without it a resumed run would forget the tokens since the last line."""
    cfg = sft_config(tiny, tmp_path / "run", log_every=4, save_every=3)
    with monkeypatch.context() as patch:
        patch.setattr(sft, "save_model", lambda *_, **__: None)
        whole = run(cfg)
    assert [row["step"] for row in whole.rows()] == [3, 4, 6]
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "6")
    assert run(cfg, resume=True).rows() == whole.rows()


def test_a_finished_run_can_be_resumed_and_stays_as_it_is(tiny, alone):
    before = leaves_of(alone.folder / "model"), alone.rows()
    sft.train(sft_config(tiny, alone.folder), resume=True)
    assert not changed(before[0], leaves_of(alone.folder / "model")) and alone.rows() == before[1]


STAGES = {
    ("text", "fusion"): {"text", "fusion", "dino_merger"},
    ("experts",): {"text"},
    ("router",): {"text"},
    ("vision", "text", "dino", "fusion", "experts", "router"): {"vision", "text", "dino", "dino_merger", "fusion"},
}


@pytest.mark.parametrize("parts", STAGES)
def test_the_trainable_paths_of_each_stage(parts, tiny):
    _, trainable, frozen = partition(load_model(tiny.spacevista), parts)
    paths, rest, everything = set(by_path(trainable)), set(by_path(frozen)), set(leaves_of(tiny.spacevista))
    assert paths | rest == everything and not paths & rest
    assert {path.split(".")[0] for path in paths} == STAGES[parts]
    kind = lambda path: "experts" if "lora_" in path else "router" if ".router." in path else "dense"  # noqa: E731
    wanted = {"experts", "router", "dense"} if len(parts) == 6 else set(parts) & {"experts", "router"} or {"dense"}
    assert {kind(path) for path in paths} == wanted
    if len(parts) == 1:
        assert paths == {path for path in everything if kind(path) == parts[0]}
    if len(parts) == 6:
        assert paths == everything
    assert len(PARTS) == 6  # a new part needs a line here


def test_the_first_stage_changes_text_and_fusion_and_no_bit_of_the_rest(tiny, alone):
    before, after = leaves_of(tiny.spacevista), leaves_of(alone.folder / "model")
    assert changed(before, after) == set(by_path(partition(load_model(tiny.spacevista), ("text", "fusion"))[1]))


def test_the_label_router_trains_only_the_experts_of_the_scales_in_the_data(tiny, tmp_path):
    """Stage 2 on tiny and drone: experts 0 and 3 (drone shares the outdoor expert); nothing else moves, the model keeps its own router."""
    cfg = sft_config(tiny, tmp_path / "run", parts=("experts",), router="label", steps=2, save_every=2)
    sft.train(dataclasses.replace(cfg, data=DataConfig(tiny.data, scales=("tiny", "drone")), optim=OptimConfig(learning_rate=1e-3)))
    before, after = leaves_of(tiny.spacevista), leaves_of(tmp_path / "run" / "model")
    assert changed(before, after) == {path for path in before if "lora_" in path}
    for path in changed(before, after):
        axis = 2 if path.endswith("lora_a") else 1  # [L, in, E, R] and [L, E, R, out]
        moved = (before[path] != after[path]).any(axis=tuple(i for i in range(4) if i != axis))
        assert moved.tolist() == [True, False, False, True], path
    assert load_model(tmp_path / "run" / "model").cfg.experts == EXPERTS


def test_the_gradient_reaches_every_array_of_the_router(tiny, tmp_path):
    """Stage 3: the router alone moves, in every layer."""
    routed = run(sft_config(tiny, tmp_path / "run", parts=("router",), steps=2, save_every=2))
    before, after = leaves_of(tiny.spacevista), leaves_of(tmp_path / "run" / "model")
    assert changed(before, after) == {path for path in before if ".router." in path}
    for path in changed(before, after):
        assert (before[path] != after[path]).reshape(2, -1).mean(1).min() > 0.5, path
    assert min(routed.column("grad_norm")) > 1e-3


def test_a_plain_qwen_learns_in_bf16_with_f32_weights(tiny, tmp_path):
    cfg = sft_config(tiny, tmp_path / "run", model=tiny.qwen, parts=("vision", "text"), dtype="bfloat16", remat=False)
    loss = run(cfg).column("loss")
    assert loss[-1] < loss[0] - 0.4
    before, after = leaves_of(tiny.qwen), leaves_of(tmp_path / "run" / "model")
    assert changed(before, after) == set(before) and {x.dtype for x in after.values()} == {np.dtype("float32")}


def test_kernels_and_lora_arrays_decay_and_nothing_else_does(tiny):
    params = nnx.state(load_model(tiny.spacevista))
    tx = make_optimizer(OptimConfig(learning_rate=0.1, weight_decay=0.5), 10)
    updates = jax.jit(lambda params: tx.update(jax.tree.map(jnp.zeros_like, params), tx.init(params), params)[0])(params)
    before, updates = by_path(params), by_path(updates)
    for path, update in updates.items():
        decays = path.rpartition(".")[2] in ("kernel", "lora_a", "lora_b")
        np.testing.assert_allclose(update, -0.05 * before[path] if decays else 0 * update, rtol=1e-5, err_msg=path)
    assert {p.rpartition(".")[2] for p in before} == {
        "kernel", "bias", "scale", "embedding", "lora_a", "lora_b", "ls1", "ls2", "cls_token", "register_tokens"
    }  # fmt: skip


@pytest.mark.parametrize(
    "changes, options, message",
    [
        ({}, {"resume": True}, "resume: .*checkpoints holds no checkpoint; expected one that training has saved"),
        ({"parts": ("experts",), "model": "qwen"}, {}, "parts: the model has no parameters of 'experts'"),
        ({"mesh": "fsdp=3"}, {}, "mesh 'fsdp=3': needs 3 devices, found 8"),
        ({"shape": ShapeConfig(8, 64, 512, 16)}, {}, r"data: a sample does not fit .*: it has 1\d\d of 64 tokens"),
        ({"shape": ShapeConfig(8, 256, 8, 8)}, {}, "it has 16 of 8 patches"),
        ({"model": "absent"}, {}, "model folder 'absent' does not exist"),
    ],
)
def test_what_a_user_gets_wrong_is_one_line(changes, options, message, tiny, tmp_path):
    if changes.get("model") == "qwen":
        changes = changes | {"model": tiny.qwen}
    with pytest.raises(UserError, match=message) as caught:
        sft.train(sft_config(tiny, tmp_path / "run", **changes), **options)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run" / "checkpoints").exists() and not (tmp_path / "run" / "model").exists()


def test_a_folder_with_checkpoints_is_not_started_again(tiny, alone):
    before = alone.rows()
    with pytest.raises(UserError, match="holds checkpoints already; continue it with --resume, or name another run"):
        sft.train(sft_config(tiny, alone.folder))
    with pytest.raises(UserError, match="the config is not the one .*: seed 0 -> 1"):
        sft.train(sft_config(tiny, alone.folder, seed=1), resume=True)
    assert alone.rows() == before


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"parts": ("fusoin",)}, "parts 'fusoin' is not one of .*; did you mean 'fusion'"),
        ({"parts": ()}, "parts: none given; expected some of vision, text"),
        ({"router": "labels"}, "router 'labels' .* did you mean 'label'"),
        ({"dtype": "float16"}, "dtype 'float16' is not one of"),
        ({"steps": 0}, "steps 0: expected at least 1"),
        ({"log_every": 0}, "log_every 0: expected at least 1"),
    ],
)
def test_an_impossible_config_is_refused_at_once(changes, message, tiny):
    with pytest.raises(UserError, match=message):
        sft_config(tiny, "run", **changes)
