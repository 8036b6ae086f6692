"""Where every array lives on a mesh of devices: the one place that names mesh axes.

A parameter's path gives the logical name of each of its axes (AXES), a table maps logical names to mesh axes (RULES):

    text.layers.attn.q.kernel [L, D, N*H] -> ("layer", "embed", "heads") -> PartitionSpec(None, "fsdp", "tensor")

`data` splits rows, `fsdp` rows and weights, `tensor` the inner axes of the products. Axes are Auto: XLA places what is in between.
A mesh of None is one device.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from sv_jax.errors import UserError, unknown

log = logging.getLogger(__name__)

MESH_AXES = ("data", "fsdp", "tensor")

RULES: dict[str, str | tuple[str, ...] | None] = {
    "rows": ("data", "fsdp"),  # of a batch: token rows, patches, windows
    "embed": "fsdp",  # model and tower widths
    "heads": "tensor",
    "mlp": "tensor",
    "vocab": "tensor",
    "layer": None,
    "patch": None,  # pixels of one patch
    "norm": None,  # widths of vectors: norms, layer scales, special tokens
    "expert": None,
    "rank": None,
    "router": None,
    "token": None,
}

# Axes of each linear layer's kernel, by path; its bias and its LoRA arrays follow from them.
LINEAR = {
    r"text\.layers\.attn\.[qkv]": ("layer", "embed", "heads"),
    r"text\.layers\.attn\.o": ("layer", "heads", "embed"),
    r"text\.layers\.mlp\.(?:gate|up)": ("layer", "embed", "mlp"),
    r"text\.layers\.mlp\.down": ("layer", "mlp", "embed"),
    r"text\.layers\.router\.fc1": ("layer", "embed", "router"),
    r"text\.layers\.router\.fc2": ("layer", "router", "expert"),
    r"text\.layers\.router": ("layer", "router", "expert"),
    r"text\.router\.(?:fc1|first)": ("embed", "router"),
    r"text\.router\.hidden": ("layer", "embed", "router"),
    r"text\.router\.(?:fc2|last)": ("router", "expert"),
    r"text\.head": ("embed", "vocab"),
    r"(?:vision|dino)\.patch_embed": ("patch", "embed"),
    r"vision\.blocks\.attn\.qkv": ("layer", "embed", "heads"),
    r"vision\.blocks\.attn\.proj": ("layer", "heads", "embed"),
    r"vision\.blocks\.mlp\.(?:gate|up)": ("layer", "embed", "mlp"),
    r"vision\.blocks\.mlp\.down": ("layer", "mlp", "embed"),
    r"(?:vision\.merger|dino_merger)\.fc1": ("embed", "mlp"),
    r"(?:vision\.merger|dino_merger)\.fc2": ("mlp", "embed"),
    r"dino\.layers\.attn\.[qkv]": ("layer", "embed", "heads"),
    r"dino\.layers\.attn\.o": ("layer", "heads", "embed"),
    r"dino\.layers\.mlp\.(?:gate|up)": ("layer", "embed", "mlp"),
    r"dino\.layers\.mlp\.down": ("layer", "mlp", "embed"),
    r"fusion\.blocks\.attn\.[qkv]": ("layer", "embed", "heads"),
    r"fusion\.blocks\.attn\.o": ("layer", "heads", "embed"),
    r"fusion\.blocks\.fc1": ("layer", "embed", "mlp"),
    r"fusion\.blocks\.fc2": ("layer", "mlp", "embed"),
    r"fusion\.(?:projection|gate_projection)": ("mlp", "embed"),
}

AXES: dict[str, tuple[str, ...]] = {
    r"text\.embed\.embedding": ("vocab", "embed"),
    r"(?:text|text\.router|vision\.merger|dino|dino_merger)\.norm\.(?:scale|bias)": ("norm",),
    r"(?:text|dino)\.layers\.\w*norm\w*\.(?:scale|bias)": ("layer", "norm"),
    r"(?:vision|fusion)\.blocks\.\w*norm\w*\.(?:scale|bias)": ("layer", "norm"),
    r"fusion\.norm[12]\.(?:scale|bias)": ("norm",),
    r"fusion\.weight_[23]d": ("norm",),
    r"dino\.layers\.ls[12]": ("layer", "norm"),
    r"dino\.cls_token": ("norm",),
    r"dino\.register_tokens": ("token", "norm"),
}
AXES |= {
    rf"{path}\.{leaf}": row
    for path, (*lead, d_in, d_out) in LINEAR.items()
    for leaf, row in {
        "kernel": (*lead, d_in, d_out),
        "bias": (*lead, d_out),
        "lora_a": (*lead, d_in, "expert", "rank"),
        "lora_b": (*lead, "expert", "rank", d_out),
    }.items()
}

TOWERS = ("text", "vision", "dino", "dino_merger", "fusion")
ROW_AXIS = {"positions": 1, "dino_patches": 1}  # of a batch's arrays; 0 for every other


def make_mesh(spec: str | None, devices: Sequence[jax.Device] | None = None) -> Mesh | None:
    """`"fsdp=2,tensor=4"` -> a mesh over all devices with the axes data, fsdp, tensor (1 where not given); None -> None.

    Raises UserError for an unknown axis, a size that is no positive integer, or a product that is not the number of devices."""
    if spec is None:
        return None
    devices = jax.devices() if devices is None else devices
    sizes = dict.fromkeys(MESH_AXES, 1)
    for item in spec.split(","):
        name, _, size = (part.strip() for part in item.partition("="))
        if name not in sizes:
            raise unknown("mesh axis", name, MESH_AXES)
        if not size.isdigit() or int(size) < 1:
            raise UserError(f"mesh {spec!r}: axis {name!r} has size {size!r}; expected a positive integer, as in 'fsdp=2,tensor=4'")
        sizes[name] = int(size)
    if math.prod(sizes.values()) != len(devices):
        raise UserError(f"mesh {spec!r}: needs {math.prod(sizes.values())} devices, found {len(devices)}")
    return jax.make_mesh(tuple(sizes.values()), MESH_AXES, (AxisType.Auto,) * len(sizes), devices=devices)


def param_shardings(tree: Any, mesh: Mesh | None) -> Any:
    """A sharding for each leaf of a module, an `nnx.State`, an optimiser state or a whole train state (arrays or shapes), as the same tree.

    A leaf's path must end in a parameter's path that exactly one row of AXES names, with the leaf's rank: so moments lie where their
    weight lies. Leaves that belong to no parameter (counters) must be scalars and are on every device. Without a mesh: None."""
    if mesh is None:
        return None
    return jax.tree_util.tree_map_with_path(lambda path, leaf: NamedSharding(mesh, _param_spec(path_names(path), leaf.shape, mesh)), tree)


def leaf_shardings(mesh: Mesh | None) -> Callable[[str, tuple[int, ...]], NamedSharding] | None:
    """`f(path, shape)` -> the sharding of one parameter, for loading weights leaf by leaf."""
    return None if mesh is None else lambda path, shape: NamedSharding(mesh, _param_spec(path.split("."), shape, mesh))


def batch_shardings(batch: Any, mesh: Mesh | None) -> Any:
    """A sharding for each array of a `Batch` or `Vision`, as the same tree: rows, and what is flat over the batch (patches, windows,
    slices), lie over `data` and `fsdp`. Without a mesh: None."""
    if mesh is None:
        return None

    def sharding(path, leaf):
        axes: list[str | None] = [None] * len(leaf.shape)
        if axes:
            axes[ROW_AXIS.get(path_names(path)[-1], 0)] = "rows"
        return NamedSharding(mesh, spec(axes, leaf.shape, mesh, ".".join(path_names(path))))

    return jax.tree_util.tree_map_with_path(sharding, batch)


def replicated(mesh: Mesh | None) -> NamedSharding | None:
    """The whole array on every device."""
    return None if mesh is None else NamedSharding(mesh, PartitionSpec())


def place(tree: Any, shardings: Any) -> Any:
    """Put a tree of host or device arrays where `shardings` says (None: on the default device)."""
    return jax.device_put(tree) if shardings is None else jax.device_put(tree, shardings)


def spec(axes: Sequence[str | None], shape: Sequence[int], mesh: Mesh, name: str = "") -> PartitionSpec:
    """Logical axis names to a PartitionSpec. An axis that the devices do not divide stays whole, which is logged once."""
    entries, used = [], []
    for axis, size in zip(axes, shape, strict=True):
        if axis is not None and axis not in RULES:
            raise unknown("logical axis", axis, RULES)
        rule = () if axis is None or RULES[axis] is None else RULES[axis]
        names = tuple(n for n in ((rule,) if isinstance(rule, str) else rule) if mesh.shape[n] > 1)
        ways = math.prod(mesh.shape[n] for n in names)
        if size % ways:
            _log_once(f"{name or axes}: {axis} of size {size} is not divisible by {'x'.join(names)} = {ways}; kept whole on every device")
            names = ()
        used += names
        entries.append(names[0] if len(names) == 1 else names or None)
    if len(used) != len(set(used)):
        raise ValueError(f"{name} {tuple(axes)} -> {entries}: a mesh axis is used twice")
    return PartitionSpec(*entries)


def _param_spec(names: list[str], shape: tuple[int, ...], mesh: Mesh) -> PartitionSpec:
    start = next((i for i, name in enumerate(names) if name in TOWERS), None)
    name = ".".join(names if start is None else names[start:])
    if start is None and not shape:
        return PartitionSpec()
    hits = [axes for pattern, axes in AXES.items() if re.fullmatch(pattern, name)]
    if len(hits) != 1 or len(hits[0]) != len(shape):
        raise ValueError(f"parameter {name!r} of shape {shape}: expected one row of AXES with its rank, found {hits}")
    return spec(hits[0], shape, mesh, name)


def path_names(path: tuple) -> list[str]:
    """Path entries as text, without the `value` that an `nnx.Param` adds."""
    names = [str(next(getattr(p, a) for a in ("key", "name", "idx") if hasattr(p, a))) for p in path]
    return names[:-1] if names[-1:] == ["value"] else names


_logged: set[str] = set()


def _log_once(message: str) -> None:
    if message not in _logged:
        _logged.add(message)
        log.info(message)
