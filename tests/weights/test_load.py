from __future__ import annotations

import json
import shutil
import tracemalloc
from pathlib import Path

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
import transformers
from flax import nnx

from sv_jax.errors import UserError
from sv_jax.models.spacevista.config import FusionConfig
from sv_jax.models.spacevista.model import with_router
from sv_jax.weights.load import init_model, load_model, save_model
from sv_jax.weights.safetensors_io import Tensor, open_folder, write_folder
from tests.weights.conftest import EXPERTS, make_prompt, our_logits, save_dino, save_qwen, torch_logits


def same_tensors(a: Path, b: Path) -> None:
    left, right = open_folder(a), open_folder(b)
    assert set(left) == set(right)
    for name in left:
        assert left[name].dtype == right[name].dtype
        np.testing.assert_array_equal(left[name].read(), right[name].read(), err_msg=name)


def leaves(model) -> dict:
    return {path: leaf[...] for path, leaf in nnx.to_flat_state(nnx.state(model))}


def rewritten(folder: Path, out: Path, change) -> Path:
    """A copy of a model folder whose tensors {name: Tensor} went through `change`."""
    shutil.copytree(folder, out)
    for file in out.glob("*.safetensors*"):
        file.unlink()
    write_folder(out, change(open_folder(folder)))
    return out


@pytest.mark.parametrize(
    "options", [{}, {"tied": True}, {"dtype": "bfloat16"}, {"max_shard_size": "30KB"}], ids=["untied", "tied", "bf16", "sharded"]
)
def test_a_qwen_folder_comes_back_bit_for_bit(tmp_path, options):
    source = save_qwen(tmp_path / "qwen", **options)
    save_model(load_model(source), tmp_path / "out", source=source)
    same_tensors(source, tmp_path / "out")
    assert (tmp_path / "out" / "generation_config.json").read_text() == (source / "generation_config.json").read_text()


def test_a_spacevista_folder_comes_back_bit_for_bit(tmp_path, spacevista_folder):
    save_model(load_model(spacevista_folder), tmp_path / "out")
    same_tensors(spacevista_folder, tmp_path / "out")


@pytest.mark.parametrize("media", [(), (("image", 1, 56, 84),), (("image", 1, 56, 56), ("image", 1, 84, 112)), (("video", 6, 84, 56),)])
def test_a_loaded_qwen_gives_the_logits_of_transformers(qwen_folder, media):
    ours = load_model(qwen_folder)
    theirs = transformers.AutoModelForImageTextToText.from_pretrained(qwen_folder)
    prompt = make_prompt(ours.cfg, media)
    positions = {"position_ids": _torch(prompt.sample.positions[:, None])}
    expected = torch_logits(theirs, prompt, **positions)
    assert np.abs(expected).max() > 1
    np.testing.assert_allclose(our_logits(ours, prompt), expected, atol=1e-4)


def _torch(array):
    import torch

    return torch.tensor(array).long()


def test_names_in_module_style_load_as_well(tmp_path, qwen_folder):
    from sv_jax.weights.names import canonical

    module = rewritten(qwen_folder, tmp_path / "module", lambda t: {canonical(name, "qwen2_5_vl"): v for name, v in t.items()})
    assert "model.language_model.norm.weight" in open_folder(module)
    plain = leaves(load_model(qwen_folder))
    for path, value in leaves(load_model(module)).items():
        np.testing.assert_array_equal(value, plain[path])


def test_init_takes_every_tensor_of_both_folders_and_starts_as_qwen(tmp_path, qwen_folder):
    dino = save_dino(tmp_path / "dino", gated=True)
    init_model(qwen_folder, dino, FusionConfig(20, 4, 1), EXPERTS, tmp_path / "out", seed=7)
    made = open_folder(tmp_path / "out")
    for name, tensor in open_folder(qwen_folder).items():
        renamed = name.replace("visual.", "model.visual.").replace("model.layers", "model.language_model.layers")
        renamed = renamed.replace("model.embed", "model.language_model.embed").replace("model.norm", "model.language_model.norm")
        np.testing.assert_array_equal(made.pop(renamed).read(), tensor.read())
    for name, tensor in open_folder(dino).items():
        if name != "embeddings.mask_token":
            np.testing.assert_array_equal(made.pop("model.dinov3." + name.replace("layer.", "model.layer.", 1)).read(), tensor.read())
    assert all(any(part in name for part in ("lora_", "router", "geometry_merger", "feature_fusion")) for name in made)
    assert all(made[name].read().std() > 0.05 for name in made if "lora_A" in name or "mlp.0.weight" in name)
    fresh, plain = load_model(tmp_path / "out"), load_model(qwen_folder)
    np.testing.assert_allclose(our_logits(fresh, make_prompt(fresh.cfg)), our_logits(plain, make_prompt(plain.cfg)), atol=1e-5)


def test_dtype_converts_every_leaf(qwen_folder):
    plain = leaves(load_model(qwen_folder))
    for path, value in leaves(load_model(qwen_folder, dtype="bfloat16")).items():
        assert value.dtype == jnp.bfloat16
        np.testing.assert_array_equal(np.asarray(value), np.asarray(plain[path]).astype(ml_dtypes.bfloat16))
    with pytest.raises(UserError, match="dtype 'bfloat61' is not one of .*did you mean 'bfloat16'"):
        load_model(qwen_folder, dtype="bfloat61")


def test_leaves_lie_where_shardings_says_and_are_saved_from_there(tmp_path, qwen_folder):
    devices = jax.devices()[:2]
    mesh = jax.make_mesh((2,), ("fsdp",), axis_types=(jax.sharding.AxisType.Auto,), devices=devices)
    spec = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("fsdp"))
    asked = {}
    model = load_model(qwen_folder, shardings=lambda path, shape: asked.setdefault(path, (shape, spec))[1])
    for path, value in leaves(model).items():
        assert value.sharding == spec and asked[".".join(path)][0] == value.shape
        assert [s.data.shape[0] for s in value.addressable_shards] == [value.shape[0] // 2] * 2
    save_model(model, tmp_path / "out")
    same_tensors(qwen_folder, tmp_path / "out")


def test_a_model_that_its_config_does_not_describe_is_not_saved(tmp_path, spacevista_folder):
    model = with_router(load_model(spacevista_folder), "label")  # keeps the layer router's arrays
    with pytest.raises(AssertionError, match="text.layers.router.fc1.bias"):
        save_model(model, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_save_can_convert_the_dtype(tmp_path, qwen_folder):
    save_model(load_model(qwen_folder), tmp_path / "out", source=qwen_folder, dtype="bfloat16")
    assert {t.dtype.name for t in open_folder(tmp_path / "out").values()} == {"bfloat16"}
    assert str(transformers.AutoModelForImageTextToText.from_pretrained(tmp_path / "out").dtype) == "torch.bfloat16"


def test_a_tied_head_may_be_stored_again_only_if_it_is_equal(tmp_path):
    source = save_qwen(tmp_path / "tied", tied=True)
    embedding = "model.embed_tokens.weight"
    again = rewritten(source, tmp_path / "again", lambda t: t | {"lm_head.weight": t[embedding]})
    save_model(load_model(again), tmp_path / "out")
    same_tensors(source, tmp_path / "out")
    other = Tensor((96, 32), np.dtype(np.float32), lambda: np.ones((96, 32), np.float32))
    with pytest.raises(UserError, match="ties the head .* 'lm_head.weight' differs"):
        load_model(rewritten(source, tmp_path / "other", lambda t: t | {"lm_head.weight": other}))


def test_a_tensor_under_two_spellings_is_refused(tmp_path, qwen_folder):
    twice = rewritten(qwen_folder, tmp_path / "twice", lambda t: t | {"model.language_model.norm.weight": t["model.norm.weight"]})
    with pytest.raises(UserError, match="there twice"):
        load_model(twice)


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda t: {k: v for k, v in t.items() if k != "lm_head.weight"}, r"missing tensor 'lm_head.weight' \[96, 32\]"),
        (lambda t: t | {"lm_head.bias": t["model.norm.weight"]}, r"unexpected tensor 'lm_head.bias'"),
        (lambda t: t | {"model.norm.weight": t["lm_head.weight"]}, r"norm.weight' in .*model.safetensors has shape \[96, 32\], expected"),
    ],
    ids=["missing", "extra", "shape"],
)
def test_a_folder_that_does_not_fit_its_config_is_refused_in_one_line(tmp_path, qwen_folder, change, message):
    with pytest.raises(UserError, match=message) as error:
        load_model(rewritten(qwen_folder, tmp_path / "bad", change))
    assert "\n" not in str(error.value)


def test_an_unknown_model_type_is_named(tmp_path, qwen_folder):
    bad = Path(shutil.copytree(qwen_folder, tmp_path / "bad"))
    config = json.loads((bad / "config.json").read_text())
    (bad / "config.json").write_text(json.dumps(config | {"model_type": "qwen2_vl"}))
    with pytest.raises(UserError, match=r"config.json: model_type 'qwen2_vl' is not one of .*did you mean 'qwen2_5_vl'"):
        load_model(bad)
    (bad / "config.json").unlink()
    with pytest.raises(UserError, match=r"config.json: no such file"):
        load_model(bad)
    with pytest.raises(UserError, match="'.*nowhere' does not exist"):
        load_model(tmp_path / "nowhere")
    with pytest.raises(UserError, match="model 'nobody/nothing' is no local folder and could not be fetched"):
        load_model("nobody/nothing")


def test_init_refuses_folders_of_the_wrong_kind(tmp_path, qwen_folder, dino_folder):
    with pytest.raises(UserError, match="'dinov3_vit' is not one of"):
        init_model(dino_folder, dino_folder, None, None, tmp_path / "out")
    with pytest.raises(UserError, match="'qwen2_5_vl' is not one of dinov3_vit"):
        init_model(qwen_folder, qwen_folder, None, None, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_saving_keeps_one_layer_on_the_host(tmp_path):
    sizes = dict(hidden_size=256, intermediate_size=1024, num_hidden_layers=4, num_attention_heads=32, num_key_value_heads=16)
    source = save_qwen(tmp_path / "qwen", sizes=sizes, vision_sizes=dict(out_hidden_size=256))
    total = sum(t.nbytes for t in open_folder(source).values())
    model = load_model(source)
    tracemalloc.start()
    save_model(model, tmp_path / "out")
    saving = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert total > 15e6 and saving < 0.3 * total
