"""Messages to arrays, against what transformers' Qwen2_5_VLProcessor with Qwen2.5-VL's own chat template made of the same CASES.

That processor needs a torchvision built for the installed torch, so its answers are recorded: `processor_cases.json` holds the
decoded input_ids, the grids and times, `processor_videos.npz` every 97th feature of pixel_values_videos (frames need no resize in them:
torchvision and PIL differ there). Pictures are compared with transformers' PIL image processor itself.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from transformers import Qwen2VLImageProcessorPil

from sv_jax.errors import UserError
from sv_jax.inputs.chat import Processor, encode, render
from sv_jax.inputs.marks import COLORS

DATA = Path(__file__).parents[1] / "data"
RECORDED = json.loads((DATA / "processor_cases.json").read_text())["cases"]
VIDEOS = np.load(DATA / "processor_videos.npz")


def picture(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*shape, 3), dtype=np.uint8)


def text(words: str) -> dict:
    return {"type": "text", "text": words}


def image(seed: int, *shape: int) -> dict:
    return {"type": "image", "image": picture(seed, *shape)}


def video(seed: int, *shape: int, fps: float) -> dict:
    return {"type": "video", "video": picture(seed, *shape), "fps": fps}


def ask(*parts) -> list[dict]:
    return [{"role": "user", "content": list(parts)}]


CASES = {
    "text": ask(text("How tall is the red mug?")),
    "string": [{"role": "user", "content": "How far\nis it?"}],
    "image": ask(image(0, 56, 84), text("How tall is it?")),
    "two_images": ask(image(1, 70, 101), text("and"), image(2, 112, 56), text("Which one is larger?")),
    "video": ask(video(3, 4, 56, 56, fps=2.0), text("What is closer?")),
    "video_odd": ask(video(4, 5, 84, 56, fps=1.5), text("What is closer?")),
    "mixed": ask(image(5, 60, 60), video(6, 3, 56, 84, fps=0.75), text("Where?"), image(7, 90, 40)),
    "turns": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Left or right?"},
        {"role": "assistant", "content": "Left."},
        *ask(video(8, 2, 56, 56, fps=4.0), text("And now?")),
        {"role": "assistant", "content": [text("<think>moved</think><answer>right</answer>")]},
    ],
}


def media_of(messages: list[dict]) -> list[dict]:
    return [p for m in messages if not isinstance(m["content"], str) for p in m["content"] if p["type"] != "text"]


@pytest.mark.parametrize("name", CASES)
def test_a_conversation_equals_transformers_processor(processor, name):
    sample, recorded, media = encode(processor, CASES[name]), RECORDED[name], media_of(CASES[name])
    assert processor.tokenizer(recorded["text"], add_special_tokens=False)["input_ids"] == sample.tokens.tolist()
    by_kind = {kind: [i for i, p in enumerate(media) if p["type"] == kind] for kind in ("image", "video")}
    for kind, numbers in by_kind.items():
        assert [list(sample.grids[i]) for i in numbers] == recorded[f"{kind}_grid_thw"]
    seconds = [processor.prepare(media[i]).seconds_per_grid for i in by_kind["video"]]
    np.testing.assert_allclose(seconds, recorded["second_per_grid_ts"], rtol=1e-6)
    for i in by_kind["image"]:
        settings = {"min_pixels": processor.image_pixels[0], "max_pixels": processor.image_pixels[1]}
        expected = Qwen2VLImageProcessorPil(**settings)(media[i]["image"], return_tensors="np")["pixel_values"]
        np.testing.assert_array_equal(sample.patches[i], expected)
    if by_kind["video"]:
        videos = np.concatenate([sample.patches[i] for i in by_kind["video"]])
        np.testing.assert_allclose(videos[:, ::97], VIDEOS[name], atol=1e-6)
    assert sample.vision_tokens == sum(len(p) for p in sample.patches) // 4
    assert sample.positions.shape == (3, len(sample.tokens))


@pytest.mark.parametrize("name", CASES)
def test_the_template_also_numbers_pictures_as_qwens_does(processor, name):
    messages = CASES[name]
    opened = messages[-1]["role"] != "assistant"
    got = processor.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=opened, add_vision_id=True)
    assert got == RECORDED[name]["numbered"]


TOOLS = [{"type": "function", "function": {"name": "measure", "parameters": {"type": "object"}}}]
TOOL_TEMPLATE = """\
{%- if tools %}{{ '<|im_start|>system\nTools: ' ~ tools | map(attribute='function.name') | join(',') ~ '<|im_end|>\n' }}{% endif -%}
{%- for m in messages -%}
  {{- '<|im_start|>' ~ m.role ~ '\n' ~ m.content -}}
  {%- for call in m.tool_calls or [] %}{{ '<tool_call>' ~ call.function.name ~ '</tool_call>' }}{% endfor -%}
  {{- '<|im_end|>\n' -}}
{%- endfor -%}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif -%}"""


def test_tools_their_calls_and_the_system_prompt_go_through_the_tokenizers_own_template(processor):
    tokenizer = copy.deepcopy(processor.tokenizer)
    tokenizer.chat_template = TOOL_TEMPLATE
    call = {"role": "assistant", "content": "", "tool_calls": [{"type": "function", "function": {"name": "measure", "arguments": {}}}]}
    messages = [{"role": "user", "content": "How tall?"}, call, {"role": "tool", "content": "12 cm"}]
    sample = encode(dataclasses.replace(processor, tokenizer=tokenizer), messages, tools=TOOLS, target="12 cm")
    want = (
        "<|im_start|>system\nTools: measure<|im_end|>\n<|im_start|>user\nHow tall?<|im_end|>\n"
        "<|im_start|>assistant\n<tool_call>measure</tool_call><|im_end|>\n<|im_start|>tool\n12 cm<|im_end|>\n"
    )
    assert tokenizer.decode(sample.tokens) == want + "<|im_start|>assistant\n12 cm<|im_end|>\n"
    assert tokenizer.decode(sample.tokens[sample.weights > 0]) == "<tool_call>measure</tool_call><|im_end|>12 cm<|im_end|>"
    assert render(tokenizer, messages, TOOLS) == want + "<|im_start|>assistant\n"
    system = [{"role": "system", "content": "Be brief."}, *messages[:1]]
    assert render(tokenizer, system).startswith("<|im_start|>system\nBe brief.<|im_end|>")


def test_tools_that_would_be_dropped_are_refused(processor):
    with pytest.raises(UserError, match="tools: the tokenizer's chat template does not show them"):
        encode(processor, CASES["text"], tools=TOOLS)


def test_weights_are_on_the_assistants_words_and_their_end(processor):
    sample = encode(processor, CASES["turns"])
    said = processor.tokenizer.decode(sample.tokens[sample.weights > 0])
    assert said == "Left.<|im_end|><think>moved</think><answer>right</answer><|im_end|>"
    assert encode(processor, CASES["text"]).weights.sum() == 0


def test_target_is_the_assistants_turn(processor):
    prompt, sample = encode(processor, CASES["video"]), encode(processor, CASES["video"], target="<answer>A</answer>", scale="indoor")
    n = len(prompt.tokens)
    np.testing.assert_array_equal(sample.tokens[:n], prompt.tokens)
    np.testing.assert_array_equal(sample.positions[:, :n], prompt.positions)
    assert processor.tokenizer.decode(sample.tokens[n:]) == "<answer>A</answer><|im_end|>\n"
    assert sample.weights[n:].tolist() == [1.0] * (len(sample.tokens) - n - 1) + [0.0]
    assert (sample.scale, prompt.scale) == (2, -1)


def test_prepared_media_stand_in_for_pictures(processor):
    messages = CASES["mixed"]
    prepared = [{**p, p["type"]: processor.prepare(p)} if p["type"] != "text" else p for p in messages[0]["content"]]
    a, b = encode(processor, messages), encode(processor, ask(*prepared))
    np.testing.assert_array_equal(a.tokens, b.tokens)
    for x, y in zip(a.patches, b.patches, strict=True):
        np.testing.assert_array_equal(x, y)


def test_dino_patches_come_with_the_same_grid(processor):
    with_dino = dataclasses.replace(processor, dino=True)
    sample = encode(with_dino, CASES["mixed"])
    assert [d.shape for d in sample.dino_patches] == [(2, len(p), 768) for p in sample.patches]
    first = sample.dino_patches[0]
    np.testing.assert_array_equal(first[0], first[1])  # an image is its own second frame
    assert encode(processor, CASES["mixed"]).dino_patches is None


def test_alignment_is_read_from_the_config_and_squares_every_frame(model_folder, tmp_path):
    folder = shutil.copytree(model_folder, tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    official = {"dinov3_config": {"hidden_size": 8}, "spacevista": {"fusion": {"align": "official"}}}
    (folder / "config.json").write_text(json.dumps(config | official))
    sample = encode(Processor.from_folder(folder), CASES["mixed"])
    assert {grid[1:] for grid in sample.grids} == {(26, 26)} and sample.vision_tokens == sum(169 * t for t, _, _ in sample.grids)
    assert [d.shape for d in sample.dino_patches] == [(2, len(p), 768) for p in sample.patches]


def test_marks_are_drawn_on_the_resized_frames(processor):
    clip = np.zeros((2, 112, 112, 3), np.uint8)
    marked = {"type": "video", "video": clip, "fps": 2.0, "marks": [{"kind": "box", "xyxy": (0, 0, 112, 112), "frame": 1}]}
    plain, drawn = (encode(processor, ask(part, text("Where is the red box?"))) for part in ({**marked, "marks": []}, marked))
    changed = (plain.patches[0] != drawn.patches[0]).reshape(-1, 3, 2, 14, 14).any((1, 3, 4))
    assert not changed[:, 0].any() and changed[:, 1].sum() == 28, "the border patches of the second frame"
    assert COLORS["red"] == (255, 0, 0)


def test_pixel_limits_are_read_from_old_and_new_files(model_folder, tmp_path):
    def limits(**files):
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        folder.mkdir()
        for file in model_folder.iterdir():
            if file.name != "preprocessor_config.json":
                (folder / file.name).write_bytes(file.read_bytes())
        for name, content in files.items():
            (folder / f"{name}.json").write_text(json.dumps(content))
        read = Processor.from_folder(folder)
        return read.image_pixels, read.video_pixels

    sizes = {"shortest_edge": 784, "longest_edge": 7840}
    assert limits() == ((3136, 1003520), (100352, 602112))
    assert limits(preprocessor_config={"min_pixels": 784, "max_pixels": 1568}) == ((784, 1568), (784, 1568))
    assert limits(preprocessor_config={"size": sizes}) == ((784, 7840), (784, 7840))
    assert limits(preprocessor_config={}, video_preprocessor_config={"size": sizes})[1] == (784, 7840)
    new = {"image_processor": {"size": sizes}, "video_processor": {"size": {**sizes, "longest_edge": 999}}}
    assert limits(processor_config=new) == ((784, 7840), (784, 999))
    older = {"preprocessor_config": {"min_pixels": 1}, "video_preprocessor_config": {"min_pixels": 2}}
    assert limits(processor_config=new, **older) == ((784, 7840), (784, 999))


def test_a_template_in_chat_template_json_is_used(model_folder, tmp_path):
    for file in model_folder.iterdir():
        if file.name != "chat_template.jinja":
            (tmp_path / file.name).write_bytes(file.read_bytes())
    with pytest.raises(UserError, match="no chat template"):
        Processor.from_folder(tmp_path)
    (tmp_path / "chat_template.json").write_text(json.dumps({"chat_template": "{{ messages[0].content }}!"}))
    assert render(Processor.from_folder(tmp_path).tokenizer, [{"role": "user", "content": "hi"}]) == "hi!"


@pytest.mark.parametrize(
    ("messages", "message"),
    [
        ([], "messages: empty"),
        (ask(text("  ")), "question: empty"),
        (ask(image(0, 56, 56)), "question: empty"),
        ([{"role": "user", "content": ""}], "question: empty"),
        ([{"role": "usr", "content": "hi"}], r"messages\[0\] role 'usr' .* did you mean 'user'"),
        ([{"role": "user", "content": 3}], "content: expected text or a list of parts, found int"),
        (ask({"type": "vidoe"}), "did you mean 'video'"),
        (ask({"type": "image"}, text("hi")), "field 'image' is missing"),
        (ask({"type": "image", "image": "nowhere.png"}, text("hi")), "image 'nowhere.png': No such file"),
        (ask({"type": "video", "video": "nowhere.mp4"}, text("hi")), "video 'nowhere.mp4': no such file"),
        (ask({"type": "image", "image": np.zeros((4, 4, 3))}, text("hi")), r"image: expected uint8 \[H, W, 3\], found float64 \[4, 4, 3\]"),
        (ask({"type": "video", "video": picture(0, 56, 56)}, text("hi")), r"video: expected uint8 \[T, H, W, 3\]"),
        (ask(image(0, 1, 1), text("hi")), "image: 1 x 1 pixels"),
        (ask(image(0, 2, 20000), text("hi")), "image: frame of 20000 x 2 pixels: the sides may differ at most 200-fold"),
        (ask(video(0, 2, 1, 1, fps=2.0), text("hi")), "video: 1 x 1 pixels"),
        (ask(video(0, 0, 56, 56, fps=2.0), text("hi")), r"video: no frames in it, found uint8 \[0, 56, 56, 3\]"),
        (ask({"type": "video", "video": picture(0, 2, 56, 56), "fps": -1.0}, text("hi")), "video fps -1"),
        (ask({"type": "image", "image": 3}, text("hi")), "image: expected a path, a PIL image"),
        (ask(text("what is <|image_pad|>?")), "1 vision placeholders for 0 images"),
    ],
)
def test_bad_messages_are_one_line(processor, messages, message):
    with pytest.raises(UserError, match=message) as error:
        encode(processor, messages)
    assert "\n" not in str(error.value)


def test_an_unknown_scale_names_the_nearest(processor):
    with pytest.raises(UserError, match="did you mean 'indoor'"):
        encode(processor, CASES["text"], scale="indor")


def test_a_folder_without_a_model_is_one_line(tmp_path):
    with pytest.raises(UserError, match="no config.json"):
        Processor.from_folder(tmp_path)
