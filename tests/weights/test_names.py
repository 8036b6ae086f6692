from __future__ import annotations

import numpy as np
import pytest
import torch
import transformers

from sv_jax.errors import UserError
from sv_jax.models.spacevista.config import ExpertsConfig, FusionConfig, SpaceVistaConfig, XLoRAConfig
from sv_jax.weights.load import abstract_model, read_dino_config
from sv_jax.weights.names import canonical, check, released, slots, to_file, to_leaf
from sv_jax.weights.safetensors_io import Tensor

FIELDS = ("hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "intermediate_size", "vocab_size")
SIZES = {"3B": (2048, 36, 16, 2, 11008, 151936), "7B": (3584, 28, 28, 4, 18944, 152064)}


def slots_of(cfg: SpaceVistaConfig):
    return slots(cfg, {path: leaf.shape for path, leaf in abstract_model(cfg)[1].items()})


@pytest.mark.parametrize("size, tied", [("3B", True), ("7B", False)])
def test_names_and_shapes_at_full_size_are_those_of_transformers(size, tied):
    text = dict(zip(FIELDS, SIZES[size], strict=True))
    hf = text | {"tie_word_embeddings": tied, "vision_config": {"hidden_size": 1280, "out_hidden_size": text["hidden_size"]}}
    ours = {slot.name: slot.shape for slot in slots_of(SpaceVistaConfig.from_hf({"model_type": "qwen2_5_vl"} | hf))}
    with torch.device("meta"):
        model = transformers.Qwen2_5_VLForConditionalGeneration(transformers.Qwen2_5_VLConfig(**hf))
    theirs = {name: tuple(p.shape) for name, p in model.named_parameters()}  # a tied head is listed once, as the embedding
    assert ours == theirs


@pytest.mark.parametrize("gated", [False, True])
def test_dino_names_and_shapes_are_those_of_transformers(gated, tmp_path):
    config = transformers.DINOv3ViTConfig(
        hidden_size=64, intermediate_size=96, num_hidden_layers=3, num_attention_heads=4, num_register_tokens=4, use_gated_mlp=gated,
        query_bias=not gated, value_bias=not gated,
    )  # fmt: skip
    config.save_pretrained(tmp_path)
    cfg = SpaceVistaConfig(dino=read_dino_config(tmp_path), fusion=FusionConfig(num_heads=8))
    ours = {slot.name: slot.shape for slot in slots_of(cfg) if slot.name.startswith("model.dinov3.")}
    with torch.device("meta"):
        theirs = {f"model.dinov3.{n}": tuple(p.shape) for n, p in transformers.DINOv3ViTModel(config).named_parameters()}
    assert theirs.pop("model.dinov3.embeddings.mask_token") == (1, 1, 64)
    assert ours == theirs


@pytest.mark.parametrize(
    "fusion, experts",
    [
        (FusionConfig(8, 4, 2), ExpertsConfig(rank=3)),
        (FusionConfig(8, method="concat"), ExpertsConfig(rank=3, router="xlora", router_hidden_size=5, xlora=XLoRAConfig(depth=4))),
        (FusionConfig(8, method="weighted"), ExpertsConfig(rank=3, router="xlora", xlora=XLoRAConfig(layerwise=False))),
        (FusionConfig(8, method="gated", merger="avg"), ExpertsConfig(rank=3, router="prompt")),
    ],
)
def test_to_file_and_to_leaf_are_inverse_for_every_kind_of_tensor(qwen_folder, dino_folder, fusion, experts):
    from sv_jax.weights.load import read_config

    qwen = read_config(qwen_folder)[0].qwen
    cfg = SpaceVistaConfig(qwen, read_dino_config(dino_folder), fusion, experts)
    rng = np.random.default_rng(0)
    leaves = {path: rng.standard_normal(leaf.shape) for path, leaf in abstract_model(cfg)[1].items()}
    seen = {path: np.zeros(leaf.shape, int) for path, leaf in leaves.items()}
    for slot in slots_of(cfg):
        at = ... if slot.layer is None else slot.layer
        theirs = to_file(slot, [leaves[path][at] for path in slot.paths])
        assert theirs.shape == slot.shape
        for path in slot.paths:
            np.testing.assert_array_equal(to_leaf(slot, theirs, path), leaves[path][at])
            seen[path][at] += 1
    assert all((count == 1).all() for count in seen.values())


@pytest.mark.parametrize(
    "name, model_type, expected",
    [
        ("visual.blocks.0.norm1.weight", "qwen2_5_vl", "model.visual.blocks.0.norm1.weight"),
        ("model.visual.blocks.0.norm1.weight", "qwen2_5_vl", "model.visual.blocks.0.norm1.weight"),
        ("model.layers.3.mlp.up_proj.weight", "qwen2_5_vl", "model.language_model.layers.3.mlp.up_proj.weight"),
        ("model.language_model.norm.weight", "qwen2_5_vl", "model.language_model.norm.weight"),
        ("model.embed_tokens.weight", "spacevista", "model.language_model.embed_tokens.weight"),
        ("model.dinov3.layer.0.norm1.weight", "spacevista", "model.dinov3.model.layer.0.norm1.weight"),
        ("lm_head.weight", "qwen2_5_vl", "lm_head.weight"),
        ("model.normal.weight", "qwen2_5_vl", "model.normal.weight"),
        ("layer.0.norm1.weight", "dinov3_vit", "model.dinov3.model.layer.0.norm1.weight"),
        ("model.layer.0.norm1.weight", "dinov3_vit", "model.dinov3.model.layer.0.norm1.weight"),
        ("norm.bias", "dinov3_vit", "model.dinov3.norm.bias"),
        ("embeddings.cls_token", "dinov3_vit", "model.dinov3.embeddings.cls_token"),
    ],
)
def test_every_spelling_in_the_wild_comes_to_one_form(name, model_type, expected):
    assert canonical(name, model_type) == expected


def test_released_names_are_the_old_ones():
    assert released("model.visual.merger.ln_q.weight") == "visual.merger.ln_q.weight"
    assert released("model.language_model.norm.weight") == "model.norm.weight"
    assert released("lm_head.weight") == "lm_head.weight"


def test_all_problems_come_in_one_line_with_the_nearest_name(qwen_folder):
    from sv_jax.weights.load import read_config

    wanted = slots_of(read_config(qwen_folder)[0])
    found = {slot.name: Tensor(slot.shape, np.dtype(np.float32), lambda: None, "model.safetensors") for slot in wanted}
    name = "model.language_model.layers.1.self_attn.q_proj.weight"
    found["model.language_model.layers.1.self_attn.q_proj.wieght"] = found.pop(name)
    norm = "model.language_model.norm.weight"
    found[norm] = found[norm]._replace(shape=(7,))
    with pytest.raises(UserError) as error:
        check(found, wanted, "folder")
    text = str(error.value)
    assert "\n" not in text and text.startswith("folder: ")
    assert f"q_proj.wieght' (did you mean {name!r}?)" in text
    assert f"missing tensor {name!r} [32, 32]" in text
    assert f"tensor {norm!r} in model.safetensors has shape [7], expected [32]" in text
