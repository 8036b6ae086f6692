"""Models in and out of Hugging Face folders, leaf by leaf: the weights are never in memory twice."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from sv_jax.errors import UserError, unknown
from sv_jax.files import write_json
from sv_jax.models.dinov3.config import DINOv3Config
from sv_jax.models.spacevista.config import ExpertsConfig, FusionConfig, SpaceVistaConfig
from sv_jax.models.spacevista.model import SpaceVista
from sv_jax.weights.folders import REMOTE_CODE, copy_processor_files, find_folder, new_folder, read_json
from sv_jax.weights.names import UNUSED, Slot, canonical, check, released, slots, to_file, to_leaf
from sv_jax.weights.official import EXPERTS, complete_config, expert_tensors, from_official, official_config, to_official
from sv_jax.weights.safetensors_io import DTYPES, Tensor, open_folder, write_folder

HEAD, EMBEDDING = "lm_head.weight", "model.language_model.embed_tokens.weight"
CARRIED = ("bos_token_id", "eos_token_id", "pad_token_id")  # of config.json: not ours, but `generate` falls back on them
Shardings = Callable[[str, tuple[int, ...]], jax.sharding.Sharding]


def load_model(folder: str | Path, *, dtype=None, shardings: Shardings | None = None) -> SpaceVista:
    """A plain Qwen2.5-VL or a SpaceVista model from its folder (or hub id).

    `dtype` converts every weight (None keeps the stored one); `shardings(path, shape)` says where a leaf lives. One leaf at a time is
    filled on the host and moved. `UserError` when a tensor is unknown, absent or misshapen, or a file is not whole.
    """
    folder = find_folder(folder)
    cfg, model_type = read_config(folder)
    graph, leaves = abstract_model(cfg)
    wanted = slots(cfg, {path: leaf.shape for path, leaf in leaves.items()})
    experts = expert_tensors(folder / EXPERTS, cfg) if (folder / EXPERTS).is_dir() else {}
    found = open_tensors(folder, wanted, model_type, experts)
    sources: dict[str, list[Slot]] = {path: [] for path in leaves}
    for slot in wanted:
        for path in slot.paths:
            sources[path].append(slot)
    dtype = None if dtype is None else as_dtype(dtype)
    state = []
    for path, leaf in leaves.items():
        array = _read_leaf(path, leaf.shape, sources[path], found, dtype)
        if shardings is None:
            array = jax.device_put(array)
        else:
            array = jax.make_array_from_callback(array.shape, shardings(path, array.shape), array.__getitem__)
        state.append((tuple(path.split(".")), leaf.replace(array)))
    return nnx.merge(graph, nnx.from_flat_state(state))


def abstract_model(cfg: SpaceVistaConfig) -> tuple[nnx.GraphDef, dict[str, nnx.Param]]:
    """The structure of a model and its leaves {path: Param of a ShapeDtypeStruct}: no memory, no compilation."""
    graph, state = nnx.split(nnx.eval_shape(lambda: SpaceVista(cfg, nnx.Rngs(0))))
    return graph, _by_path(state)


def read_config(folder: str | Path) -> tuple[SpaceVistaConfig, str]:
    """-> (config, model_type) of a Qwen2.5-VL or SpaceVista folder."""
    file = Path(folder) / "config.json"
    hf = read_json(file)
    model_type = hf.get("model_type")
    if model_type not in ("qwen2_5_vl", "spacevista"):
        raise unknown(f"{file}: model_type", model_type, ("qwen2_5_vl", "spacevista"))
    try:
        return SpaceVistaConfig.from_hf(hf if model_type == "spacevista" else complete_config(hf, open_folder(folder))), model_type
    except (TypeError, KeyError, AttributeError) as error:
        raise UserError(f"{file}: not a {model_type} config: {error}") from error


def open_tensors(
    folder: str | Path, wanted: Iterable[Slot], model_type: str, experts: Mapping[str, Tensor] | None = None
) -> dict[str, Tensor]:
    """The tensors of a folder under the names of the table, after the strict check, and of `experts`, which lay elsewhere. A tied head may
    be stored again, if it is equal."""
    wanted, found = list(wanted), dict(experts or {})
    for name, tensor in from_official(open_folder(folder)).items():
        key = canonical(name, model_type)
        if key in found:
            raise UserError(f"{folder}: tensor {name!r} is there twice, under two spellings of {key!r}")
        if not any(re.fullmatch(pattern, key) for pattern in UNUSED):
            found[key] = tensor
    if HEAD in found and EMBEDDING in found and all(slot.name != HEAD for slot in wanted):
        if not np.array_equal(found.pop(HEAD).read(), found[EMBEDDING].read()):
            raise UserError(f"{folder}: config.json ties the head to the embedding, but {HEAD!r} differs from {EMBEDDING!r}")
    check(found, wanted, str(folder))
    return found


def save_model(model: SpaceVista, folder: str | Path, *, source: str | Path | None = None, dtype=None) -> None:
    """Write a model as a Hugging Face folder: plain Qwen2.5-VL under the released names, anything more as a SpaceVista folder with its
    torch code. Tokenizer, processor and generation files come from the folder `source`. The folder is whole or absent."""
    odd = set(_by_path(nnx.state(model))) ^ set(abstract_model(model.cfg)[1])
    if odd:
        raise AssertionError(f"the model's parameters are not those of its config, which could not be loaded again: {sorted(odd)}")
    with new_folder(folder) as new:
        write_model(new, model.cfg, model_tensors(model, dtype), source)


def write_model(
    folder: Path, cfg: SpaceVistaConfig, tensors: Mapping[str, Tensor], source: str | Path | None, official: bool = False
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
    write_folder(folder, tensors)
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
    qwen: str | Path, dino: str | Path | None, fusion: FusionConfig | None, experts: ExpertsConfig | None, out: str | Path, seed: int = 0
) -> SpaceVistaConfig:
    """Assemble a SpaceVista folder from two Hugging Face folders (or hub ids), tensor by tensor; what neither has is drawn from `seed`, in
    f32. With the output projections of fusion and experts at zero the new model still is the Qwen2.5-VL it came from."""
    qwen = find_folder(qwen)
    cfg, model_type = read_config(qwen)
    if model_type != "qwen2_5_vl":
        raise UserError(f"{qwen / 'config.json'}: model_type {model_type!r}; expected 'qwen2_5_vl' to start from")
    tensors = open_tensors(qwen, _slots_of(cfg), model_type)
    cfg = dataclasses.replace(cfg, experts=experts)
    if dino is not None:
        dino = find_folder(dino)
        cfg = dataclasses.replace(cfg, dino=read_dino_config(dino), fusion=fusion or FusionConfig())
        tensors |= open_tensors(dino, [slot for slot in _slots_of(cfg) if slot.paths[0].startswith("dino.")], "dinov3_vit")
    new = [slot for slot in _slots_of(cfg) if slot.name not in tensors]
    leaves = _initial({path for slot in new for path in slot.paths}, cfg, seed)
    tensors |= {slot.name: leaf_tensor(slot, leaves) for slot in new}
    with new_folder(out) as folder:
        write_model(folder, cfg, tensors, qwen)
    return cfg


def random_dino(cfg: DINOv3Config, out: str | Path, seed: int = 0) -> None:
    """A DINOv3 folder of freshly drawn weights, under the names of the released files: a tower where none can be had."""
    whole = SpaceVistaConfig(dino=cfg, fusion=FusionConfig())
    wanted = [slot for slot in _slots_of(whole) if slot.paths[0].startswith("dino.")]
    leaves = _initial({slot.paths[0] for slot in wanted}, whole, seed)
    tensors = {slot.name.removeprefix("model.dinov3.").removeprefix("model."): leaf_tensor(slot, leaves) for slot in wanted}
    with new_folder(out) as folder:
        write_folder(folder, tensors)
        write_json(folder / "config.json", cfg.to_hf())


def read_dino_config(folder: str | Path) -> DINOv3Config:
    file = Path(folder) / "config.json"
    hf = read_json(file)
    if hf.get("model_type") != "dinov3_vit":
        raise unknown(f"{file}: model_type", hf.get("model_type"), ("dinov3_vit",))
    return DINOv3Config.from_hf(hf)


def as_dtype(dtype) -> np.dtype:
    try:
        return np.dtype(jnp.dtype(dtype))
    except TypeError as error:
        raise unknown("dtype", dtype, [d.name for d in DTYPES.values() if jnp.issubdtype(d, jnp.floating)]) from error


def _by_path(state) -> dict[str, nnx.Param]:
    return {".".join(map(str, path)): leaf for path, leaf in nnx.to_flat_state(state)}


def _slots_of(cfg: SpaceVistaConfig) -> list[Slot]:
    return slots(cfg, {path: leaf.shape for path, leaf in abstract_model(cfg)[1].items()})


def _initial(paths: set[str], cfg: SpaceVistaConfig, seed: int) -> dict[str, jax.Array]:
    """Some leaves of a freshly drawn model; the compiler drops the work for all others."""
    pick = lambda state: {path: leaf.get_value() for path, leaf in _by_path(state).items() if path in paths}  # noqa: E731
    return jax.jit(lambda: pick(nnx.state(SpaceVista(cfg, nnx.Rngs(seed)))))()


def _read_leaf(path: str, shape: tuple[int, ...], sources: list[Slot], found: Mapping[str, Tensor], dtype) -> np.ndarray:
    """One of our leaves, filled layer by layer. Layers stored in different dtypes meet in the wider one."""
    if dtype is None:
        dtype = np.dtype(jnp.result_type(*{found[slot.name].dtype for slot in sources}))
    out = np.empty(shape, dtype)
    for slot in sources:
        out[... if slot.layer is None else slot.layer] = to_leaf(slot, found[slot.name].read(), path)
    return out


def _row(leaf: jax.Array, layer: int | None) -> np.ndarray:
    """One layer of a leaf on the host; not the whole leaf, which JAX would keep there as a second copy."""
    if layer is None:
        return np.asarray(leaf)
    (device, *others) = leaf.devices()
    return np.asarray(leaf)[layer] if device.platform == "cpu" and not others else np.asarray(leaf[layer])
