"""Weights from files straight to devices: a few threads read blocks of rows, and each block goes to the shards that hold its values.

A leaf of ours has all layers, mostly transposed; a tensor of a file is one layer of it. So that no leaf is whole on the host, its shards
are made first and filled block by block: on a CPU in memory that JAX takes over as it is, on any other device by updates in place.
"""

from __future__ import annotations

import functools
import math
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from sv_jax.weights.names import Slot
from sv_jax.weights.safetensors_io import BLOCK, Tensor, is_finite, not_finite, raise_faults, read_part

Shardings = Callable[[str, tuple[int, ...]], jax.sharding.Sharding]
Bounds = tuple[slice, ...]  # both ends of each are given

THREADS = min(8, 2 * (os.cpu_count() or 1))
PAGE = 4096  # bytes that a disk reads at least: of narrower columns the whole rows are read
ALIGNMENT, CACHE_LINE = 64, 64
TILE = 1024, 256  # bytes of rows, and columns, that are turned at a time


def read_leaves(
    shapes: Mapping[str, tuple[int, ...]],
    wanted: Sequence[Slot],
    found: Mapping[str, Tensor],
    dtype: np.dtype | None,
    shardings: Shardings | None,
    where: str,
) -> dict[str, jax.Array]:
    """The leaves {path: array} out of tensors that were checked against `wanted`. Every byte that this process's devices need is read once.
    With a `dtype` of None, layers stored in different dtypes meet in the wider one. `UserError` names all tensors that are not finite."""
    dtypes: dict[str, set] = {path: set() for path in shapes}
    for slot in wanted:
        for path in slot.paths:
            dtypes[path].add(found[slot.name].dtype if dtype is None else dtype)
    places = {path: None if shardings is None else shardings(path, shape) for path, shape in shapes.items()}
    shards = {}
    for path, shape in shapes.items():
        held = {None: (slice(None),) * len(shape)} if shardings is None else places[path].addressable_devices_indices_map(shape)
        shards[path] = make_shards(shape, np.dtype(jnp.result_type(*dtypes[path])), held)
    tasks = [task for slot in wanted for task in plan(slot, found[slot.name], shards)]
    tasks.sort(key=lambda task: (task.tensor.file, task.tensor.offset or 0))  # disks like to be read in order
    with ThreadPoolExecutor(THREADS) as pool:
        bad = dict.fromkeys(task.slot.name for task, good in zip(tasks, pool.map(run, tasks), strict=True) if not good)
    raise_faults([not_finite(name, found[name].file) for name in bad], where)
    return {path: _assemble(shape, places[path], shards.pop(path)) for path, shape in shapes.items()}


class HostShard:
    """A part of a leaf in the host's memory, aligned so that JAX on a CPU takes it over without a copy."""

    def __init__(self, bounds: Bounds, dtype: np.dtype, devices: Sequence):
        self.bounds, self.devices = bounds, devices
        shape = extent(bounds)
        size = math.prod(shape) * dtype.itemsize
        raw = np.empty(size + ALIGNMENT, np.uint8)
        start = -raw.ctypes.data % ALIGNMENT
        self.array = raw[start : start + size].view(dtype).reshape(shape)

    def write(self, block: np.ndarray, axes: tuple[int, ...], start: tuple[int, ...]) -> None:
        """Put the block, its axes permuted, at `start`. Bits go as integers: numpy holds the interpreter's lock while it copies bf16."""
        lead = len(start) - len(axes)
        part = tuple(slice(s, s + block.shape[axis]) for s, axis in zip(start[lead:], axes, strict=True))
        bits = f"u{self.array.itemsize}"
        to = self.array[start[:lead] + part].view(bits)
        block = block.astype(self.array.dtype, copy=False).view(bits)
        if axes == (1, 0):
            turn(block, to)
        else:
            to[...] = block.transpose(axes)

    def arrays(self) -> list[jax.Array]:
        return [jax.device_put(self.array, device) for device in self.devices]


def turn(block: np.ndarray, to: np.ndarray) -> None:
    """`to[...] = block.T`, three times as fast: in tiles that stay in the cache, a cache line of each column at a time."""
    line = CACHE_LINE // block.itemsize
    rows, columns = TILE[0] // block.itemsize, TILE[1]
    tile = np.empty((columns, rows), block.dtype)
    for r in range(0, block.shape[0], rows):
        for c in range(0, block.shape[1], columns):
            part = block[r : r + rows, c : c + columns]
            turned = tile[: part.shape[1], : part.shape[0]]
            for i in range(0, len(part), line):
                turned.T[i : i + line] = part[i : i + line]
            to[c : c + columns, r : r + rows] = turned


class DeviceShard:
    """A part of a leaf in the memory of accelerators, updated in place."""

    def __init__(self, bounds: Bounds, dtype: np.dtype, devices: Sequence):
        self.bounds, self.devices = bounds, devices
        self.lock = threading.Lock()
        self.filled = [jnp.zeros(extent(bounds), dtype, device=device) for device in devices]

    def write(self, block: np.ndarray, axes: tuple[int, ...], start: tuple[int, ...]) -> None:
        for i, device in enumerate(self.devices):
            there = jax.device_put(block, device).block_until_ready()  # else blocks would pile up on the host
            with self.lock:
                self.filled[i] = _update(self.filled[i], there, np.array(start, np.int32), axes)

    def arrays(self) -> list[jax.Array]:
        return self.filled


@functools.partial(jax.jit, donate_argnums=0, static_argnums=3)
def _update(leaf: jax.Array, block: jax.Array, start: jax.Array, axes: tuple[int, ...]) -> jax.Array:
    block = block.transpose(axes).astype(leaf.dtype)
    return jax.lax.dynamic_update_slice(leaf, block.reshape((1,) * (leaf.ndim - block.ndim) + block.shape), tuple(start))


Shard = HostShard | DeviceShard


def make_shards(shape: tuple[int, ...], dtype: np.dtype, held: Mapping[jax.Device | None, Bounds]) -> list[Shard]:
    """One shard for each different part that devices of this process hold; None is the default device."""
    holders: dict[tuple, list] = {}
    for device, index in held.items():
        bounds = tuple(i.indices(n)[:2] for i, n in zip(index, shape, strict=True))
        holders.setdefault(bounds, []).append(device)
    return [shard_type(devices[0])(tuple(slice(*b) for b in bounds), dtype, devices) for bounds, devices in holders.items()]


def shard_type(device: jax.Device | None) -> type[Shard]:
    return HostShard if (device or jax.devices()[0]).platform == "cpu" else DeviceShard


class Use(NamedTuple):
    """What a shard takes of a tensor (folded to the leaf's number of axes), and where it puts it."""

    shard: Shard
    rows: slice
    rest: Bounds
    layer: tuple[int, ...]  # of the shard; empty where leaves are not stacked


class Task(NamedTuple):
    tensor: Tensor
    slot: Slot
    rows: slice
    uses: list[Use]


def plan(slot: Slot, tensor: Tensor, shards: Mapping[str, Sequence[Shard]]) -> Iterator[Task]:
    """The reads of one tensor: blocks of those of its rows that some shard wants."""
    uses = list(_uses(slot, shards))
    if not uses:
        return
    step = max(1, BLOCK // (tensor.nbytes // slot.folded[0] or 1))
    last = max(use.rows.stop for use in uses)
    for start in range(min(use.rows.start for use in uses), last, step):
        rows = slice(start, min(start + step, last))
        if hit := [use for use in uses if use.rows.start < rows.stop and rows.start < use.rows.stop]:
            yield Task(tensor, slot, rows, hit)


def _uses(slot: Slot, shards: Mapping[str, Sequence[Shard]]) -> Iterator[Use]:
    part = slot.folded[0] // len(slot.paths)
    for i, path in enumerate(slot.paths):
        for shard in shards[path]:
            bounds, layer = shard.bounds, ()
            if slot.layer is not None:
                held, *bounds = bounds
                if not held.start <= slot.layer < held.stop:
                    continue
                layer = (slot.layer - held.start,)
            rows, *rest = (bounds[slot.axes.index(axis)] for axis in range(len(slot.axes)))
            yield Use(shard, slice(rows.start + i * part, rows.stop + i * part), tuple(rest), layer)


def run(task: Task) -> bool:
    """Read one block and hand it out -> whether all of it is finite."""
    tensor, slot, rows, uses = task
    columns, unit = slice(0, 1), math.prod(slot.folded[2:])
    if len(slot.folded) > 1:
        columns = slice(min(use.rest[0].start for use in uses), max(use.rest[0].stop for use in uses))
        if (columns.stop - columns.start) * unit * tensor.dtype.itemsize < PAGE:
            columns = slice(0, slot.folded[1])
    block = read_part(tensor, math.prod(slot.folded[1:]), rows, slice(columns.start * unit, columns.stop * unit))
    folded = block.reshape(-1, *((columns.stop - columns.start, *slot.folded[2:]) if len(slot.folded) > 1 else ()))
    for use in uses:
        first, last = max(rows.start, use.rows.start), min(rows.stop, use.rows.stop)
        index = [slice(first - rows.start, last - rows.start), *use.rest]
        if use.rest:
            index[1] = slice(use.rest[0].start - columns.start, use.rest[0].stop - columns.start)
        start = tuple(first - use.rows.start if axis == 0 else 0 for axis in slot.axes)
        use.shard.write(folded[tuple(index)], slot.axes, use.layer + start)
    return is_finite(block)


def _assemble(shape: tuple[int, ...], sharding: jax.sharding.Sharding | None, shards: Sequence[Shard]) -> jax.Array:
    arrays = [array for shard in shards for array in shard.arrays()]
    return arrays[0] if sharding is None else jax.make_array_from_single_device_arrays(shape, sharding, arrays)


def extent(bounds: Bounds) -> tuple[int, ...]:
    return tuple(b.stop - b.start for b in bounds)
