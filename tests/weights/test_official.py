"""The released code's names, written out by hand, and folders under them that come back bit for bit."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from sv_jax.errors import UserError
from sv_jax.models.dinov3.config import DINOv3Config
from sv_jax.models.spacevista.config import ExpertsConfig, FusionConfig, XLoRAConfig
from sv_jax.weights.exports import export
from sv_jax.weights.inspect import inspect_weights, totals
from sv_jax.weights.load import init_model, load_model, read_config, save_model
from sv_jax.weights.official import EXPERTS
from sv_jax.weights.safetensors_io import open_file, open_folder, write_file
from tests.tiny import random_model
from tests.weights.test_load import rewritten, same_tensors

D, C, F, HIDDEN = 32, 64, 96, 20
DINO = DINOv3Config(C, F, 2, 1)
ENCODER = {
    "cls_token": (1, 1, C), "storage_tokens": (1, 4, C), "mask_token": (1, C), "rope_embed.periods": (16,),
    "patch_embed.proj.weight": (C, 3, 16, 16), "patch_embed.proj.bias": (C,), "norm.weight": (C,), "norm.bias": (C,),
}  # fmt: skip
BLOCK = {
    "norm1.weight": (C,), "norm1.bias": (C,), "attn.qkv.weight": (3 * C, C), "attn.qkv.bias": (3 * C,), "attn.qkv.bias_mask": (3 * C,),
    "attn.proj.weight": (C, C), "attn.proj.bias": (C,), "ls1.gamma": (C,), "norm2.weight": (C,), "norm2.bias": (C,), "ls2.gamma": (C,),
    "mlp.fc1.weight": (F, C), "mlp.fc1.bias": (F,), "mlp.fc2.weight": (C, F), "mlp.fc2.bias": (C,),
}  # fmt: skip
MERGER = {"ln_q.weight": (C,), "mlp.0.weight": (HIDDEN, 4 * C), "mlp.0.bias": (HIDDEN,), "mlp.2.weight": (D, HIDDEN), "mlp.2.bias": (D,)}
FUSION = {f"{norm}.{leaf}": (D,) for norm in ("norm1_query", "norm1_key", "norm1_value", "norm2") for leaf in ("weight", "bias")}
FUSION |= {"cross_attention.in_proj_weight": (3 * D, D), "cross_attention.in_proj_bias": (3 * D,)}
FUSION |= {"cross_attention.out_proj.weight": (D, D), "cross_attention.out_proj.bias": (D,)}
FUSION |= {"mlp.0.weight": (4 * D, D), "mlp.0.bias": (4 * D,), "mlp.3.weight": (D, 4 * D), "mlp.3.bias": (D,)}
NAMED = {f"geometry_encoder.{name}": shape for name, shape in ENCODER.items()}
NAMED |= {f"geometry_encoder.blocks.{i}.{name}": shape for i in range(2) for name, shape in BLOCK.items()}
NAMED |= {f"geometry_merger.{name}": shape for name, shape in MERGER.items()}
NAMED |= {f"feature_fusion.cross_attn_blocks.0.{name}": shape for name, shape in FUSION.items()}


def saved(folder, qwen_folder, **parts):
    """A random model with the text and vision sizes of the session's Qwen2.5-VL, and those parts."""
    save_model(random_model(dataclasses.replace(read_config(qwen_folder)[0], **parts)), folder, source=qwen_folder)
    return folder


@pytest.fixture(scope="module")
def fused(tmp_path_factory, qwen_folder):
    return saved(tmp_path_factory.mktemp("fused") / "model", qwen_folder, dino=DINO, fusion=FusionConfig(HIDDEN, 8))


@pytest.fixture(scope="module")
def official(tmp_path_factory, fused):
    folder = tmp_path_factory.mktemp("official") / "model"
    export(fused, folder, names="official")
    return folder


def test_names_and_shapes_are_those_of_the_released_code(official, qwen_folder):
    stored = open_folder(official)
    assert {name: t.shape for name, t in stored.items() if name.startswith(("geometry_", "feature_"))} == NAMED
    assert set(stored) - set(NAMED) == set(open_folder(qwen_folder))  # the rest is a plain Qwen2.5-VL
    config = json.loads((official / "config.json").read_text())
    assert config["model_type"] == "qwen2_5_vl" and "auto_map" not in config
    assert (config["geometry_merger_hidden_dim"], config["fusion_attention_heads"], config["fusion_num_layers"]) == (HIDDEN, 8, 1)
    assert {file.name for file in official.iterdir()} == {"config.json", "model.safetensors", "generation_config.json"}


def test_every_value_is_where_the_released_code_reads_it(official, fused):
    theirs, ours = ({name: t.read() for name, t in open_folder(folder).items()} for folder in (official, fused))
    block, layer = "geometry_encoder.blocks.1.", "model.dinov3.model.layer.1."
    same = {"norm2.weight": "norm2.weight", "attn.proj.weight": "attention.o_proj.weight", "ls1.gamma": "layer_scale1.lambda1"}
    same |= {"ls2.gamma": "layer_scale2.lambda1", "mlp.fc1.weight": "mlp.up_proj.weight", "mlp.fc2.bias": "mlp.down_proj.bias"}
    for a, b in same.items():
        np.testing.assert_array_equal(theirs[block + a], ours[layer + b])
    q, k, v = np.split(theirs[f"{block}attn.qkv.weight"], 3)
    for p, value in zip("qkv", (q, k, v), strict=True):
        np.testing.assert_array_equal(value, ours[f"{layer}attention.{p}_proj.weight"])
    q, k, v = np.split(theirs[f"{block}attn.qkv.bias"], 3)
    np.testing.assert_array_equal(q, ours[f"{layer}attention.q_proj.bias"])
    np.testing.assert_array_equal(v, ours[f"{layer}attention.v_proj.bias"])
    assert not k.any() and theirs[f"{block}attn.qkv.bias_mask"].tolist() == [1] * C + [0] * C + [1] * C
    np.testing.assert_allclose(theirs["geometry_encoder.rope_embed.periods"], 100.0 ** (np.arange(16) / 16), rtol=1e-6)
    np.testing.assert_array_equal(theirs["geometry_encoder.storage_tokens"], ours["model.dinov3.embeddings.register_tokens"])
    np.testing.assert_array_equal(theirs["geometry_merger.mlp.0.weight"], ours["model.geometry_merger.mlp.0.weight"])
    np.testing.assert_array_equal(theirs["visual.merger.ln_q.weight"], ours["model.visual.merger.ln_q.weight"])


def test_such_a_folder_loads_and_comes_back_bit_for_bit(tmp_path, official, fused):
    assert read_config(official)[0] == read_config(fused)[0]
    save_model(load_model(official), tmp_path / "again", source=official)
    same_tensors(tmp_path / "again", fused)
    export(official, tmp_path / "official", names="official")
    same_tensors(tmp_path / "official", official)


def test_the_listing_says_what_packed_tensors_and_constants_become(official):
    found = inspect_weights(official)
    entries = {entry.name: entry for entry in found.entries}
    qkv, path = "geometry_encoder.blocks.1.attn.qkv", "dino.layers.attn"
    assert found.faults == [] and set(entries) == set(open_folder(official))
    assert entries[f"{qkv}.weight"].parameters == tuple(f"{path}.{p}.kernel[1]" for p in "qkv")
    assert entries[f"{qkv}.weight"].shape_here == (C, C)
    assert entries[f"{qkv}.bias"].parameters == tuple(f"{path}.{p}.bias[1]" for p in "qv")
    assert entries[f"{qkv}.bias_mask"].parameters == entries["geometry_encoder.mask_token"].parameters == ()


@pytest.mark.parametrize(
    "fusion, dino",
    [
        (FusionConfig(HIDDEN, 8, 2), DINO),
        (FusionConfig(HIDDEN, method="gated", merger="avg"), dataclasses.replace(DINO, use_gated_mlp=True, hidden_act="silu")),
    ],
    ids=["two blocks", "gated"],
)
def test_sizes_are_read_off_the_tensors_of_a_folder_whose_config_does_not_say_them(tmp_path, qwen_folder, fusion, dino):
    source = saved(tmp_path / "model", qwen_folder, dino=dino, fusion=fusion)
    export(source, tmp_path / "official", names="official")
    file = tmp_path / "official" / "config.json"
    config = {k: v for k, v in json.loads(file.read_text()).items() if k not in ("dinov3_config", "spacevista")}
    file.write_text(json.dumps({k: v for k, v in config.items() if not k.startswith(("geometry_", "fusion_"))}))
    got = read_config(tmp_path / "official")[0]
    assert got.dino == dino
    assert got.fusion == dataclasses.replace(fusion, align="official")
    save_model(load_model(tmp_path / "official"), tmp_path / "again")
    same_tensors(tmp_path / "again", source)


@pytest.mark.parametrize("xlora", [XLoRAConfig(depth=3), XLoRAConfig(depth=2, layerwise=False)], ids=["layer-wise", "model-wise"])
def test_experts_and_classifier_are_peft_folders_beside_and_come_back(tmp_path, qwen_folder, xlora):
    experts = ExpertsConfig(3, 4, alpha=6.0, router="xlora", router_hidden_size=6, xlora=xlora)
    source = saved(tmp_path / "model", qwen_folder, experts=experts)
    export(source, tmp_path / "out", names="official")
    top = tmp_path / "out" / EXPERTS
    assert {file.name for file in top.iterdir()} == {"0", "1", "2", "adapter_config.json", "adapter_model.safetensors"}
    classifier = {name: t.shape for name, t in open_file(top / "adapter_model.safetensors").items()}
    layers, classes = "base_model.internal_xlora_classifier.layers", 2 * 7 * 3 if xlora.layerwise else 3
    widths = [D, 6, 6, classes] if xlora.depth == 3 else [D, 6, classes]
    assert classifier == {f"{layers}.{3 * i}.weight": (b, a) for i, (a, b) in enumerate(zip(widths, widths[1:], strict=False))} | {
        f"{layers}.{3 * i}.bias": (b,) for i, b in enumerate(widths[1:])
    }
    lora = open_file(top / "1" / "adapter_model.safetensors")
    assert lora["base_model.model.model.layers.1.mlp.down_proj.lora_A.weight"].shape == (4, 48) and len(lora) == 2 * 2 * 7
    save_model(load_model(tmp_path / "out"), tmp_path / "again")
    same_tensors(tmp_path / "again", source)
    assert read_config(tmp_path / "again")[0] == read_config(source)[0]
    found, before = inspect_weights(tmp_path / "out"), inspect_weights(source)
    assert found.faults == [] and totals(found.entries)["by_part"] == totals(before.entries)["by_part"]
    for e, name in (("0", "q_proj"), ("2", "up_proj")):
        file = top / e / "adapter_model.safetensors"
        write_file(file, {key: tensor for key, tensor in open_file(file).items() if name not in key})
    with pytest.raises(UserError, match="experts/0: missing tensor .*q_proj.*; .*experts/2: missing tensor .*up_proj") as error:
        load_model(tmp_path / "out")
    assert str(error.value).count("q_proj") > 1  # of both layers
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    del config["spacevista"]["experts"]
    (tmp_path / "out" / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match="there are experts/, but config.json says nothing of them"):
        load_model(tmp_path / "out")


def test_init_refuses_an_official_folder_with_experts(tmp_path, qwen_folder):
    source = saved(tmp_path / "model", qwen_folder, experts=ExpertsConfig(3, 4, router="uniform"))
    export(source, tmp_path / "out", names="official")
    with pytest.raises(UserError, match="DINOv3 or experts beside Qwen2.5-VL; expected a plain 'qwen2_5_vl'"):
        init_model(tmp_path / "out", None, None, None, tmp_path / "new")


def test_what_does_not_fit_is_said_in_one_line(tmp_path, official, fused, spacevista_folder, qwen_folder):
    with pytest.raises(UserError, match="no router 'layer'; expected xlora, label or uniform"):
        export(spacevista_folder, tmp_path / "out", names="official")
    biased = saved(tmp_path / "biased", qwen_folder, dino=dataclasses.replace(DINO, key_bias=True), fusion=FusionConfig(HIDDEN, 8))
    with pytest.raises(UserError, match="expected that, and no key_bias"):
        export(biased, tmp_path / "out", names="official")
    with pytest.raises(UserError, match="names 'official': expected `--as spacevista`, found `--as qwen`"):
        export(fused, tmp_path / "out", as_="qwen", names="official")
    with pytest.raises(UserError, match="names 'oficial' is not one of .*did you mean 'official'"):
        export(fused, tmp_path / "out", names="oficial")
    wrong, packed = "geometry_encoder.blocks.0.attn.proj.wieght", "geometry_encoder.blocks.0.attn.qkv.weight"
    change = lambda t: {k: v for k, v in t.items() if k != "geometry_merger.ln_q.weight"} | {wrong: t["lm_head.weight"]}  # noqa: E731
    bad = rewritten(official, tmp_path / "bad", lambda t: change(t) | {packed: t["lm_head.weight"]})
    message = f"unexpected tensor '{wrong}'.*missing tensor 'model.geometry_merger.ln_q.weight'.*q_proj.weight' in .* has shape"
    with pytest.raises(UserError, match=message):
        load_model(bad)
    half = rewritten(official, tmp_path / "half", lambda t: {k: v for k, v in t.items() if k != "geometry_encoder.storage_tokens"})
    config = json.loads((half / "config.json").read_text())
    (half / "config.json").write_text(json.dumps({k: v for k, v in config.items() if k != "dinov3_config"}))
    with pytest.raises(UserError, match="missing tensor 'geometry_encoder.storage_tokens': config.json has no 'dinov3_config'"):
        load_model(half)
