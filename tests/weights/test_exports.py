from __future__ import annotations

import dataclasses
import json
import re
import shutil
from pathlib import Path

import jax.numpy as jnp
import ml_dtypes
import numpy as np
import peft
import pytest
import torch
import transformers

from sv_jax import cli
from sv_jax.errors import UserError
from sv_jax.models.spacevista.config import XLoRAConfig
from sv_jax.models.spacevista.experts import expert_lora
from sv_jax.models.spacevista.model import with_router
from sv_jax.weights.exports import export, merge
from sv_jax.weights.load import init_model, load_model, read_config, save_model
from sv_jax.weights.names import canonical
from sv_jax.weights.safetensors_io import Tensor, num_bytes, open_file, open_folder, write_file
from tests.tiny import random_model
from tests.weights.conftest import EXPERTS, fill_zeros, make_prompt, our_logits, torch_logits
from tests.weights.test_load import same_tensors

DATA = Path(__file__).parents[1] / "data"


@pytest.fixture(scope="module")
def experts_folder(tmp_path_factory, qwen_folder) -> Path:
    """Qwen2.5-VL with four experts and no fusion, so that plain Qwen2.5-VL and PEFT can say all of it."""
    folder = tmp_path_factory.mktemp("experts")
    init_model(qwen_folder, None, None, EXPERTS, folder / "new")
    model = load_model(folder / "new")
    fill_zeros(model)
    save_model(model, folder / "model", source=folder / "new")
    return folder / "model"


def by_label(folder: Path):
    """Our model with the sample's label as its router; positions as transformers makes them."""
    model = with_router(load_model(folder), "label")
    model.cfg = dataclasses.replace(model.cfg, qwen=dataclasses.replace(model.cfg.qwen, mrope="spatial"))
    return model


@pytest.mark.parametrize("case", range(3))
def test_merge_and_expert_arithmetic_are_those_of_peft(case):
    z = {k.split("/")[1]: v for k, v in np.load(DATA / "lora_merge.npz").items() if k.startswith(f"{case}/")}
    scaling = float(z["rank_alpha_rslora_scaling"][3])
    np.testing.assert_allclose(merge(z["weight"], z["A"], z["B"], scaling), z["merged"], atol=1e-6)
    low_rank = expert_lora(*map(jnp.asarray, (z["x"], z["A"].T[:, None], z["B"].T[None], np.ones((4, 1), np.float32))), scaling)
    np.testing.assert_allclose(z["x"] @ z["weight"].T + z["bias"] + np.asarray(low_rank), z["y"], atol=1e-5)


@pytest.mark.parametrize("scale", ["tiny", "outdoor", "drone"])
def test_qwen_export_is_plain_qwen_with_that_scales_expert(tmp_path, experts_folder, scale):
    export(experts_folder, tmp_path / "out", as_="qwen", scale=scale)
    theirs, report = transformers.Qwen2_5_VLForConditionalGeneration.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not any(report.values())
    assert {name.split(".")[0] for name in open_folder(tmp_path / "out")} == {"visual", "model", "lm_head"}
    ours = by_label(experts_folder)
    prompt = make_prompt(ours.cfg, scale=scale)
    expected = our_logits(ours, prompt)
    np.testing.assert_allclose(torch_logits(theirs, prompt), expected, atol=1e-4)
    other = our_logits(ours, make_prompt(ours.cfg, scale="tabletop"))
    assert np.abs(other - expected).max() > 1e-2


def test_qwen_export_without_an_expert_is_the_base(tmp_path, experts_folder, qwen_folder):
    export(experts_folder, tmp_path / "out", as_="qwen", scale="none")
    base = open_folder(qwen_folder)
    for name, tensor in open_folder(tmp_path / "out").items():
        np.testing.assert_array_equal(tensor.read(), base.pop(name).read())
    assert not base


def test_qwen_export_of_a_fused_model_leaves_dino_and_fusion_out(tmp_path, spacevista_folder):
    export(spacevista_folder, tmp_path / "out", as_="qwen", scale="indoor")
    _, report = transformers.Qwen2_5_VLForConditionalGeneration.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not any(report.values())
    assert json.loads((tmp_path / "out" / "config.json").read_text())["model_type"] == "qwen2_5_vl"


def test_peft_export_loads_in_peft_and_gives_our_logits(tmp_path, experts_folder):
    export(experts_folder, tmp_path / "out", as_="peft")
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"base", "tiny", "tabletop", "indoor", "outdoor"}
    ours = by_label(experts_folder)
    for scale in ("tiny", "indoor"):
        base = transformers.Qwen2_5_VLForConditionalGeneration.from_pretrained(tmp_path / "out" / "base")
        with_expert = peft.PeftModel.from_pretrained(base, tmp_path / "out" / scale)
        loaded = peft.get_peft_model_state_dict(with_expert)
        stored = open_file(tmp_path / "out" / scale / "adapter_model.safetensors")
        assert set(loaded) == set(stored)
        for name, tensor in stored.items():
            np.testing.assert_array_equal(loaded[name].numpy(), tensor.read())
        prompt = make_prompt(ours.cfg, scale=scale)
        np.testing.assert_allclose(torch_logits(with_expert, prompt), our_logits(ours, prompt), atol=1e-4)


def test_qwen_export_with_weights_is_pefts_sum_of_adapters(tmp_path, experts_folder):
    weights = "tiny=0.2,indoor=0.8,outdoor=-0.2,drone=-0.3"
    assert cli.main(["export", "--run", str(experts_folder), "--out", str(tmp_path / "out"), "--as", "qwen", "--weights", weights]) == 0
    export(experts_folder, tmp_path / "peft", as_="peft")
    base = transformers.Qwen2_5_VLForConditionalGeneration.from_pretrained(tmp_path / "peft" / "base")
    theirs = peft.PeftModel.from_pretrained(base, tmp_path / "peft" / "tiny", "tiny")
    for name in ("indoor", "outdoor"):  # four experts: drone shares the outdoor expert
        theirs.load_adapter(tmp_path / "peft" / name, name)
    theirs.add_weighted_adapter(["tiny", "indoor", "outdoor"], [0.2, 0.8, -0.5], "sum", combination_type="cat")
    theirs.set_adapter("sum")
    expected = theirs.merge_and_unload().state_dict()
    for name, tensor in open_folder(tmp_path / "out").items():
        theirs_name = canonical(name, "qwen2_5_vl")
        np.testing.assert_allclose(tensor.read(), expected[theirs_name].numpy(), atol=1e-6, err_msg=name)


def test_a_merge_into_another_dtype_rounds_once(tmp_path, experts_folder):
    export(experts_folder, tmp_path / "f32", as_="qwen", scale="tiny")
    export(experts_folder, tmp_path / "bf16", as_="qwen", scale="tiny", dtype="bfloat16")
    exact = open_folder(tmp_path / "f32")
    for name, tensor in open_folder(tmp_path / "bf16").items():
        assert tensor.dtype == ml_dtypes.bfloat16
        np.testing.assert_array_equal(tensor.read(), exact[name].read().astype(ml_dtypes.bfloat16), err_msg=name)


@pytest.mark.parametrize("as_", ["spacevista", "qwen", "peft"])
def test_the_size_of_shards_is_an_option_and_their_sum_the_same_model(tmp_path, experts_folder, as_):
    scale = "tiny" if as_ == "qwen" else None
    export(experts_folder, tmp_path / "one", as_=as_, scale=scale)
    export(experts_folder, tmp_path / "many", as_=as_, scale=scale, max_shard_size="40KB")
    one, many = (tmp_path / name / ("base" if as_ == "peft" else "") for name in ("one", "many"))
    files = list(many.glob("model-*.safetensors"))
    inside = [[t.nbytes for t in open_file(file).values()] for file in files]
    assert len(files) > 3 and all(sum(sizes) <= 40_000 or len(sizes) == 1 for sizes in inside)  # a larger tensor has its own file
    left, right = open_folder(one), open_folder(many)
    assert set(left) == set(right)
    for name in left:
        np.testing.assert_array_equal(left[name].read(), right[name].read())
    if as_ != "spacevista":  # transformers reads the index as well
        theirs = transformers.Qwen2_5_VLForConditionalGeneration.from_pretrained(many).state_dict()
        assert all(np.array_equal(theirs[canonical(name, "qwen2_5_vl")].numpy(), t.read()) for name, t in left.items())


@pytest.mark.parametrize("size, expected", [(7, 7), ("40KB", 40_000), ("5GB", 5 * 10**9), ("2 MiB", 2 << 20), ("3gb", 3 * 10**9)])
def test_sizes_of_shards_are_those_of_transformers(size, expected):
    assert num_bytes(size) == expected
    with pytest.raises(UserError, match="max_shard_size '5XB': expected"):
        num_bytes("5XB")


def init_again(folder: Path, out: Path, *argv: str) -> int:
    adapters = ",".join(str(folder / name) for name in EXPERTS.names)
    return cli.main(["init", "--qwen", str(folder / "base"), "--adapters", adapters, "--out", str(out), *argv])


@pytest.mark.parametrize("old_names", [False, True])
def test_a_peft_export_comes_back_bit_for_bit(tmp_path, experts_folder, old_names):
    export(experts_folder, tmp_path / "peft", as_="peft")
    if old_names:  # of adapters made with transformers <= 4.51
        file = tmp_path / "peft" / "indoor" / "adapter_model.safetensors"
        stored = {name.replace("model.language_model.layers", "model.layers"): t.read() for name, t in open_file(file).items()}
        write_file(file, {name: Tensor(a.shape, a.dtype, lambda a=a: a) for name, a in stored.items()})
    assert init_again(tmp_path / "peft", tmp_path / "again", "--experts.router", "uniform") == 0
    again, before = open_folder(tmp_path / "again"), open_folder(experts_folder)
    assert set(again) == {name for name in before if ".router." not in name}  # PEFT's folders have no place for it
    for name, tensor in again.items():
        np.testing.assert_array_equal(tensor.read(), before[name].read(), err_msg=name)
    experts = load_model(tmp_path / "again").cfg.experts
    assert experts == dataclasses.replace(EXPERTS, router="uniform", router_hidden_size=64, temperature=1.0)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"r": 2}, r"tabletop: rank 2 and alpha 6; expected 4 and 6 as in .*tiny"),
        ({"use_rslora": True}, "tabletop: rank 4 and alpha 12; expected 4 and 6"),  # 6 / sqrt(4) is 12 / 4
        ({"use_dora": True}, "use_dora True is not supported"),
        ({"peft_type": "XLORA"}, "peft_type 'XLORA'; expected 'LORA'"),
        ({"lora_alpha": "six"}, "lora_alpha 'six'; expected"),
        (None, "unexpected tensor 'model.visual.blocks.0.mlp.up_proj.lora_A'.*; missing tensor .*down_proj.lora_B"),
    ],
)
def test_adapters_that_do_not_fit_are_refused(tmp_path, experts_folder, capsys, change, message):
    export(experts_folder, tmp_path / "peft", as_="peft")
    file = tmp_path / "peft" / "tabletop" / "adapter_config.json"
    if change:
        file.write_text(json.dumps(json.loads(file.read_text()) | change))
    else:
        stored = {name: t.read() for name, t in open_file(file.with_name("adapter_model.safetensors")).items()}
        a = stored.pop("base_model.model.model.language_model.layers.1.mlp.down_proj.lora_B.weight")
        stored["base_model.model.model.visual.blocks.0.mlp.up_proj.lora_A.weight"] = a
        write_file(file.with_name("adapter_model.safetensors"), {n: Tensor(v.shape, v.dtype, lambda v=v: v) for n, v in stored.items()})
    assert init_again(tmp_path / "peft", tmp_path / "again") == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and re.search(message, err), err
    assert not (tmp_path / "again").exists()


def test_one_expert_projection_equals_pefts(tmp_path, experts_folder):
    export(experts_folder, tmp_path / "out", as_="peft")
    base = transformers.Qwen2_5_VLForConditionalGeneration.from_pretrained(tmp_path / "out" / "base")
    theirs = peft.PeftModel.from_pretrained(base, tmp_path / "out" / "indoor").base_model.model.model.language_model.layers[1].mlp.up_proj
    ours = load_model(experts_folder).text.layers.mlp.up
    x = np.random.default_rng(0).standard_normal((5, 32)).astype(np.float32)
    gate = jnp.zeros((5, 4)).at[:, 2].set(1)
    low_rank = expert_lora(jnp.asarray(x), ours.lora_a[...][1], ours.lora_b[...][1], gate, EXPERTS.scaling)
    with torch.no_grad():
        expected = theirs(torch.tensor(x)).numpy()
    np.testing.assert_allclose(x @ np.asarray(ours.kernel[...][1]) + np.asarray(low_rank), expected, atol=1e-5)


@pytest.mark.parametrize(
    "xlora, temperature",
    [(XLoRAConfig(depth=3), 0.3), (XLoRAConfig(depth=1, layerwise=False, top_k=2, softmax_topk=True), 0.5)],
    ids=["layer-wise", "model-wise, top-k"],
)
def test_an_xlora_folder_loads_in_peft_and_gives_our_logits(tmp_path, qwen_folder, xlora, temperature):
    experts = dataclasses.replace(EXPERTS, router="xlora", xlora=xlora, temperature=temperature)
    ours = random_model(dataclasses.replace(read_config(qwen_folder)[0], experts=experts))
    save_model(ours, tmp_path / "model", source=qwen_folder)
    export(tmp_path / "model", tmp_path / "out", as_="peft")
    base = transformers.Qwen2_5_VLForConditionalGeneration.from_pretrained(tmp_path / "out" / "base")
    base.config.use_cache = base.config.text_config.use_cache = False
    theirs = peft.PeftModel.from_pretrained(base, tmp_path / "out" / "xlora")
    prompt = make_prompt(ours.cfg, (("image", 1, 56, 84),))
    expected = torch_logits(theirs, prompt)
    np.testing.assert_allclose(our_logits(ours, prompt), expected, atol=1e-5 * np.abs(expected).max())


def test_peft_files_are_named_as_peft_names_them(tmp_path, experts_folder):
    export(experts_folder, tmp_path / "out", as_="peft")
    known = json.loads((DATA / "peft_names.json").read_text())["language_only_regex"]
    stored = open_file(tmp_path / "out" / "tiny" / "adapter_model.safetensors")
    assert {name: list(t.shape) for name, t in stored.items()} == known["tensors"]
    config = json.loads((tmp_path / "out" / "tiny" / "adapter_config.json").read_text())
    assert set(config) <= set(known["adapter_config"])
    assert (config["r"], config["lora_alpha"], config["peft_type"]) == (4, 6.0, "LORA")


@pytest.mark.parametrize(
    "as_, scale, message",
    [
        ("qwen", None, "give --scale, one of tiny, tabletop, indoor, outdoor, drone, or none"),
        ("qwen", "indor", "did you mean 'indoor'"),
        ("peft", "indoor", "scale 'indoor': only `--as qwen`"),
        ("gguf", None, "'gguf' is not one of peft, qwen, spacevista"),
    ],
)
def test_what_cannot_be_exported_is_said_in_one_line(tmp_path, experts_folder, as_, scale, message):
    with pytest.raises(UserError, match=message) as error:
        export(experts_folder, tmp_path / "out", as_=as_, scale=scale)
    assert "\n" not in str(error.value) and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "argv, message",
    [
        ("--as qwen --weights tiny=0.2,indor=0.8", "scale 'indor' is not one of .*did you mean 'indoor'"),
        ("--as qwen --weights tiny=much", "--weights 'tiny=much': expected a number for each scale"),
        ("--as qwen --weights tiny=1 --scale tiny", "give one of them"),
        ("--as peft --weights tiny=1", "weights {'tiny': 1.0}: only `--as qwen`"),
        ("--max-shard-size huge", "max_shard_size 'huge': expected a number of bytes"),
        ("--dtype bfloat61", "did you mean 'bfloat16'"),
    ],
)
def test_wrong_options_are_said_in_one_line(tmp_path, experts_folder, capsys, argv, message):
    assert cli.main(["export", "--run", str(experts_folder), "--out", str(tmp_path / "out"), *argv.split()]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and re.search(message, err), err
    assert list(tmp_path.iterdir()) == []


def test_a_source_with_nan_is_not_exported(tmp_path, experts_folder):
    folder = shutil.copytree(experts_folder, tmp_path / "bad")
    with open(folder / "model.safetensors", "r+b") as f:
        f.seek(open_folder(folder)["lm_head.weight"].offset)
        f.write(np.float32(np.inf).tobytes())
    with pytest.raises(UserError, match="tensor 'lm_head.weight' in .*model.safetensors holds NaN or infinite values"):
        export(folder, tmp_path / "out", as_="spacevista")
    assert not (tmp_path / "out").exists()


def test_a_model_without_experts_has_nothing_for_peft_and_no_scale_to_merge(tmp_path, qwen_folder):
    with pytest.raises(UserError, match="no scale experts to export"):
        export(qwen_folder, tmp_path / "out", as_="peft")
    with pytest.raises(UserError, match="no scale experts to merge"):
        export(qwen_folder, tmp_path / "out", as_="qwen", scale="indoor")
    export(qwen_folder, tmp_path / "out", as_="qwen")
    same_tensors(tmp_path / "out", qwen_folder)
