"""What is in a model folder: every tensor with the parameter that it becomes, totals, and everything that is wrong."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from sv_jax.models.spacevista.config import FusionConfig, SpaceVistaConfig
from sv_jax.weights.folders import find_folder, read_json
from sv_jax.weights.load import read_config, read_dino_config, slots_of, survey
from sv_jax.weights.names import Slot, canonical
from sv_jax.weights.official import expert_tensors, table_names
from sv_jax.weights.safetensors_io import DTYPE_NAMES, Tensor, all_finite, not_finite, scan_folder


class Entry(NamedTuple):
    """One tensor of a file, and the parameters (`path[layer]`) that hold its values as arrays of `shape_here`."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    bytes: int
    file: str
    parameters: tuple[str, ...] = ()  # none: not read
    shape_here: tuple[int, ...] = ()


class Inspection(NamedTuple):
    folder: str
    kind: str
    entries: list[Entry]
    faults: list[str]


def inspect_weights(name: str | Path, values: bool = True) -> Inspection:
    """Survey a Qwen2.5-VL, SpaceVista or DINOv3 folder (or hub id). `values`: read them, to find NaN and infinity. `UserError` only where
    nothing can be listed."""
    folder = find_folder(name)
    kind, model_type, wanted, experts = _expected(folder)
    tensors = scan_folder(folder).tensors | experts
    _, faults = survey(folder, wanted, model_type, experts)
    slots = {slot.name: slot for slot in wanted}
    keys = {name: [canonical(key, model_type) for key in table_names(name) if key] for name in tensors}
    entries = [_entry(name, tensor, [slots[key] for key in keys[name] if key in slots]) for name, tensor in tensors.items()]
    if values:
        with ThreadPoolExecutor(4) as pool:
            good = pool.map(all_finite, tensors.values())
            faults += [not_finite(name, tensor.file) for (name, tensor), ok in zip(tensors.items(), good, strict=True) if not ok]
    return Inspection(str(folder), kind, entries, faults)


def _expected(folder: Path) -> tuple[str, str, list[Slot], dict[str, Tensor]]:
    """-> (what the config describes, model_type, the tensors that it asks for, those of experts in folders of their own)."""
    if (folder / "config.json").is_file() and read_json(folder / "config.json").get("model_type") == "dinov3_vit":
        cfg = SpaceVistaConfig(dino=read_dino_config(folder), fusion=FusionConfig())
        return "DINOv3", "dinov3_vit", [slot for slot in slots_of(cfg) if slot.paths[0].startswith("dino.")], {}
    cfg, model_type = read_config(folder)
    kind = "Qwen2.5-VL" + (" with DINOv3 and fusion" if cfg.dino else "")
    kind += f", {cfg.experts.num_experts} experts of rank {cfg.experts.rank}, router {cfg.experts.router!r}" if cfg.experts else ""
    wanted = slots_of(cfg)
    return kind, model_type, wanted, expert_tensors(folder, cfg, wanted)


def _entry(name: str, tensor: Tensor, slots: list[Slot]) -> Entry:
    entry = Entry(name, DTYPE_NAMES[tensor.dtype], tensor.shape, tensor.nbytes, Path(tensor.file).name)
    if not slots:
        return entry
    paths = tuple(path if slot.layer is None else f"{path}[{slot.layer}]" for slot in slots for path in slot.paths)
    slot = slots[0]  # parts of one tensor have one shape
    part = (slot.folded[0] // len(slot.paths), *slot.folded[1:])
    return entry._replace(parameters=paths, shape_here=tuple(part[axis] for axis in slot.axes))


def totals(entries: list[Entry]) -> dict:
    """Sums over a folder: numbers of tensors, files, values and bytes; values by part of the model and by dtype."""
    by_part, by_dtype = Counter(), Counter()
    for entry in entries:
        by_part[_part(entry)] += math.prod(entry.shape)
        by_dtype[entry.dtype] += math.prod(entry.shape)
    return {
        "tensors": len(entries), "files": len({entry.file for entry in entries}), "parameters": by_dtype.total(),
        "bytes": sum(entry.bytes for entry in entries), "by_part": dict(by_part), "by_dtype": dict(by_dtype),
    }  # fmt: skip


def _part(entry: Entry) -> str:
    """Of the model: experts and router lie inside the text model, and are counted for themselves."""
    path = (entry.parameters or ("not read",))[0]
    return next((part for mark, part in ((".lora_", "experts"), (".router.", "router")) if mark in path), path.split(".")[0])


def as_json(found: Inspection) -> dict:
    entries = [entry._asdict() for entry in found.entries]
    return {"folder": found.folder, "kind": found.kind, "tensors": entries, "totals": totals(found.entries), "faults": found.faults}


def as_text(found: Inspection) -> Iterator[str]:
    """One line a tensor, then the totals, then the faults."""
    yield f"{found.folder}: {found.kind}"
    rows = [(e.name, e.dtype, str(list(e.shape)), size(e.bytes)) for e in found.entries]
    widths = [max((len(row[i]) for row in rows), default=0) for i in range(4)]
    for entry, (name, dtype, shape, nbytes) in zip(found.entries, rows, strict=True):
        here = f"{' + '.join(entry.parameters)} {list(entry.shape_here)}" if entry.parameters else "not read"
        yield f"{name:{widths[0]}}  {dtype:{widths[1]}}  {shape:{widths[2]}}  {nbytes:>{widths[3]}}  -> {here}"
    total = totals(found.entries)
    yield f"{total['tensors']} tensors, {total['parameters']:,} parameters, {size(total['bytes'])} in {total['files']} file(s)"
    for key in ("by_part", "by_dtype"):
        yield "  " + ", ".join(f"{name} {count:,}" for name, count in total[key].items())
    yield from (f"fault: {fault}" for fault in found.faults)


def size(nbytes: int) -> str:
    """`1234567` -> `1.2 MB`, in powers of ten as disks and the hub count."""
    unit, name = next(((u, n) for u, n in ((10**9, "GB"), (10**6, "MB"), (10**3, "kB")) if nbytes >= u), (1, "B"))
    return f"{nbytes / unit:.3g} {name}"
