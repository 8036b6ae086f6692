from __future__ import annotations

import json
import re
import shutil

import numpy as np
import pytest
import safetensors.numpy
from flax import nnx

from sv_jax import cli
from sv_jax.weights.load import load_model
from sv_jax.weights.safetensors_io import Tensor, open_folder

NORM, UP = "model.norm.weight", "model.layers.1.mlp.up_proj.weight"


@pytest.fixture(scope="module")
def wrong(tmp_path_factory, qwen_folder):
    """A folder with one fault of each kind that a name table can have, and a value that is not a number."""
    folder = tmp_path_factory.mktemp("wrong") / "model"
    shutil.copytree(qwen_folder, folder)
    tensors = open_folder(qwen_folder)
    tensors["model.norn.weight"] = tensors.pop(NORM)
    tensors["model.language_model.embed_tokens.weight"] = tensors["model.embed_tokens.weight"]
    tensors[UP] = tensors[UP]._replace(shape=(32, 48), read=lambda read=tensors[UP].read: read().T)
    tensors["lm_head.weight"] = Tensor((96, 32), np.dtype(np.int32), lambda: np.ones((96, 32), np.int32))
    values = tensors["visual.merger.mlp.2.bias"].read()
    values[3] = np.nan
    tensors["visual.merger.mlp.2.bias"] = Tensor(values.shape, values.dtype, lambda: values)
    safetensors.numpy.save_file({name: t.read() for name, t in tensors.items()}, folder / "model.safetensors")  # ours refuses NaN
    return folder


FAULTS = [
    "unexpected tensor 'model.norn.weight' .*did you mean 'model.language_model.norm.weight'",
    r"missing tensor 'model.language_model.norm.weight' \[32\]",
    "'model.language_model.embed_tokens.weight' is there twice|'model.embed_tokens.weight' is there twice",
    r"up_proj.weight' in .*model.safetensors has shape \[32, 48\], expected \[48, 32\]",
    "'lm_head.weight' in .* has dtype int32, expected floating point",
    "tensor 'visual.merger.mlp.2.bias' in .*model.safetensors holds NaN or infinite values",
]


def test_the_listing_says_what_each_tensor_becomes_and_adds_up(capsys, spacevista_folder):
    assert cli.main(["inspect", "weights", str(spacevista_folder), "--json"]) == 0
    out = json.loads(capsys.readouterr().out)
    assert out["faults"] == [] and "DINOv3" in out["kind"]
    stored = open_folder(spacevista_folder)
    leaves = {".".join(path): leaf[...] for path, leaf in nnx.to_flat_state(nnx.state(load_model(spacevista_folder)))}
    assert {t["name"] for t in out["tensors"]} == set(stored)
    for t in out["tensors"]:
        values = stored[t["name"]].read()
        assert (t["shape"], t["bytes"], t["dtype"]) == (list(values.shape), values.nbytes, "F32")
        here = []
        for parameter in t["parameters"]:
            path, layer = re.fullmatch(r"([\w.]+?)(?:\[(\d+)\])?", parameter).groups()
            here.append(np.asarray(leaves[path] if layer is None else leaves[path][int(layer)]))
            assert list(here[-1].shape) == t["shape_here"]
        np.testing.assert_array_equal(np.sort(values, None), np.sort(np.concatenate([a.ravel() for a in here])), err_msg=t["name"])
    count = sum(leaf.size for leaf in leaves.values())
    assert out["totals"]["parameters"] == sum(out["totals"]["by_part"].values()) == out["totals"]["by_dtype"]["F32"] == count
    assert set(out["totals"]["by_part"]) == {"text", "vision", "dino", "dino_merger", "fusion", "experts", "router"}


def test_the_text_is_one_line_a_tensor(capsys, qwen_folder, dino_folder):
    assert cli.main(["inspect", "weights", str(qwen_folder), "--quick"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert f"{UP}  F32  [48, 32]" in re.sub(" {2,}", "  ", "\n".join(lines))
    assert any(line.startswith(UP) and line.endswith("-> text.layers.mlp.up.kernel[1] [32, 48]") for line in lines)
    assert len(lines) == len(open_folder(qwen_folder)) + 4
    assert cli.main(["inspect", "weights", str(dino_folder)]) == 0
    out = capsys.readouterr().out
    assert "embeddings.mask_token" in out and "-> not read" in out and "-> dino.layers.attn.q.kernel[0] [24, 24]" in out


def test_a_wrong_folder_shows_all_its_faults_and_ends_with_two(capsys, wrong):
    assert cli.main(["inspect", "weights", str(wrong)]) == 2
    out, err = capsys.readouterr()
    assert err.count("\n") == 1 and len([line for line in out.splitlines() if line.startswith("fault: ")]) == len(FAULTS)
    for fault in FAULTS:
        assert re.search(f"fault: .*({fault})", out) and re.search(fault, err), fault
    assert cli.main(["inspect", "weights", str(wrong), "--json", "--quick"]) == 2
    assert len(json.loads(capsys.readouterr().out)["faults"]) == len(FAULTS) - 1  # NaN takes reading
