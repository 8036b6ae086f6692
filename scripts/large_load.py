"""How fast and in how much memory a checkpoint of real size loads: a synthetic Qwen2.5-VL with the names and shapes of the released one.

    python scripts/large_load.py --size 3b --folder large            writes 7.5 GB there, loads it, deletes it
    python scripts/large_load.py --size 7b --layers 4 --folder large  fewer text layers

Prints the disk's sequential read speed (the same files, not in the page cache), the speed of loading in a fresh process, and that
process's peak memory above the loaded arrays beside the bound: the largest tensor + 512 MB. Exit code 1 when the bound is broken.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import ml_dtypes
import numpy as np

GB, ALLOWANCE, BLOCK = 1e9, 512e6, 8 << 20
FIELDS = ("hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "intermediate_size", "vocab_size")
SIZES = {"3b": (2048, 36, 16, 2, 11008, 151936), "7b": (3584, 28, 28, 4, 18944, 152064)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="a new folder, deleted at the end")
    parser.add_argument("--size", choices=SIZES, default="7b")
    parser.add_argument("--layers", type=int, help="of the text model (default: all)")
    parser.add_argument("--dtype", default="bfloat16", help="to load in")
    parser.add_argument("--load", action="store_true", help=argparse.SUPPRESS)  # the fresh process
    args = parser.parse_args()
    if args.load:
        print(json.dumps(load(args.folder, args.dtype)))
        return 0
    if args.folder.exists():
        parser.error(f"{args.folder} exists; expected a new folder")
    try:
        largest = write(args.folder, args.size, args.layers)
        disk = read_speed(args.folder)
        forget(args.folder)
        child = [sys.executable, __file__, "--load", "--folder", str(args.folder), "--dtype", args.dtype]
        got = json.loads(subprocess.run(child, check=True, stdout=subprocess.PIPE).stdout)
    finally:
        shutil.rmtree(args.folder, ignore_errors=True)
    return report(got, disk, largest)


def write(folder: Path, size: str, layers: int | None) -> int:
    """A folder of random bf16 values in shards of 4 GB, made tensor by tensor -> bytes of the largest tensor."""
    from sv_jax.models.spacevista.config import SpaceVistaConfig
    from sv_jax.weights.load import slots_of, write_model
    from sv_jax.weights.safetensors_io import Tensor

    text = dict(zip(FIELDS, SIZES[size], strict=True)) | ({"num_hidden_layers": layers} if layers else {})
    vision = {"hidden_size": 1280, "out_hidden_size": text["hidden_size"], "tokens_per_second": 2}
    cfg = SpaceVistaConfig.from_hf(text | {"tie_word_embeddings": size == "3b", "vision_config": vision})
    values = np.random.default_rng(0).standard_normal(1 << 24, np.float32).astype(ml_dtypes.bfloat16)
    tensors = {slot.name: Tensor(slot.shape, values.dtype, lambda slot=slot: np.resize(values, slot.shape)) for slot in slots_of(cfg)}
    folder.mkdir(parents=True)
    write_model(folder, cfg, tensors, None, 4 * 10**9)
    return max(tensor.nbytes for tensor in tensors.values())


def forget(folder: Path) -> None:
    """Take the files out of the page cache."""
    for file in folder.glob("*.safetensors"):
        with open(file, "rb") as f:
            os.posix_fadvise(f.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def read_speed(folder: Path) -> float:
    """Bytes per second of reading every file from its beginning to its end."""
    forget(folder)
    buffer, total, began = bytearray(BLOCK), 0, time.perf_counter()
    for file in sorted(folder.glob("*.safetensors")):
        with open(file, "rb", buffering=0) as f:
            while count := f.readinto(buffer):
                total += count
    return total / (time.perf_counter() - began)


def load(folder: Path, dtype: str) -> dict:
    import jax

    from sv_jax.weights import load_model

    before = memory("VmRSS")
    began, cpu = time.perf_counter(), time.process_time()
    model = jax.block_until_ready(load_model(folder, dtype=dtype))
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    arrays = [leaf for leaf in jax.tree.leaves(model) if isinstance(leaf, jax.Array)]
    out = {"seconds": seconds, "cpu": cpu, "before": before, "peak": memory("VmHWM"), "arrays": sum(a.nbytes for a in arrays)}
    files = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    return out | {"read": files, "device": jax.devices()[0].platform}


def memory(field: str) -> int:
    """Bytes of this process's memory by a field of /proc: VmRSS now, VmHWM at its peak."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) * 1024


def report(got: dict, disk: float, largest: int) -> int:
    held = got["arrays"] if got["device"] == "cpu" else 0
    above, bound, speed = got["peak"] - held, largest + ALLOWANCE, got["read"] / got["seconds"]
    print(f"loaded     {got['read'] / GB:.2f} GB in {got['seconds']:.2f} s ({got['cpu']:.2f} s of processor time) on {got['device']}")
    print(f"speed      {speed / GB:.2f} GB/s; the disk reads {disk / GB:.2f} GB/s; ratio {speed / disk:.2f}")
    print(f"peak RSS   {got['peak'] / GB:.2f} GB, of it arrays {held / GB:.2f} GB, the process before loading {got['before'] / GB:.2f} GB")
    print(f"above the arrays {above / GB:.2f} GB; bound {bound / GB:.2f} GB = largest tensor {largest / GB:.2f} GB + 0.51 GB")
    return 0 if above <= bound else 1


if __name__ == "__main__":
    sys.exit(main())
