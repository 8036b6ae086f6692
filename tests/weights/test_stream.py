from __future__ import annotations

import tracemalloc
from pathlib import Path

import jax
import ml_dtypes
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from sv_jax.errors import UserError
from sv_jax.models.spacevista.config import ExpertsConfig, FusionConfig, SpaceVistaConfig, XLoRAConfig
from sv_jax.weights import safetensors_io, stream
from sv_jax.weights.load import abstract_model, read_config, read_dino_config, slots_of
from sv_jax.weights.names import Slot, to_file
from sv_jax.weights.safetensors_io import Tensor, open_file, write_file
from sv_jax.weights.stream import DeviceShard, HostShard, make_shards, plan, read_leaves, run

SPECS = [(None, "a", "b"), (None, ("b", "a")), ("a", "b"), (None, None, "a"), ()]


def stored(cfg: SpaceVistaConfig, file: Path):
    """-> (slots, leaves, tensors in the file) of a model, each value different."""
    rng = np.random.default_rng(0)
    leaves = {path: rng.standard_normal(leaf.shape).astype(np.float32) for path, leaf in abstract_model(cfg)[1].items()}
    wanted, made = slots_of(cfg), {}
    for slot in wanted:
        theirs = to_file(slot, [leaves[path][... if slot.layer is None else slot.layer] for path in slot.paths])
        assert theirs.shape == slot.shape
        made[slot.name] = Tensor(theirs.shape, theirs.dtype, lambda theirs=theirs: theirs)
    write_file(file, made)
    return wanted, leaves, open_file(file)


@pytest.fixture(scope="module")
def parts(qwen_folder, dino_folder):
    return read_config(qwen_folder)[0].qwen, read_dino_config(dino_folder)


@pytest.fixture(scope="module")
def whole(tmp_path_factory, parts):
    """A model with most kinds of tensors."""
    cfg = SpaceVistaConfig(*parts, FusionConfig(8, 4, 2), ExpertsConfig(rank=3))
    return stored(cfg, tmp_path_factory.mktemp("whole") / "a.safetensors")


@pytest.mark.parametrize("shard, block, dtype", [(HostShard, 8 << 20, "bfloat16"), (HostShard, 200, None), (DeviceShard, 200, "bfloat16")])
def test_every_kind_of_tensor_comes_back_as_the_leaf_that_it_was_made_of(monkeypatch, whole, shard, block, dtype):
    """Whole and in blocks of a few rows, on the path of the CPU and on that of accelerators."""
    monkeypatch.setattr(stream, "shard_type", lambda device: shard)
    monkeypatch.setattr(stream, "BLOCK", block)
    wanted, leaves, found = whole
    dtype = None if dtype is None else np.dtype(ml_dtypes.bfloat16)
    got = read_leaves({path: leaf.shape for path, leaf in leaves.items()}, wanted, found, dtype, None, "here")
    assert set(got) == set(leaves)
    for path, leaf in leaves.items():
        np.testing.assert_array_equal(np.asarray(got[path]), leaf.astype(dtype or leaf.dtype), err_msg=path)


@pytest.mark.parametrize(
    "fusion, experts",
    [
        (FusionConfig(8, method="concat"), ExpertsConfig(rank=3, router="xlora", router_hidden_size=5, xlora=XLoRAConfig(depth=4))),
        (FusionConfig(8, method="weighted"), ExpertsConfig(rank=3, router="xlora", xlora=XLoRAConfig(layerwise=False))),
        (FusionConfig(8, method="gated", merger="avg"), ExpertsConfig(rank=3, router="prompt")),
    ],
)
def test_every_fusion_and_router_comes_back_as_well(tmp_path, parts, fusion, experts):
    wanted, leaves, found = stored(SpaceVistaConfig(*parts, fusion, experts), tmp_path / "a.safetensors")
    got = read_leaves({path: leaf.shape for path, leaf in leaves.items()}, wanted, found, None, None, "here")
    assert set(got) == set(leaves)
    for path, leaf in leaves.items():
        np.testing.assert_array_equal(np.asarray(got[path]), leaf, err_msg=path)


def fitting(spec, shape, mesh) -> PartitionSpec:
    """The spec cut to the leaf's rank, without the axes that do not divide."""
    ways = [np.prod([mesh.shape[a] for a in ((axes,) if isinstance(axes, str) else axes or ())], dtype=int) for axes in spec]
    return PartitionSpec(*(axes if n % way == 0 else None for axes, n, way in zip(spec, shape, ways, strict=False)))


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_sharded_leaves_equal_the_whole_ones_and_lie_where_they_should(monkeypatch, whole, spec):
    monkeypatch.setattr(stream, "BLOCK", 500)
    mesh = jax.make_mesh((2, 2), ("a", "b"), (AxisType.Auto,) * 2, devices=jax.devices()[:4])
    wanted, leaves, found = whole
    sharding = lambda path, shape: NamedSharding(mesh, fitting(spec, shape, mesh))  # noqa: E731
    got = read_leaves({path: leaf.shape for path, leaf in leaves.items()}, wanted, found, None, sharding, "here")
    for path, leaf in leaves.items():
        assert got[path].sharding == sharding(path, leaf.shape)
        np.testing.assert_array_equal(np.asarray(got[path]), leaf, err_msg=path)
        for shard in got[path].addressable_shards:
            np.testing.assert_array_equal(np.asarray(shard.data), leaf[shard.index], err_msg=path)
    if spec == ():  # a replica on a CPU is the same memory
        embedding = got["text.embed.embedding"]
        assert len({shard.data.unsafe_buffer_pointer() for shard in embedding.addressable_shards}) == 1


@pytest.mark.parametrize("spec, share", [((None, None, "a"), 2), ((None, "a"), 2), ((None, "a", "b"), 4), (("a",), 2)], ids=str)
def test_only_the_bytes_of_this_processs_devices_are_read(monkeypatch, whole, spec, share):
    """Rows, columns and layers of the leaves of one process out of two or four."""
    read = []
    fill = safetensors_io._fill
    monkeypatch.setattr(safetensors_io, "_fill", lambda f, at, out: (read.append(out.nbytes), fill(f, at, out)))
    monkeypatch.setattr(stream, "PAGE", 1)
    mesh = jax.make_mesh((2, 2), ("a", "b"), (AxisType.Auto,) * 2, devices=jax.devices()[:4])
    wanted, leaves, found = whole
    path = "text.layers.mlp.up.kernel"
    held = NamedSharding(mesh, PartitionSpec(*spec)).devices_indices_map(leaves[path].shape)
    (shard,) = make_shards(leaves[path].shape, np.dtype(np.float32), {jax.devices()[3]: held[jax.devices()[3]]})
    slots = [slot for slot in wanted if slot.paths == (path,)]
    assert all(run(task) for slot in slots for task in plan(slot, found[slot.name], {path: [shard]}))
    np.testing.assert_array_equal(shard.array, leaves[path][shard.bounds])
    assert sum(read) == leaves[path].nbytes // share


def test_an_array_on_the_cpu_is_the_memory_that_was_filled(whole):
    (shard,) = make_shards((4, 1000), np.dtype(ml_dtypes.bfloat16), {None: (slice(None), slice(None))})
    (array,) = shard.arrays()
    assert array.unsafe_buffer_pointer() == shard.array.ctypes.data


def test_every_tensor_with_nan_or_infinity_is_named(whole):
    wanted, leaves, found = whole
    bad = {}
    for name, value in (("lm_head.weight", np.nan), ("model.language_model.layers.1.mlp.up_proj.lora_B", -np.inf)):
        values = found[name].read()
        values.flat[5] = value
        bad[name] = Tensor(values.shape, values.dtype, lambda values=values: values, "some file")
    with pytest.raises(UserError) as error:
        read_leaves({path: leaf.shape for path, leaf in leaves.items()}, wanted, dict(found) | bad, None, None, "here")
    assert str(error.value).startswith("here: ") and str(error.value).count("holds NaN or infinite values") == 2
    assert all(f"tensor {name!r} in some file" in str(error.value) for name in bad)


@pytest.mark.parametrize("kind", [HostShard, DeviceShard])
def test_the_host_holds_no_more_than_the_blocks_being_read(monkeypatch, tmp_path, kind):
    """Above the arrays themselves, which on the CPU are memory of the host."""
    monkeypatch.setattr(stream, "shard_type", lambda device: kind)
    monkeypatch.setattr(stream, "BLOCK", 1 << 18)
    made = {f"model.layers.{i}.mlp.up_proj.weight": np.full((1024, 512), i, np.float32) for i in range(8)}
    write_file(tmp_path / "a.safetensors", {n: Tensor(a.shape, a.dtype, lambda a=a: a) for n, a in made.items()})
    slots = [Slot(name, (1024, 512), (1024, 512), (1, 0), ("up",), i) for i, name in enumerate(made)]
    found, shapes = open_file(tmp_path / "a.safetensors"), {"up": (8, 512, 1024)}
    total, dtype = 8 * 1024 * 512 * 4, np.dtype(np.float32)
    read_leaves(shapes, slots, found, dtype, None, "here")  # compiled once
    tracemalloc.start()
    got = read_leaves(shapes, slots, found, dtype, None, "here")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    np.testing.assert_array_equal(np.asarray(got["up"])[:, 0, 0], np.arange(8))
    assert peak < (total if kind is HostShard else 0) + 2 * stream.THREADS * stream.BLOCK + 2**19
