"""A small tokenizer and processor folder of Qwen2.5-VL's kind, for models trained from scratch."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

from sv_jax.errors import UserError
from sv_jax.inputs.processor import CLIP_MEAN, CLIP_STD, MERGE, PATCH, TEMPORAL

SPECIAL_TOKENS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
TAGS = tuple(f"<{slash}{tag}>" for tag in ("think", "answer", "semantic", "scale") for slash in ("", "/"))
# Qwen2's: words with at most one mark before them, single digits, runs of marks, line ends, blanks
SPLIT = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
# Renders what Qwen2.5-VL's own template renders.
CHAT_TEMPLATE = """\
{%- set seen = namespace(pictures=0, videos=0) -%}
{%- macro turn(role, body) %}{{ '<|im_start|>' ~ role ~ '\\n' ~ body ~ '<|im_end|>\\n' }}{% endmacro -%}
{%- if messages and messages[0].role != 'system' %}{{ turn('system', 'You are a helpful assistant.') }}{% endif -%}
{%- for message in messages -%}
  {%- set body = namespace(text='') -%}
  {%- if message.content is string -%}
    {%- set body.text = message.content -%}
  {%- else -%}
    {%- for part in message.content -%}
      {%- if part.type == 'image' or 'image' in part or 'image_url' in part -%}
        {%- set seen.pictures = seen.pictures + 1 -%}
        {%- if add_vision_id %}{% set body.text = body.text ~ 'Picture ' ~ seen.pictures ~ ': ' %}{% endif -%}
        {%- set body.text = body.text ~ '<|vision_start|><|image_pad|><|vision_end|>' -%}
      {%- elif part.type == 'video' or 'video' in part -%}
        {%- set seen.videos = seen.videos + 1 -%}
        {%- if add_vision_id %}{% set body.text = body.text ~ 'Video ' ~ seen.videos ~ ': ' %}{% endif -%}
        {%- set body.text = body.text ~ '<|vision_start|><|video_pad|><|vision_end|>' -%}
      {%- elif 'text' in part -%}
        {%- set body.text = body.text ~ part.text -%}
      {%- endif -%}
    {%- endfor -%}
  {%- endif -%}
  {{ turn(message.role, body.text) }}
{%- endfor -%}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif -%}
"""


def train_tokenizer(texts: Iterable[str], out_dir: str | os.PathLike, vocab_size: int = 768) -> None:
    """Train a byte-level BPE of at most vocab_size tokens, special tokens and answer tags included, and write a processor folder.

    Written: tokenizer.json, tokenizer_config.json, chat_template.jinja, preprocessor_config.json; `transformers.AutoProcessor` makes a
    Qwen2_5_VLProcessor of them. Raises UserError when vocab_size does not even hold the 256 bytes and the added tokens.
    """
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers
    from transformers import AddedToken, Qwen2Tokenizer

    added = len(SPECIAL_TOKENS) + len(TAGS)
    if vocab_size < 256 + added:
        raise UserError(f"vocab_size {vocab_size}: expected at least {256 + added}, the bytes and the added tokens")
    bpe = Tokenizer(models.BPE())
    split = pre_tokenizers.Split(Regex(SPLIT), behavior="isolated")
    bpe.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    # tags are cut out of the text, as they will be when it is read
    parts = (part for text in texts for part in _without_tags(text))
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    bpe.train_from_iterator(parts, trainers.BpeTrainer(vocab_size=vocab_size - added, initial_alphabet=alphabet, show_progress=False))
    model = json.loads(bpe.to_str())["model"]
    tokenizer = Qwen2Tokenizer(
        vocab=model["vocab"] | {token: len(model["vocab"]) + i for i, token in enumerate(SPECIAL_TOKENS)},
        merges=[tuple(m) for m in model["merges"]],
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        unk_token=None,
        extra_special_tokens=list(SPECIAL_TOKENS),
        chat_template=CHAT_TEMPLATE,
        model_max_length=131072,
    )
    tokenizer.add_tokens([AddedToken(tag, special=False, normalized=False) for tag in TAGS])
    settings = {
        "image_processor_type": "Qwen2VLImageProcessor",
        "processor_class": "Qwen2_5_VLProcessor",
        "min_pixels": 3136,
        "max_pixels": 12845056,
        "patch_size": PATCH,
        "temporal_patch_size": TEMPORAL,
        "merge_size": MERGE,
        "image_mean": CLIP_MEAN,
        "image_std": CLIP_STD,
    }
    out = Path(out_dir)
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out) as new:
        tokenizer.save_pretrained(new)
        (Path(new) / "preprocessor_config.json").write_text(json.dumps(settings, indent=2) + "\n")
        for file in sorted(Path(new).iterdir()):
            with open(file, "rb") as f:
                os.fsync(f.fileno())
            os.replace(file, out / file.name)


def _without_tags(text: str) -> list[str]:
    for tag in TAGS:
        text = text.replace(tag, "\0")
    return text.split("\0")
