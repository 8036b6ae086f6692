"""Training state on disk: an Orbax checkpoint per saved step, the last few kept, restored bit for bit.

    runs/NAME/checkpoints/STEP/    the arrays by path ("trainable.text.layers…", "opt_state.1.0.mu…") and a JSON record beside them

Orbax commits a checkpoint as its last act, so a run killed while it saves resumes from the one before. The frozen weights are not copied:
the record names their folder and the hash of its content.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax

from sv_jax.config import config_hash, to_plain
from sv_jax.errors import UserError, unknown
from sv_jax.mesh import path_names


class Checkpoints:
    """The checkpoints of one run, at most `keep` of them (None: only read). Steps only grow; one that is there already is kept as it is.

    `config` (a dataclass or plain values) and `frozen` (see `folder_id`) are saved with every step and must be equal on resuming."""

    def __init__(self, folder: str | Path, config: Any, *, keep: int | None = 3, frozen: dict | None = None):
        self.folder = Path(folder).absolute()
        self.keep = keep
        self._run = {"config": to_plain(config), "config_hash": config_hash(config), "frozen": frozen}

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(self, *_) -> None:
        if "_orbax" in self.__dict__:
            self._orbax.close()

    @functools.cached_property
    def _orbax(self):
        from orbax.checkpoint import v1 as ocp  # only training needs it

        policy = None if self.keep is None else ocp.training.preservation_policies.LatestN(self.keep)
        return ocp.training.Checkpointer(self.folder, preservation_policy=policy, cleanup_tmp_directories=self.keep is not None)

    @property
    def steps(self) -> list[int]:
        """Steps that can be restored, oldest first."""
        return sorted(checkpoint.step for checkpoint in self._orbax.checkpoints) if self.folder.is_dir() else []

    def save(self, step: int, state: Any, record: dict | None = None) -> None:
        """Write a pytree of arrays and a record of JSON values (place in the data, seed, phase); returns when both are on disk."""
        if step not in self.steps:
            self._orbax.save(step, _by_name(state), force=True, custom_metadata={"run": self._run, "record": record or {}})

    def restore(self, template: Any, step: int | None = None) -> tuple[Any, dict]:
        """-> (state, record) of `step` or of the latest one.

        `template` is a pytree of arrays or shapes with the structure, dtypes and shardings wanted. Raises UserError when there is nothing
        to resume from, when the run was made with another config or other frozen weights, or when its arrays are not the template's."""
        if not self.steps:
            raise UserError(f"resume: {self.folder} holds no checkpoint; expected one that training has saved (start without --resume)")
        step = self.steps[-1] if step is None else step
        if step not in self.steps:
            raise unknown("checkpoint step", step, map(str, self.steps))
        saved = self._orbax.metadata(step)
        _check_run(saved.custom_metadata["run"], self._run)
        want = {name: _abstract(leaf) for name, leaf in _by_name(template).items()}
        _check_arrays({name: leaf.shape for name, leaf in saved.metadata.items()}, {name: leaf.shape for name, leaf in want.items()})
        arrays = self._orbax.load(step, want)
        return jax.tree.unflatten(jax.tree.structure(template), [arrays[name] for name in want]), saved.custom_metadata["record"]


def folder_id(folder: str | Path) -> dict:
    """{"folder", "hash"} of a model folder: the hash is of the names and contents of its config and weights."""
    digest, folder = hashlib.sha256(), Path(folder)
    for file in sorted([*folder.rglob("*.safetensors"), folder / "config.json"]):
        digest.update(str(file.relative_to(folder)).encode())
        with file.open("rb") as f:
            digest.update(hashlib.file_digest(f, "sha256").digest())
    return {"folder": str(folder), "hash": digest.hexdigest()[:16]}


def _by_name(tree: Any) -> dict[str, Any]:
    """Leaves by dotted path, in the tree's order: names outlive changes of the classes around them."""
    return {".".join(path_names(path)): leaf for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]}


def _abstract(leaf: Any) -> jax.ShapeDtypeStruct:
    sharding = getattr(leaf, "sharding", None) or jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)


def _check_run(saved: dict, now: dict) -> None:
    old, new = dict(_flat(saved["config"])), dict(_flat(now["config"]))
    changed = [f"{key} {old.get(key)!r} -> {new.get(key)!r}" for key in sorted(old.keys() | new.keys()) if old.get(key) != new.get(key)]
    if changed:
        raise UserError(f"resume: the config is not the one that the run was started with: {'; '.join(changed)}")
    if saved["frozen"] != now["frozen"]:
        raise UserError(f"resume: the run was trained on the frozen weights {saved['frozen']}, found {now['frozen']}")


def _flat(plain: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(plain, dict) and plain:
        for key, item in plain.items():
            yield from _flat(item, f"{path}.{key}" if path else key)
    else:
        yield path, plain


def _check_arrays(saved: dict[str, tuple], want: dict[str, tuple]) -> None:
    for name in sorted(saved.keys() | want.keys()):
        if name not in saved or name not in want:
            raise UserError(f"resume: {name!r} is {'in the checkpoint only' if name in saved else 'not in the checkpoint'}")
        if tuple(saved[name]) != tuple(want[name]):
            raise UserError(f"resume: {name!r} has shape {tuple(saved[name])} in the checkpoint, expected {tuple(want[name])}")
