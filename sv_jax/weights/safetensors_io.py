"""safetensors in and out, one tensor at a time: nothing is in memory before it is asked for, nothing is half-written.

A file is an 8-byte header length, a JSON header {name: {dtype, shape, data_offsets}} and the raw buffers; a folder holds one
`model.safetensors`, or shards named by `model.safetensors.index.json`. https://huggingface.co/docs/safetensors
"""

from __future__ import annotations

import json
import math
import operator
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import BinaryIO, NamedTuple

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
SHOWN = 8  # faults in one line
SHARD_BYTES = 5 * 10**9
BLOCK = 8 << 20  # bytes read at a time where a tensor need not be whole
DTYPE_NAMES = {dtype: name for name, dtype in DTYPES.items()}


class Tensor(NamedTuple):
    """A tensor that is made when it is asked for: read from a file, or cut out of a model."""

    shape: tuple[int, ...]
    dtype: np.dtype
    read: Callable[[], np.ndarray]
    file: str = ""  # where it lies, and at which byte
    offset: int | None = None

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


class Scan(NamedTuple):
    """What the headers of files say. `lost` are tensors that a fault accounts for: nobody need report them missing as well."""

    tensors: dict[str, Tensor]
    faults: list[str]
    lost: set[str]


def open_folder(folder: str | Path) -> dict[str, Tensor]:
    """The tensors of a model folder by name. `UserError` names every file that is absent, cut short or not safetensors."""
    scan = scan_folder(folder)
    raise_faults(scan.faults, folder)
    return scan.tensors


def open_file(path: str | Path) -> dict[str, Tensor]:
    """The tensors of one file, read lazily. Every offset is checked against the file's length here, so that a read cannot fail later."""
    scan = scan_file(path)
    raise_faults(scan.faults, path)
    return scan.tensors


def raise_faults(faults: Sequence[str], where: str | Path) -> None:
    """All faults, or as many as a line bears, in one `UserError`."""
    if faults:
        more = f"; and {len(faults) - SHOWN} more" if len(faults) > SHOWN else ""
        raise UserError(f"{where}: {'; '.join(faults[:SHOWN])}{more}")


def scan_folder(folder: str | Path) -> Scan:
    """The tensors of a model folder and all faults of its index and files. `UserError` when nothing can be said of its tensors."""
    folder = Path(folder)
    if (folder / SINGLE).is_file():
        scan = scan_file(folder / SINGLE)
        faults = [f"{SINGLE}: {fault}" for fault in scan.faults]
        if not scan.tensors:
            raise_faults(faults, folder)
        return scan._replace(faults=faults)
    if not (folder / INDEX).is_file():
        raise UserError(f"{folder}: found neither {SINGLE} nor {INDEX}; weights must be safetensors")
    weight_map = read_json(folder / INDEX).get("weight_map")
    if not isinstance(weight_map, dict):
        raise UserError(f"{folder / INDEX}: expected an object 'weight_map' of tensor names to file names")
    out = Scan({}, [], set())
    for shard in sorted(set(map(str, weight_map.values()))):
        named = {name for name, file in weight_map.items() if str(file) == shard}
        if shard not in weight_map.values() or Path(shard).name != shard or shard == "..":
            out.faults.append(f"{INDEX}: shard {shard!r} must be a plain file name in the same folder")
        elif not (folder / shard).is_file():
            out.faults.append(f"{INDEX}: names the file {shard!r}, which is not in the folder")
        else:
            inside = scan_file(folder / shard)
            out.faults.extend(f"{shard}: {fault}" for fault in inside.faults)
            out.faults.extend(f"{shard}: {fault}" for fault in _against_index(inside, named, weight_map))
            out.tensors.update({name: tensor for name, tensor in inside.tensors.items() if name in named})
        out.lost.update(named - out.tensors.keys())
    return out


def _against_index(inside: Scan, named: set[str], weight_map: Mapping[str, object]) -> Iterator[str]:
    known = inside.tensors.keys() | inside.lost
    for name in sorted(named - known) if known else ():
        yield f"tensor {name!r} is named by {INDEX} but is not in this file"
    for name in sorted(known - named):
        elsewhere = f"in this file and, by {INDEX}, in {str(weight_map.get(name))!r}: stored twice"
        yield f"tensor {name!r} is {elsewhere if name in weight_map else f'not named by {INDEX} but is in this file'}"


def scan_file(path: str | Path) -> Scan:
    """The tensors of one file, read lazily, and all faults of its header; no tensors at all when there is no header."""
    path, faults = Path(path), []
    if not path.is_file():
        return Scan({}, ["no such file"], set())

    def unique(pairs: list[tuple[str, object]]) -> dict:
        faults.extend(f"{name!r} is there twice in the header" for name, n in Counter(name for name, _ in pairs).items() if n > 1)
        return dict(pairs)

    size = path.stat().st_size
    with open(path, "rb") as f:
        start = 8 + int.from_bytes(f.read(8), "little")
        if size < 8 or start > size:
            return Scan({}, [f"truncated or not safetensors: the header ends at byte {start}, the file at {size}"], set())
        try:
            header = json.loads(f.read(start - 8), object_pairs_hook=unique)
            header.pop("__metadata__", None)
            tensors, wrong = _entries(path, header, start, size)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            return Scan({}, [f"not safetensors: the header is no table of tensors ({error})"], set())
    return Scan(tensors, faults + wrong, header.keys() - tensors.keys())


def _entries(path: Path, header: dict, start: int, size: int) -> tuple[dict[str, Tensor], list[str]]:
    """-> (tensors, faults); faults of one kind become one."""
    tensors, odd = {}, {}
    for name, item in header.items():
        dtype, shape = DTYPES.get(item["dtype"]), tuple(map(operator.index, item["shape"]))
        begin, end = map(operator.index, item["data_offsets"])
        if dtype is None:
            odd.setdefault("", []).append(f"tensor {name!r} has dtype {item['dtype']}; expected one of {', '.join(DTYPES)}")
        elif start + end > size:
            odd.setdefault("truncated: ", []).append(f"tensor {name!r} ends at byte {start + end}, the file at {size}")
        elif begin < 0 or end - begin != math.prod(shape) * dtype.itemsize:
            odd[f"tensor {name!r} "] = [f"of shape {list(shape)} and dtype {item['dtype']} cannot hold {end - begin} bytes"]
        else:
            tensors[name] = Tensor(shape, dtype, partial(_read, path, start + begin, shape, dtype), str(path), start + begin)
    like = {kind: f" (and {len(cases) - 1} more like it)" if len(cases) > 1 else "" for kind, cases in odd.items()}
    return tensors, [kind + cases[0] + like[kind] for kind, cases in odd.items()]


def _read(path: Path, offset: int, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    out = np.empty(shape, dtype)
    with open(path, "rb") as f:
        _fill(f, offset, out)
    return out


def _fill(f: BinaryIO, offset: int, out: np.ndarray) -> None:
    f.seek(offset)
    if f.readinto(out.reshape(-1).view(np.uint8)) != out.nbytes:
        raise UserError(f"{f.name}: truncated while it was being read")


def read_part(tensor: Tensor, width: int, rows: slice, columns: slice) -> np.ndarray:
    """Rows and columns (with both ends given) of a tensor seen as [-1, width]; of a file only these bytes are read."""
    if tensor.offset is None:
        return tensor.read().reshape(-1, width)[rows, columns]
    out = np.empty((rows.stop - rows.start, columns.stop - columns.start), tensor.dtype)
    size = tensor.dtype.itemsize
    with open(tensor.file, "rb", buffering=0) as f:
        if out.shape[1] == width:
            _fill(f, tensor.offset + rows.start * width * size, out)
        else:
            for i, row in enumerate(out, rows.start):
                _fill(f, tensor.offset + (i * width + columns.start) * size, row)
    return out


def blocks(tensor: Tensor) -> Iterator[np.ndarray]:
    """The values of a tensor in order, a few megabytes at a time."""
    size, step = math.prod(tensor.shape), BLOCK // tensor.dtype.itemsize
    for start in range(0, size, step):
        yield read_part(tensor, 1, slice(start, min(start + step, size)), slice(0, 1))


def is_finite(values: np.ndarray) -> bool:
    """Neither NaN nor infinity, which have every bit of the exponent set: several times faster for bf16 than `np.isfinite`."""
    bits = values.reshape(-1).view(f"u{values.dtype.itemsize}")
    infinity = np.array(np.inf, values.dtype).view(bits.dtype)
    magnitude = bits.dtype.type(np.iinfo(bits.dtype).max >> 1)
    step = 1 << 16  # stays in the cache
    return all((bits[i : i + step] & magnitude).max() < infinity for i in range(0, bits.size, step))


def all_finite(tensor: Tensor) -> bool:
    """Reads the whole tensor; integers are always finite."""
    return tensor.dtype.kind in "iub" or all(map(is_finite, blocks(tensor)))


def not_finite(name: str, file: str) -> str:
    return f"tensor {name!r} in {file} holds NaN or infinite values"


def cast(tensor: Tensor, dtype: np.dtype | None) -> Tensor:
    """The tensor in another dtype; None leaves it as it is."""
    if dtype in (None, tensor.dtype):
        return tensor
    return Tensor(tensor.shape, dtype, lambda: tensor.read().astype(dtype), tensor.file)


def num_bytes(size: int | str) -> int:
    """`"5GB"` -> 5 · 10^9, `"5GiB"` -> 5 · 2^30, as transformers reads `max_shard_size`."""
    match = re.fullmatch(r"(\d+) *([KMGT]?)(i?)B?", str(size), re.IGNORECASE)
    if not match or int(match[1]) == 0:
        raise UserError(f"max_shard_size {size!r}: expected a number of bytes, or one with a unit such as 5GB or 500MB")
    return int(match[1]) * (1024 if match[3] else 1000) ** " KMGT".index(match[2].upper() or " ")


def write_folder(folder: str | Path, tensors: Mapping[str, Tensor], max_shard_bytes: int = SHARD_BYTES) -> None:
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
            if array.dtype.kind not in "iub" and not is_finite(array):
                raise UserError(not_finite(name, t.file or str(path)))
            f.write(array.reshape(-1).view(np.uint8).data)
