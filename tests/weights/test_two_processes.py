"""Two real processes of two CPU devices each: a mesh over all four loads a folder and saves it again."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np

from sv_jax.weights.safetensors_io import open_folder

PROCESS = """
import json, sys
import jax
jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 2)
process, address, source, out = int(sys.argv[1]), *sys.argv[2:]
jax.distributed.initialize(address, num_processes=2, process_id=process)
from sv_jax.mesh import leaf_shardings, make_mesh
from sv_jax.weights import load_model, safetensors_io, save_model, stream
read, fill, stream.PAGE = [], safetensors_io._fill, 1
safetensors_io._fill = lambda f, at, out: (read.append(out.nbytes), fill(f, at, out))
model = load_model(source, shardings=leaf_shardings(make_mesh("fsdp=4")))
held = {leaf.sharding.is_fully_addressable for leaf in jax.tree.leaves(model)}
save_model(model, out)
saved = open(out + "/config.json").read() != ""
with open(f"{out}.{process}.json", "w") as f:  # the library prints on stdout
    json.dump({"read": sum(read), "spread": False in held, "saved": saved}, f)
"""


def test_a_model_over_two_processes_is_read_in_halves_and_saved_whole(tmp_path, qwen_folder):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2]), "XLA_FLAGS": ""}
    command = [address, str(qwen_folder), str(tmp_path / "out")]
    processes = [subprocess.Popen([sys.executable, "-c", PROCESS, str(i), *command], env=environment) for i in (0, 1)]
    try:
        assert [process.wait(timeout=240) for process in processes] == [0, 0]
    finally:
        for process in processes:
            process.kill()
    said = [json.loads((tmp_path / f"out.{i}.json").read_text()) for i in (0, 1)]
    source, out = open_folder(qwen_folder), open_folder(tmp_path / "out")
    assert set(source) == set(out)
    for name, tensor in source.items():
        np.testing.assert_array_equal(out[name].read(), tensor.read(), err_msg=name)
    total = sum(tensor.nbytes for tensor in source.values())
    vectors = sum(tensor.nbytes for tensor in source.values() if len(tensor.shape) == 1)  # some are whole on every device
    assert all(total // 2 <= each["read"] <= total // 2 + vectors and each["spread"] and each["saved"] for each in said)
