from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import peft
import pytest
import torch
import transformers

from sv_jax.errors import UserError
from sv_jax.models.spacevista.config import XLoRAConfig
from sv_jax.models.spacevista.experts import expert_lora
from sv_jax.models.spacevista.model import with_router
from sv_jax.weights.exports import export, merge
from sv_jax.weights.load import init_model, load_model, read_config, save_model
from sv_jax.weights.safetensors_io import open_file, open_folder
from tests.tiny import random_model
from tests.weights.conftest import EXPERTS, fill_zeros, make_prompt, our_logits, torch_logits

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
        ("peft", "indoor", "only `--as qwen`"),
        ("gguf", None, "'gguf' is not one of peft, qwen, spacevista"),
    ],
)
def test_what_cannot_be_exported_is_said_in_one_line(tmp_path, experts_folder, as_, scale, message):
    with pytest.raises(UserError, match=message) as error:
        export(experts_folder, tmp_path / "out", as_=as_, scale=scale)
    assert "\n" not in str(error.value) and list(tmp_path.iterdir()) == []


def test_a_model_without_experts_has_nothing_for_peft_and_no_scale_to_merge(tmp_path, qwen_folder):
    with pytest.raises(UserError, match="no scale experts to export"):
        export(qwen_folder, tmp_path / "out", as_="peft")
    with pytest.raises(UserError, match="no scale experts to merge"):
        export(qwen_folder, tmp_path / "out", as_="qwen", scale="indoor")
    export(qwen_folder, tmp_path / "out", as_="qwen")
    assert set(open_folder(tmp_path / "out")) == set(open_folder(qwen_folder))
