"""`sv_jax.load` on a tiny folder of random weights, against transformers running the folder's own torch code, on a real film."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
import transformers

import sv_jax
from sv_jax import api
from sv_jax.errors import UserError
from sv_jax.inputs.chat import Processor, encode
from sv_jax.models.spacevista.config import SCALES
from sv_jax.models.spacevista.model import with_router
from sv_jax.sampling.sampler import Samples
from sv_jax.weights.safetensors_io import open_folder

NEW = 12


@pytest.fixture(scope="module")
def ours(tiny_folder) -> api.Model:
    return sv_jax.load(tiny_folder)


@pytest.fixture(scope="module")
def theirs(tiny_folder):
    model, info = transformers.AutoModelForImageTextToText.from_pretrained(tiny_folder, trust_remote_code=True, output_loading_info=True)
    assert not any(info.values())
    return model.eval()


@pytest.fixture(scope="module")
def messages(film) -> list[dict]:
    clip = {"type": "video", "video": film, "num_frames": 4, "marks": [{"kind": "box", "xyxy": (300, 200, 700, 600)}]}
    return [{"role": "user", "content": [clip, {"type": "text", "text": "How tall is the red box?"}]}]


@pytest.fixture(scope="module")
def answered(ours, messages) -> tuple[api.Generation, list[str]]:
    pieces = []
    return ours.generate(messages, NEW, stream=pieces.append), pieces


def torch_inputs(model: api.Model, messages: list[dict]) -> dict:
    """What transformers' processor hands to the model; positions are left to the model."""
    s, cfg = encode(model.processor, messages), model.module.cfg.qwen
    kind = np.select([s.tokens == cfg.image_token_id, s.tokens == cfg.video_token_id], [1, 2])
    inputs = {"input_ids": s.tokens, "mm_token_type_ids": kind, "attention_mask": np.ones_like(s.tokens)}
    inputs = {key: torch.tensor(value[None]).long() for key, value in inputs.items()}
    if 2 in kind:
        media = [p for m in messages for p in m["content"] if p["type"] == "video"]
        seconds = [model.processor.prepare(p).seconds_per_grid for p in media]
        names = {"pixel_values_videos": np.concatenate(s.patches), "video_grid_thw": np.array(s.grids), "second_per_grid_ts": seconds}
    else:
        names = {"pixel_values": np.concatenate(s.patches), "image_grid_thw": np.array(s.grids)} if s.grids else {}
    return inputs | {key: torch.tensor(value) for key, value in names.items()}


def torch_logits(theirs, ours: api.Model, messages: list[dict], **extra) -> np.ndarray:
    with torch.no_grad():
        return theirs(**torch_inputs(ours, messages), **extra).logits[0].numpy()


def torch_generate(theirs, ours: api.Model, messages: list[dict], **extra):
    """Greedy, without the vision ids, which ours never samples: (token ids, the raw logits before each)."""
    out = theirs.generate(
        **torch_inputs(ours, messages),
        **extra,
        max_new_tokens=NEW,
        do_sample=False,
        eos_token_id=ours.processor.stop_ids,
        pad_token_id=0,
        suppress_tokens=list(ours.module.cfg.qwen.vision_ids),
        output_logits=True,
        return_dict_in_generate=True,
    )
    return out.sequences[0, -len(out.logits) :].tolist(), torch.stack(out.logits, 1)[0].numpy()


def test_the_package_offers_load_and_nothing_else():
    assert sv_jax.load is api.load
    with pytest.raises(AttributeError, match="no attribute 'laod'"):
        sv_jax.laod  # noqa: B018


def test_logits_of_a_real_film_equal_transformers(ours, theirs, messages):
    got = ours.logits(messages)
    assert got.dtype == np.float32 and got.shape == (len(encode(ours.processor, messages).tokens), 300)
    assert np.abs(got).max() > 2
    np.testing.assert_allclose(got, torch_logits(theirs, ours, messages), atol=1e-4)


@pytest.mark.parametrize("scale", ["indoor", "drone"])
def test_a_named_scale_takes_the_place_of_the_router(ours, theirs, messages, scale):
    got = ours.logits(messages, scale=scale)
    np.testing.assert_allclose(got, torch_logits(theirs, ours, messages, scale=scale), atol=1e-4)
    assert np.abs(got - ours.logits(messages)).max() > 0.1


def test_greedy_tokens_and_their_logprobs_equal_transformers(ours, theirs, messages, answered):
    tokens, logits = torch_generate(theirs, ours, messages)
    assert answered[0].token_ids == tokens and len(set(tokens)) > 3
    expected = torch.tensor(logits).log_softmax(-1)[range(NEW), tokens]
    np.testing.assert_allclose(answered[0].logprobs, expected, atol=1e-4)


def test_streamed_pieces_join_to_the_text(ours, answered):
    got, pieces = answered
    assert "".join(pieces) == got.text == ours.processor.decode(got.token_ids)
    assert len(pieces) > 2 and all(pieces)


@pytest.mark.parametrize("cut", ["\N{EURO SIGN}", "a\N{EURO SIGN}b"])
def test_a_character_is_streamed_whole_and_a_half_one_at_the_end(ours, cut):
    """The euro sign is three bytes, each a token here; the last token is left out."""
    tokens = ours.processor.tokenizer.encode(cut)[:-1]
    assert len(tokens) >= 2

    samples = Samples(*[None] * 5)

    def steps():
        for token in tokens:
            yield np.array([[token]], np.int32), np.array([[True]])
        yield np.zeros((1, 1), np.int32), np.array([[False]])  # a step after the end is no token
        return samples

    pieces = []
    assert ours._follow(steps(), pieces.append) == (tokens, samples)
    assert "".join(pieces) == ours.processor.decode(tokens)
    assert pieces == (["\ufffd"] if len(cut) == 1 else ["a", "\N{EURO SIGN}"])


def test_router_weights_are_the_mean_gates_of_the_tokens_read(ours, theirs, messages, answered):
    router = answered[0].router
    assert list(router) == ["0", "1", "mean"] and all(list(row) == list(SCALES[:4]) for row in router.values())
    assert all(sum(row.values()) == pytest.approx(1, abs=1e-5) for row in router.values())
    gates = []
    hooks = [m.register_forward_hook(lambda *a: gates.append(a[-1])) for n, m in theirs.named_modules() if n.endswith(".router")]
    theirs.generate(**torch_inputs(ours, messages), max_new_tokens=NEW, do_sample=False, eos_token_id=None, pad_token_id=0)
    for hook in hooks:
        hook.remove()
    layers = [torch.cat(gates[i::2], dim=1)[0].mean(0).numpy() for i in range(2)]
    for row, expected in zip(router.values(), [*layers, np.mean(layers, axis=0)], strict=True):
        np.testing.assert_allclose(list(row.values()), expected, atol=1e-5)


def test_generate_with_a_scale_uses_its_expert_alone(ours, theirs, messages, answered):
    got = ours.generate(messages, NEW, scale="indoor")
    assert got.token_ids == torch_generate(theirs, ours, messages, scale="indoor")[0] != answered[0].token_ids
    assert all(row == {"tiny": 0, "tabletop": 0, "indoor": 1, "outdoor": 0} for row in got.router.values())


def test_generation_ends_with_a_stop_token(ours, messages, answered, monkeypatch):
    tokens = answered[0].token_ids
    end = next(i for i in range(3, NEW) if tokens[i] not in tokens[:i])
    monkeypatch.setattr(Processor, "stop_ids", [tokens[end]])
    got = ours.generate(messages, NEW)
    assert got.token_ids == tokens[: end + 1] and len(got.logprobs) == end + 1


def test_sampling_depends_on_the_seed_alone(ours, messages, answered):
    draw = lambda seed: ours.generate(messages, NEW, temperature=1.5, top_p=0.9, seed=seed).token_ids  # noqa: E731
    assert draw(1) == draw(1) != draw(2) != answered[0].token_ids


def test_what_cannot_be_asked_is_said_in_one_line(ours, messages, film):
    with pytest.raises(UserError, match="scale 'indor' is not one of auto, .*did you mean 'indoor'") as error:
        ours.generate(messages, scale="indor")
    assert "\n" not in str(error.value)
    with pytest.raises(UserError, match="question: empty"):
        ours.logits([{"role": "user", "content": [{"type": "video", "video": film}, {"type": "text", "text": " "}]}])
    by_label = dataclasses.replace(ours, module=with_router(ours.module, "label"))
    with pytest.raises(UserError, match="scale 'auto': the model's router is 'label'.*expected one of tiny"):
        by_label.logits(messages)
    np.testing.assert_array_equal(by_label.logits(messages, scale="tiny"), ours.logits(messages, scale="tiny"))


def test_export_writes_the_same_model_again(tmp_path, ours, tiny_folder):
    ours.export(tmp_path / "again")
    before, after = open_folder(tiny_folder), open_folder(tmp_path / "again")
    assert set(before) == set(after)
    for name, tensor in before.items():
        np.testing.assert_array_equal(tensor.read(), after[name].read(), err_msg=name)


def test_a_plain_qwen_folder_loads_and_has_no_router(tmp_path, ours):
    ours.export(tmp_path / "qwen", as_="qwen", scale="tiny")
    plain = sv_jax.load(str(tmp_path / "qwen"))
    reference = transformers.Qwen2_5_VLForConditionalGeneration.from_pretrained(tmp_path / "qwen").eval()
    picture = np.random.default_rng(0).integers(0, 256, (60, 90, 3), np.uint8)
    messages = [{"role": "user", "content": [{"type": "image", "image": picture}, {"type": "text", "text": "What is this?"}]}]
    np.testing.assert_allclose(plain.logits(messages), torch_logits(reference, plain, messages), atol=1e-4)
    got = plain.generate(messages, NEW)
    assert got.router is None and got.token_ids == torch_generate(reference, plain, messages)[0]


def test_a_model_spread_over_eight_devices_gives_the_same_logits(ours, tiny_folder, messages):
    spread = sv_jax.load(tiny_folder, mesh="fsdp=8")
    assert len(spread.module.text.layers.attn.q.kernel[...].sharding.device_set) == 8
    np.testing.assert_allclose(spread.logits(messages), ours.logits(messages), atol=1e-4)
