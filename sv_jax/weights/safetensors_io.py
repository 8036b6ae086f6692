"""safetensors in and out, one tensor at a time: nothing is in memory before it is asked for, nothing is half-written.

A file is an 8-byte header length, a JSON header {name: {dtype, shape, data_offsets}} and the raw buffers; a folder holds one
`model.safetensors`, or shards named by `model.safetensors.index.json`. https://huggingface.co/docs/safetensors
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

import ml_dtypes
import numpy as np

from sv_jax.errors import UserError
from sv_jax.files import replacing, write_json
from sv_jax.weights.folders import INDEX, SINGLE, read_json

DTYPES = {
    "F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": ml_dtypes.bfloat16, "I64": np.int64, "I32": np.int32, "I16": np.int16,
    "I8": np.int8, "U8": np.uint8, "BOOL": np.bool_,
}  # fmt: skip
DTYPES = {name: np.dtype(dtype) for name, dtype in DTYPES.items()}
DTYPE_NAMES = {dtype: name for name, dtype in DTYPES.items()}


class Tensor(NamedTuple):
    """A tensor that is made when it is asked for: read from a file, or cut out of a model."""

    shape: tuple[int, ...]
    dtype: np.dtype
    read: Callable[[], np.ndarray]
    file: str = ""  # where it lies, for messages

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


def open_folder(folder: str | Path) -> dict[str, Tensor]:
    """The tensors of a model folder by name. `UserError` names the file that is absent, cut short or not safetensors."""
    folder = Path(folder)
    if (folder / SINGLE).is_file():
        return open_file(folder / SINGLE)
    if not (folder / INDEX).is_file():
        raise UserError(f"{folder}: found neither {SINGLE} nor {INDEX}; weights must be safetensors")
    weight_map = read_json(folder / INDEX).get("weight_map")
    if not isinstance(weight_map, dict):
        raise UserError(f"{folder / INDEX}: expected an object 'weight_map' of tensor names to file names")
    found = {}
    for shard in sorted(set(weight_map.values()), key=str):
        if not isinstance(shard, str) or Path(shard).name != shard or shard == "..":
            raise UserError(f"{folder / INDEX}: shard {shard!r} must be a plain file name in the same folder")
        if not (folder / shard).is_file():
            raise UserError(f"{folder / INDEX}: names the file {shard!r}, which is not in the folder")
        inside = open_file(folder / shard)
        named = {name for name, file in weight_map.items() if file == shard}
        if odd := sorted(named ^ set(inside)):
            where = f"is named by {INDEX} but is not in" if odd[0] in named else f"is not named by {INDEX} but is in"
            raise UserError(f"{folder / shard}: tensor {odd[0]!r} {where} this file")
        found |= inside
    return found


def open_file(path: str | Path) -> dict[str, Tensor]:
    """The tensors of one file, read lazily. Every offset is checked against the file's length here, so that a read cannot fail later."""
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    size = path.stat().st_size
    with open(path, "rb") as f:
        start = 8 + int.from_bytes(f.read(8), "little")
        if size < 8 or start > size:
            raise UserError(f"{path}: truncated or not safetensors: the header ends at byte {start}, the file at {size}")
        try:
            header = json.loads(f.read(start - 8))
            header.pop("__metadata__", None)
            return {name: _entry(path, name, item, start, size) for name, item in header.items()}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            if isinstance(error, UserError):
                raise
            raise UserError(f"{path}: not safetensors: its header is no table of tensors ({error})") from error


def _entry(path: Path, name: str, item: dict, start: int, size: int) -> Tensor:
    if item["dtype"] not in DTYPES:
        raise UserError(f"{path}: tensor {name!r} has dtype {item['dtype']}; expected one of {', '.join(DTYPES)}")
    dtype, shape, (begin, end) = DTYPES[item["dtype"]], tuple(item["shape"]), item["data_offsets"]
    if start + end > size:
        raise UserError(f"{path}: truncated: tensor {name!r} ends at byte {start + end}, the file at {size}")
    if begin < 0 or end - begin != math.prod(shape) * dtype.itemsize:
        raise UserError(f"{path}: tensor {name!r} of shape {list(shape)} and dtype {item['dtype']} cannot hold {end - begin} bytes")
    return Tensor(shape, dtype, partial(_read, path, start + begin, shape, dtype), str(path))


def _read(path: Path, offset: int, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    out = np.empty(shape, dtype)
    with open(path, "rb") as f:
        f.seek(offset)
        if f.readinto(out.reshape(-1).view(np.uint8)) != out.nbytes:
            raise UserError(f"{path}: truncated while it was being read")
    return out


def write_folder(folder: str | Path, tensors: Mapping[str, Tensor], max_shard_bytes: int = 5 * 10**9) -> None:
    """Write tensors as `model.safetensors`, or as shards of at most `max_shard_bytes` (a larger tensor gets its own) and their index."""
    folder = Path(folder)
    shards: list[list[str]] = [[]]
    size = 0
    for name, tensor in tensors.items():
        if shards[-1] and size + tensor.nbytes > max_shard_bytes:
            shards.append([])
            size = 0
        shards[-1].append(name)
        size += tensor.nbytes
    if len(shards) == 1:
        return write_file(folder / SINGLE, tensors)
    weight_map = {}
    for i, names in enumerate(shards, 1):
        file = f"model-{i:05d}-of-{len(shards):05d}.safetensors"
        write_file(folder / file, {name: tensors[name] for name in names})
        weight_map |= dict.fromkeys(names, file)
    write_json(folder / INDEX, {"metadata": {"total_size": sum(t.nbytes for t in tensors.values())}, "weight_map": weight_map})


def write_file(path: str | Path, tensors: Mapping[str, Tensor]) -> None:
    """Write one safetensors file: the header from the shapes, then each tensor as it is made."""
    header, offset = {"__metadata__": {"format": "pt"}}, 0  # transformers 4.x refuses a file without this format
    for name, t in tensors.items():
        header[name] = {"dtype": DTYPE_NAMES[t.dtype], "shape": list(t.shape), "data_offsets": [offset, offset + t.nbytes]}
        offset += t.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with replacing(path) as f:
        f.write(len(text).to_bytes(8, "little") + text)
        for name, t in tensors.items():
            array = np.asarray(t.read(), order="C")
            if array.shape != t.shape or array.dtype != t.dtype:
                raise AssertionError(f"{name}: announced {t.shape} {t.dtype}, made {array.shape} {array.dtype}")
            f.write(array.reshape(-1).view(np.uint8).data)
