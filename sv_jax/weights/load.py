"""Models in and out of Hugging Face folders, leaf by leaf: the weights are never in memory twice."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.experimental import multihost_utils

from sv_jax.errors import UserError, unknown
from sv_jax.files import write_json
from sv_jax.models.dinov3.config import DINOv3Config
from sv_jax.models.spacevista.config import ExpertsConfig, FusionConfig, SpaceVistaConfig
from sv_jax.models.spacevista.model import SpaceVista
from sv_jax.weights.adapters import read_adapter_configs, read_adapters
from sv_jax.weights.folders import REMOTE_CODE, copy_processor_files, find_folder, model_folder, read_json
from sv_jax.weights.foreign import refuse_config, refuse_folder, refuse_tensors
from sv_jax.weights.names import UNUSED, Slot, canonical, name_faults, released, slots, to_file
from sv_jax.weights.official import complete_config, expert_tensors, from_official, official_config, table_names, to_official
from sv_jax.weights.safetensors_io import DTYPES, SHARD_BYTES, Tensor, blocks, raise_faults, scan_folder, write_folder
from sv_jax.weights.stream import Shardings, read_leaves

HEAD, EMBEDDING = "lm_head.weight", "model.language_model.embed_tokens.weight"
CARRIED = ("bos_token_id", "eos_token_id", "pad_token_id")  # of config.json: not ours, but `generate` falls back on them


def load_model(folder: str | Path, *, dtype=None, shardings: Shardings | None = None) -> SpaceVista:
    """A plain Qwen2.5-VL or a SpaceVista model from its folder (or hub id).

    `dtype` converts every weight (None keeps the stored one); `shardings(path, shape)` says where a leaf lives. `UserError` names in one
    line every tensor that is unknown, absent, misshapen or not finite, and every file that is not whole.
    """
    folder = find_folder(folder)
    cfg, model_type = read_config(folder)
    graph, leaves = abstract_model(cfg)
    wanted = slots(cfg, {path: leaf.shape for path, leaf in leaves.items()})
    found = open_tensors(folder, wanted, model_type, expert_tensors(folder, cfg, wanted))
    dtype = None if dtype is None else as_dtype(dtype)
    arrays = read_leaves({path: leaf.shape for path, leaf in leaves.items()}, wanted, found, dtype, shardings, str(folder))
    state = [(tuple(path.split(".")), leaf.replace(arrays.pop(path))) for path, leaf in leaves.items()]
    return nnx.merge(graph, nnx.from_flat_state(state))


def open_model(folder: str | Path) -> tuple[SpaceVistaConfig, dict[str, Tensor]]:
    """-> (config, the tensors of the file under the names of the table and in its order), as strict as `load_model`."""
    cfg, model_type = read_config(folder)
    wanted = slots_of(cfg)
    found = open_tensors(folder, wanted, model_type, expert_tensors(folder, cfg, wanted))
    return cfg, {slot.name: found[slot.name] for slot in wanted}


def abstract_model(cfg: SpaceVistaConfig) -> tuple[nnx.GraphDef, dict[str, nnx.Param]]:
    """The structure of a model and its leaves {path: Param of a ShapeDtypeStruct}: no memory, no compilation."""
    graph, state = nnx.split(nnx.eval_shape(lambda: SpaceVista(cfg, nnx.Rngs(0))))
    return graph, _by_path(state)


def read_config(folder: str | Path) -> tuple[SpaceVistaConfig, str]:
    """-> (config, model_type) of a Qwen2.5-VL or SpaceVista folder."""
    hf = _read_hf_config(folder, ("qwen2_5_vl", "spacevista"))
    try:
        if hf["model_type"] == "qwen2_5_vl":
            hf = complete_config(hf, scan_folder(folder).tensors)
        return SpaceVistaConfig.from_hf(hf), hf["model_type"]
    except (TypeError, KeyError, IndexError, AttributeError, ZeroDivisionError) as error:
        raise UserError(f"{Path(folder) / 'config.json'}: not a {hf['model_type']} config: {error}") from error


def read_dino_config(folder: str | Path) -> DINOv3Config:
    return DINOv3Config.from_hf(_read_hf_config(folder, ("dinov3_vit",)))


def _read_hf_config(folder: str | Path, known: tuple[str, ...]) -> dict:
    refuse_folder(folder)
    file = Path(folder) / "config.json"
    hf = read_json(file)
    refuse_config(file, hf, known)
    return hf


def open_tensors(
    folder: str | Path, wanted: Iterable[Slot], model_type: str, experts: Mapping[str, Tensor] | None = None
) -> dict[str, Tensor]:
    """The tensors of a folder under the names of the table. `UserError` names all that is wrong with its files and names, in one line."""
    found, faults = survey(folder, wanted, model_type, experts)
    raise_faults(faults, folder)
    return found


def survey(
    folder: str | Path, wanted: Iterable[Slot], model_type: str, experts: Mapping[str, Tensor] | None = None
) -> tuple[dict[str, Tensor], list[str]]:
    """-> (tensors under the names of the table, everything that is wrong); `experts` are some that lie elsewhere. A tied head may be stored
    again, if it is equal."""
    scan = scan_folder(folder)
    refuse_tensors(folder, [*scan.tensors, *scan.lost])
    wanted, found, faults = list(wanted), dict(experts or {}), list(scan.faults)
    for stored, whole in scan.tensors.items():
        for name, tensor in from_official(stored, whole).items():
            key = canonical(name, model_type)
            if key in found:
                faults.append(f"tensor {stored!r} is there twice, under two spellings of {key!r}")
            if not any(re.fullmatch(pattern, key) for pattern in UNUSED):
                found[key] = tensor
    if HEAD in found and EMBEDDING in found and all(slot.name != HEAD for slot in wanted):
        if not same_values(found.pop(HEAD), found[EMBEDDING]):
            faults.append(f"config.json ties the head to the embedding, but {HEAD!r} differs from {EMBEDDING!r}")
    lost = {canonical(name, model_type) for stored in scan.lost for name in table_names(stored) if name}
    return found, faults + name_faults(found, wanted, lost)


def same_values(a: Tensor, b: Tensor) -> bool:
    return (a.shape, a.dtype) == (b.shape, b.dtype) and all(map(np.array_equal, blocks(a), blocks(b)))


def save_model(model: SpaceVista, folder: str | Path, *, source: str | Path | None = None, dtype=None) -> None:
    """Write a model as a Hugging Face folder: plain Qwen2.5-VL under the released names, anything more as a SpaceVista folder with its
    torch code. Tokenizer, processor and generation files come from the folder `source`. The folder is whole or absent."""
    odd = set(_by_path(nnx.state(model))) ^ set(abstract_model(model.cfg)[1])
    if odd:
        raise AssertionError(f"the model's parameters are not those of its config, which could not be loaded again: {sorted(odd)}")
    tensors = model_tensors(model, dtype)
    if jax.process_index() == 0:
        with model_folder(folder) as new:
            write_model(new, model.cfg, tensors, source)
    else:  # takes part in gathering each tensor
        for tensor in tensors.values():
            tensor.read()
    multihost_utils.sync_global_devices("model saved")


def write_model(
    folder: Path,
    cfg: SpaceVistaConfig,
    tensors: Mapping[str, Tensor],
    source: str | Path | None,
    max_shard_bytes: int = SHARD_BYTES,
    official: bool = False,
) -> None:
    """Fill an empty folder with a model whose tensors (under the names of the table) are made one by one as they are written. `official`
    names them as the released code does, without experts."""
    config = cfg.to_hf() | {"torch_dtype": next(iter(tensors.values())).dtype.name}
    if source is not None:
        hf = read_json(Path(source) / "config.json")
        config |= {k: v for k, v in (hf.get("text_config", {}) | hf).items() if k in CARRIED}
        copy_processor_files(source, folder)
    if official:
        config, tensors = official_config(config, cfg), to_official(tensors, cfg)
    elif config["model_type"] == "spacevista":
        (folder / REMOTE_CODE).write_bytes((Path(__file__).parent / "remote" / REMOTE_CODE).read_bytes())
    else:
        tensors = {released(name): tensor for name, tensor in tensors.items()}
    write_folder(folder, tensors, max_shard_bytes)
    write_json(folder / "config.json", config)


def model_tensors(model: SpaceVista, dtype=None) -> dict[str, Tensor]:
    """The tensors of a model's file under the names of the table, each cut out of its leaf when it is asked for."""
    leaves = {path: leaf.get_value() for path, leaf in _by_path(nnx.state(model)).items()}
    wanted = slots(model.cfg, {path: leaf.shape for path, leaf in leaves.items()})
    return {slot.name: leaf_tensor(slot, leaves, dtype) for slot in wanted}


def leaf_tensor(slot: Slot, leaves: Mapping[str, jax.Array], dtype=None) -> Tensor:
    dtype = np.dtype(leaves[slot.paths[0]].dtype) if dtype is None else as_dtype(dtype)
    read = lambda: to_file(slot, [_row(leaves[path], slot.layer) for path in slot.paths]).astype(dtype)  # noqa: E731
    return Tensor(slot.shape, dtype, read)


def init_model(
    qwen: str | Path,
    dino: str | Path | None,
    fusion: FusionConfig | None,
    experts: ExpertsConfig | None,
    out: str | Path,
    seed: int = 0,
    adapters: Sequence[str | Path] = (),
) -> SpaceVistaConfig:
    """Assemble a SpaceVista folder from two Hugging Face folders (or hub ids), tensor by tensor; what neither has is drawn from `seed`, in
    f32. With the output projections of fusion and experts at zero the new model still is the Qwen2.5-VL it came from. `adapters`: PEFT's
    LoRA folders, which become the experts in this order."""
    qwen, adapters = find_folder(qwen), [find_folder(adapter) for adapter in adapters]
    cfg, model_type = read_config(qwen)
    if model_type != "qwen2_5_vl" or cfg.dino or cfg.experts:
        kind = f"model_type {model_type!r}" if model_type != "qwen2_5_vl" else "DINOv3 or experts beside Qwen2.5-VL"
        raise UserError(f"{qwen / 'config.json'}: {kind}; expected a plain 'qwen2_5_vl' to start from")
    tensors = open_tensors(qwen, slots_of(cfg), model_type)
    experts = read_adapter_configs(adapters, experts or ExpertsConfig()) if adapters else experts
    cfg = dataclasses.replace(cfg, experts=experts)
    if dino is not None:
        dino = find_folder(dino)
        cfg = dataclasses.replace(cfg, dino=read_dino_config(dino), fusion=fusion or FusionConfig())
        tensors |= open_tensors(dino, [slot for slot in slots_of(cfg) if slot.paths[0].startswith("dino.")], "dinov3_vit")
    if adapters:
        tensors |= read_adapters(adapters, slots_of(cfg))
    new = [slot for slot in slots_of(cfg) if slot.name not in tensors]
    leaves = _initial({path for slot in new for path in slot.paths}, cfg, seed)
    tensors |= {slot.name: leaf_tensor(slot, leaves) for slot in new}
    with model_folder(out) as folder:
        write_model(folder, cfg, tensors, qwen)
    return cfg


def random_dino(cfg: DINOv3Config, out: str | Path, seed: int = 0) -> None:
    """A DINOv3 folder of freshly drawn weights, under the names of the released files: a tower where none can be had."""
    whole = SpaceVistaConfig(dino=cfg, fusion=FusionConfig())
    wanted = [slot for slot in slots_of(whole) if slot.paths[0].startswith("dino.")]
    leaves = _initial({slot.paths[0] for slot in wanted}, whole, seed)
    tensors = {slot.name.removeprefix("model.dinov3.").removeprefix("model."): leaf_tensor(slot, leaves) for slot in wanted}
    with model_folder(out) as folder:
        write_folder(folder, tensors)
        write_json(folder / "config.json", cfg.to_hf())


def as_dtype(dtype) -> np.dtype:
    try:
        return np.dtype(jnp.dtype(dtype))
    except TypeError as error:
        raise unknown("dtype", dtype, [d.name for d in DTYPES.values() if jnp.issubdtype(d, jnp.floating)]) from error


def _by_path(state) -> dict[str, nnx.Param]:
    return {".".join(map(str, path)): leaf for path, leaf in nnx.to_flat_state(state)}


def slots_of(cfg: SpaceVistaConfig) -> list[Slot]:
    return slots(cfg, {path: leaf.shape for path, leaf in abstract_model(cfg)[1].items()})


def _initial(paths: set[str], cfg: SpaceVistaConfig, seed: int) -> dict[str, jax.Array]:
    """Some leaves of a freshly drawn model; the compiler drops the work for all others."""
    pick = lambda state: {path: leaf.get_value() for path, leaf in _by_path(state).items() if path in paths}  # noqa: E731
    return jax.jit(lambda: pick(nnx.state(SpaceVista(cfg, nnx.Rngs(seed)))))()


def _row(leaf: jax.Array, layer: int | None) -> np.ndarray:
    """One layer of a leaf on the host, from the devices of all processes; not the whole leaf, which JAX would keep as a second copy."""
    (device, *others) = leaf.sharding.device_set
    if device.platform == "cpu" and not others:
        return np.asarray(leaf) if layer is None else np.asarray(leaf)[layer]
    leaf = leaf.copy() if layer is None else leaf[layer]
    return np.asarray(leaf if leaf.is_fully_addressable else multihost_utils.process_allgather(leaf, tiled=True))
