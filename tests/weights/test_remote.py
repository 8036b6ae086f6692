"""The exported torch code on transformers' own classes against our model, on weights that are random everywhere."""

from __future__ import annotations

import copy
import dataclasses
import json
import shutil

import numpy as np
import pytest
import torch
import transformers
from flax import nnx

from sv_jax.models.spacevista.config import ExpertsConfig, FusionConfig, XLoRAConfig
from sv_jax.models.spacevista.model import with_router
from sv_jax.sampling.choose import sampling
from sv_jax.sampling.sampler import SamplerConfig, sample
from sv_jax.weights.exports import export
from sv_jax.weights.load import load_model, save_model
from tests.tiny import random_model
from tests.weights.conftest import make_prompt, our_logits, torch_logits


def load_torch(folder):
    model, report = transformers.AutoModelForImageTextToText.from_pretrained(folder, trust_remote_code=True, output_loading_info=True)
    assert not any(report.values()), report
    return model.eval()


@pytest.fixture(scope="module")
def exported(tmp_path_factory, spacevista_folder):
    folder = tmp_path_factory.mktemp("exported") / "model"
    export(spacevista_folder, folder, as_="spacevista")
    return folder


@pytest.fixture(scope="module")
def pair(exported):
    return load_model(exported), load_torch(exported)


def rerouted(folder, out, router: str):
    """A copy of the folder whose config names another router, which has no tensors of its own."""
    model = with_router(load_model(folder), router)
    model.text.layers.router = None
    save_model(model, out)
    return out


def longer(prompt, made: np.ndarray):
    """The prompt with a completion behind it, which continues at the last prompt position + 1."""
    s, r = prompt.sample, len(made)
    joined = dataclasses.replace(
        s,
        tokens=np.concatenate([s.tokens, made]).astype(np.int32),
        positions=np.concatenate([s.positions, s.positions[:, -1:] + 1 + np.arange(r)], axis=1).astype(np.int32),
        is_vision=np.pad(s.is_vision, (0, r)),
        weights=np.ones(len(s.tokens) + r, np.float32),
    )
    return dataclasses.replace(prompt, sample=joined)


ROWS = ("input_ids", "mm_token_type_ids", "attention_mask")
MEDIA = {
    "text": (),
    "image": (("image", 1, 56, 84),),
    "video": (("video", 6, 84, 56),),
    "mixed": (("image", 1, 56, 84), ("video", 4, 84, 56), ("image", 1, 112, 56), ("video", 2, 56, 56)),
}


@pytest.mark.parametrize("media", MEDIA)
def test_logits_equal_ours_with_fusion_experts_and_layer_router(pair, media):
    ours, theirs = pair
    prompt = make_prompt(ours.cfg, MEDIA[media])
    expected = our_logits(ours, prompt)
    assert np.abs(expected).max() > 1
    np.testing.assert_allclose(torch_logits(theirs, prompt), expected, atol=1e-4)


@pytest.mark.parametrize("part", ["dinov3", "geometry_merger", "feature_fusion", "lora_B", "router"])
def test_the_logits_depend_on_every_part(pair, part):
    ours, theirs = pair
    theirs = copy.deepcopy(theirs)
    prompt = make_prompt(ours.cfg)
    before = torch_logits(theirs, prompt)
    with torch.no_grad():
        for name, p in theirs.named_parameters():
            if part in name:
                p.mul_(0.5)
    assert np.abs(torch_logits(theirs, prompt) - before).max() > 1e-3


@pytest.mark.parametrize("rule", ["max", "spatial"])
def test_positions_follow_the_rule_of_the_config(tmp_path, exported, rule):
    folder = shutil.copytree(exported, tmp_path / rule)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"mrope": rule}))
    ours, theirs = load_model(folder), load_torch(folder)
    prompt = make_prompt(ours.cfg, (("video", 12, 56, 56), ("image", 1, 56, 84), ("video", 8, 56, 56)))
    names = ("input_ids", "mm_token_type_ids", "image_grid_thw", "video_grid_thw", "second_per_grid_ts", "attention_mask")
    positions, _ = theirs.model.get_rope_index(**{name: prompt.torch_inputs[name] for name in names})
    np.testing.assert_array_equal(positions[:, 0].numpy(), prompt.sample.positions)
    np.testing.assert_allclose(torch_logits(theirs, prompt), our_logits(ours, prompt), atol=1e-4)


def test_a_padded_row_has_the_positions_of_the_row_alone(pair):
    ours, theirs = pair
    inputs = make_prompt(ours.cfg).torch_inputs
    names = ("image_grid_thw", "video_grid_thw", "second_per_grid_ts")
    rows = {name: inputs[name] for name in ROWS}
    alone, delta = theirs.model.get_rope_index(**rows, **{name: inputs[name] for name in names})
    padded = {name: torch.nn.functional.pad(value, (3, 0)) for name, value in rows.items()}
    shifted, padded_delta = theirs.model.get_rope_index(**padded, **{name: inputs[name] for name in names})
    assert torch.equal(shifted[:, :, 3:], alone) and torch.equal(delta, padded_delta)


MODEL_WISE = XLoRAConfig(depth=3, layerwise=False, softmax=False, top_k=2, softmax_topk=True)
VARIANTS = {
    "add": (FusionConfig(20, method="add", merger="avg"), ExpertsConfig(3, 4, router="prompt", router_hidden_size=6, temperature=0.3)),
    "concat": (FusionConfig(20, method="concat"), ExpertsConfig(3, 4, router="xlora", router_hidden_size=6, temperature=0.3)),
    "gated": (FusionConfig(20, method="gated"), ExpertsConfig(3, 4, router="xlora", router_hidden_size=6, xlora=MODEL_WISE)),
    "weighted": (
        FusionConfig(20, method="weighted", align="official"),
        ExpertsConfig(6, 4, alpha=2.0, router="sum"),
    ),  # a large sum only amplifies rounding
}


@pytest.mark.parametrize("method", VARIANTS)
def test_every_fusion_and_router_equals_ours_with_and_without_a_cache(tmp_path, exported, method):
    fusion, experts = VARIANTS[method]
    model = random_model(dataclasses.replace(load_model(exported).cfg, fusion=fusion, experts=experts))
    if method == "weighted":
        model.fusion.weight_2d[...], model.fusion.weight_3d[...] = np.float32([0.5]), np.float32([0.3])
    save_model(model, tmp_path / "model")
    ours, theirs = load_model(tmp_path / "model"), load_torch(tmp_path / "model")
    prompt = make_prompt(ours.cfg)
    n = len(prompt.sample.tokens)
    how = {"max_new_tokens": 5, "do_sample": False, "eos_token_id": None, "use_cache": True}
    out = theirs.generate(**prompt.torch_inputs, **how, output_logits=True, return_dict_in_generate=True)
    expected = our_logits(ours, longer(prompt, out.sequences[0, n:].numpy()), asked=n - 1)
    np.testing.assert_allclose(torch_logits(theirs, prompt), expected[:n], atol=1e-4)
    np.testing.assert_allclose(torch.cat(out.logits), expected[n - 1 : -1], atol=1e-4)
    if fusion.align == "official":
        with torch.no_grad(), pytest.raises(ValueError, match="420 x 420 frames are missing; give dino_pixel_values"):
            theirs(**{k: v for k, v in prompt.torch_inputs.items() if "dino" not in k})
    padded = {name: torch.nn.functional.pad(prompt.torch_inputs[name], (3, 0)) for name in ROWS}
    with torch.no_grad():
        np.testing.assert_allclose(theirs(**(prompt.torch_inputs | padded)).logits[0, 3:], expected[:n], atol=1e-4)


def test_a_cache_that_one_scales_expert_has_filled_is_not_read_by_xlora(tmp_path, exported):
    model = random_model(dataclasses.replace(load_model(exported).cfg, experts=VARIANTS["concat"][1]))
    save_model(model, tmp_path / "model")
    theirs, ids = load_torch(tmp_path / "model"), torch.arange(3, 8)[None]
    with torch.no_grad(), pytest.raises(ValueError, match="filled without the router `xlora`"):
        theirs(input_ids=ids, past_key_values=theirs(input_ids=ids, scale="tiny", use_cache=True).past_key_values)


@pytest.mark.parametrize("router", ["label", "uniform"])
def test_the_other_routers_equal_ours(tmp_path, exported, router):
    folder = rerouted(exported, tmp_path / router, router)
    ours, theirs = load_model(folder), load_torch(folder)
    prompt = make_prompt(ours.cfg, scale="outdoor")
    extra = {"scale": "outdoor"} if router == "label" else {}
    np.testing.assert_allclose(torch_logits(theirs, prompt, **extra), our_logits(ours, prompt), atol=1e-4)


def test_the_scale_argument_puts_one_scales_expert_in_place_of_the_router(tmp_path, pair, exported):
    _, theirs = pair
    by_label = load_model(rerouted(exported, tmp_path / "label", "label"))
    for scale in ("tiny", "drone"):
        prompt = make_prompt(by_label.cfg, scale=scale)
        np.testing.assert_allclose(torch_logits(theirs, prompt, scale=scale), our_logits(by_label, prompt), atol=1e-4)
        np.testing.assert_allclose(torch_logits(theirs, prompt, scale=[scale]), our_logits(by_label, prompt), atol=1e-4)
    with pytest.raises(ValueError, match="scale 'indor': expected one of tiny"):
        torch_logits(theirs, prompt, scale="indor")


@pytest.mark.parametrize("media, scale", [("text", None), ("image", None), ("video", None), ("mixed", "tiny")])
def test_generate_with_a_cache_gives_the_tokens_of_our_sampler(tmp_path, pair, exported, media, scale):
    ours, theirs = pair
    if scale:
        ours = load_model(rerouted(exported, tmp_path / "label", "label"))
    prompt = make_prompt(ours.cfg, MEDIA[media], scale=scale or "indoor")
    extra = {"scale": scale} if scale else {}
    how = {
        "max_new_tokens": 32,
        "do_sample": False,
        "eos_token_id": None,
        "use_cache": True,
        "suppress_tokens": list(ours.cfg.qwen.vision_ids),
    }
    made = theirs.generate(**prompt.torch_inputs, **extra, **how)[0, len(prompt.sample.tokens) :].tolist()
    out = sample(ours, prompt.batch(ours.cfg), 1, sampling(1, stop=[], temperature=0.0), SamplerConfig(max_new_tokens=32))
    assert np.asarray(out.tokens)[0, 0].tolist() == made and len(made) == 32
    assert len(set(made)) > 6  # no monologue


def test_what_transformers_saves_again_loads_here(tmp_path, pair, exported):
    ours, theirs = pair
    theirs.save_pretrained(tmp_path / "again")
    again = load_model(tmp_path / "again")
    assert again.cfg == ours.cfg
    for (path, value), (_, other) in zip(*(nnx.to_flat_state(nnx.state(m)) for m in (ours, again)), strict=True):
        np.testing.assert_array_equal(value[...], other[...], err_msg=str(path))


def test_dino_stays_in_eval_mode_when_the_model_trains(pair):
    _, theirs = pair
    assert theirs.train().model.feature_fusion.training and not theirs.model.dinov3.training
    theirs.eval()
