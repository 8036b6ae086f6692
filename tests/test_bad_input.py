"""Bad input through the command line: exit code 2, one line that names the thing, and no file made, changed or left behind."""

from __future__ import annotations

import json
import math
import os
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest

from sv_jax import cli, compiles
from sv_jax.weights import export
from sv_jax.weights.safetensors_io import open_file, write_file

TENSOR = "model.language_model.layers.1.mlp.up_proj.weight"

CASES = {
    "verb": ("exprot --run {model} --out out", "verb 'exprot' is not one of .*did you mean 'export'"),
    "option": ("ask --model {model} --vidoe {film} why?", "option '--vidoe' .*did you mean '--video'"),
    "config key": ("sft --config config.yaml", "config key 'stepz' .*did you mean 'steps'"),
    "config key, nested": ("eval --model {model} --data.path {data} --data.splt eval --out out", "'data.splt' .*did you mean 'data.split'"),
    "config value": ("data build --out out --frames few", "config key 'frames': expected an integer, found 'few'"),
    "no config file": ("grpo --config confg.yaml", "config file 'confg.yaml' .*did you mean 'config.yaml'"),
    "no model": ("ask --model nowhere why?", "model folder 'nowhere' does not exist"),
    "no model, init": ("init --qwen nowhere --out out", "model folder 'nowhere' does not exist"),
    "no model, export": ("export --run nowhere --out out", "model folder 'nowhere' does not exist"),
    "no video": ("ask --model {model} --video nowhere.mp4 why?", "video 'nowhere.mp4': no such file"),
    "no image": ("ask --model {model} --image nowhere.png why?", "image 'nowhere.png': No such file"),
    "no mask": ("ask --model {model} --video {film} --mask nowhere.png why?", "mask 'nowhere.png': No such file"),
    "image of 1 x 1": ("ask --model {model} --image dot.png why?", "image 'dot.png': 1 x 1 pixels"),
    "image of 20000 x 2": ("ask --model {model} --image line.png why?", "image 'line.png': frame of 20000 x 2 pixels: .*200-fold"),
    "video without frames": ("ask --model {model} --video empty.avi why?", "video 'empty.avi': no frames in it"),
    "rope type": ("ask --model yarn why?", "config.json: rope type 'yarn' is not one of default, mrope"),
    "no data, eval": ("eval --model {model} --data.path nowhere --out out", "data 'nowhere': no scenes/"),
    "no data, sft": ("sft --model {model} --data.path nowhere --run run --parts text --steps 1", "data 'nowhere': no scenes/"),
    "no data, grpo": ("grpo --model {model} --data.path nowhere --run run --steps 1", "data 'nowhere': no scenes/"),
    "corrupt mp4": ("ask --model {model} --video noise.mp4 why?", "video 'noise.mp4': cannot be decoded"),
    "truncated mp4": ("ask --model {model} --video cut.mp4 why?", "video 'cut.mp4': "),
    "truncated weights, ask": ("ask --model cut why?", "cut: model.safetensors: truncated: tensor '.*' ends at byte"),
    "truncated weights, init": ("init --qwen qwen --out out", "qwen: model.safetensors: truncated"),
    "truncated weights, export": ("export --run cut --out out", "cut: model.safetensors: truncated"),
    "truncated weights, eval": ("eval --model cut --data.path {data} --out out", "cut: model.safetensors: truncated"),
    "truncated weights, sft": ("sft --model cut --data.path {data} --run run --parts text --steps 1", "cut: model.safetensors: truncated"),
    "truncated weights, grpo": ("grpo --model cut --data.path {data} --run run --steps 1", "cut: model.safetensors: truncated"),
    "shape, ask": ("ask --model odd why?", rf"tensor '{TENSOR}' in odd/model.safetensors has shape \[32, 48\], expected \[48, 32\]"),
    "shape, export": ("export --run odd --as qwen --scale tiny --out out", rf"tensor '{TENSOR}' .*expected \[48, 32\]"),
    "scale, ask": ("ask --model {model} --scale indor why?", "scale 'indor' is not one of .*did you mean 'indoor'"),
    "scale, export": ("export --run {model} --as qwen --scale indor --out out", "scale 'indor' is not one of .*did you mean 'indoor'"),
    "scale, data": ("data build --out out --scales tiny,indor", "scale 'indor' is not one of .*did you mean 'indoor'"),
    "preset": ("data build --out out --preset smal", "preset 'smal' is not one of .*did you mean 'small'"),
    "no question": ("ask --model {model} ''", "question: empty"),
    "blank question": ("ask --model {model} --video {film} ' '", "question: empty"),
    "box outside": (
        "ask --model {model} --video {film} --box 10,10,1300,20 why?",
        "box xyxy 10,10,1300,20 is outside the frame, which is 1280 x 720 pixels",
    ),
    "box reversed": ("ask --model {model} --video {film} --box 30,10,20,40 why?", "box xyxy 30,10,20,40: expected x1 < x2"),
    "point outside": ("ask --model {model} --image white.png --point 5,-1 why?", "point xy 5,-1 is outside the frame, which is 60 x 40"),
}


@pytest.fixture(scope="module")
def here(tmp_path_factory, tiny_folder, film) -> Path:
    """A working folder with a wrong config, damaged films and models: `cut` and `qwen` end half-way, a tensor of `odd` is transposed."""
    import av
    from PIL import Image

    here = tmp_path_factory.mktemp("here")
    (here / "config.yaml").write_text("stepz: 3\n")
    (here / "noise.mp4").write_bytes(np.random.default_rng(0).bytes(5000))
    (here / "cut.mp4").write_bytes(Path(film).read_bytes()[:200_000])
    Image.new("RGB", (60, 40), "white").save(here / "white.png")
    Image.new("RGB", (1, 1)).save(here / "dot.png")
    Image.new("RGB", (20000, 2)).save(here / "line.png")
    with av.open(str(here / "empty.avi"), "w") as out:
        stream = out.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        out.start_encoding()
    for name in ("cut", "odd", "yarn"):
        shutil.copytree(tiny_folder, here / name)
    config = here / "yarn" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"rope_scaling": {"type": "yarn", "factor": 4.0}}))
    export(tiny_folder, here / "qwen", as_="qwen", scale="none")
    for name in ("cut", "qwen"):
        os.truncate(here / name / "model.safetensors", (here / name / "model.safetensors").stat().st_size // 2)
    tensors = open_file(tiny_folder / "model.safetensors")
    tensor = tensors[TENSOR]
    tensors[TENSOR] = tensor._replace(shape=tensor.shape[::-1], read=lambda: tensor.read().T)
    write_file(here / "odd" / "model.safetensors", tensors)
    return here


def listing(folder: Path) -> dict[Path, tuple[int, int]]:
    return {path: (path.stat().st_size, path.stat().st_mtime_ns) for path in folder.rglob("*")}


@pytest.mark.parametrize("case", CASES)
def test_bad_input_is_one_line_and_leaves_nothing_behind(case, here, tiny_folder, tiny_data, film, monkeypatch, capfd):
    monkeypatch.chdir(here)
    monkeypatch.setattr(compiles, "SLOW", math.inf)  # a busy machine compiles slowly, which is no mistake of the user's
    command, message = CASES[case]
    before = listing(here)
    assert cli.main(shlex.split(command.format(model=tiny_folder, data=tiny_data, film=film))) == 2
    out, err = capfd.readouterr()
    assert out == "" and err.count("\n") == 1, err
    assert re.fullmatch(f"sv-jax: error: .*{message}.*\n", err)
    assert listing(here) == before
