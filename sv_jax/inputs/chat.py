"""Chat messages to a `Sample`, as transformers' Qwen2_5_VLProcessor and the tokenizer's own chat template make it."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sv_jax.errors import UserError, unknown
from sv_jax.inputs.media import NO_COMPAT, Compat, Media, outline, prepare
from sv_jax.inputs.packing import Sample
from sv_jax.models.qwen2_5_vl.config import QwenConfig
from sv_jax.models.qwen2_5_vl.mrope import position_ids
from sv_jax.models.spacevista.config import SCALES

ROLES = ("system", "user", "assistant", "tool")
PARTS = ("text", "image", "video")
PIXELS = {"image": (56 * 56, 28 * 28 * 1280), "video": (128 * 28 * 28, 28 * 28 * 768)}  # transformers' class defaults


@dataclass(frozen=True)
class Processor:
    """What turns messages into arrays: the tokenizer, the model's ids, and the least and most pixels of a frame."""

    tokenizer: Any
    cfg: QwenConfig
    image_pixels: tuple[int, int] = PIXELS["image"]
    video_pixels: tuple[int, int] = PIXELS["video"]
    dino: bool = False  # also cut DINOv3's patches
    align: str = "grid"  # as in `FusionConfig`
    compat: Compat = NO_COMPAT

    @classmethod
    def from_folder(cls, path: str | os.PathLike, compat: Compat = NO_COMPAT) -> Processor:
        """Read a model folder: config.json, tokenizer, chat template, and the processor's settings in their old or new files."""
        from transformers import AutoTokenizer, Qwen2_5_VLConfig

        folder = Path(path)
        config = _json(folder / "config.json")
        if config is None:
            raise UserError(f"model {str(path)!r}: no config.json there; expected a Hugging Face model folder")
        try:
            # told whose tokenizer it is, it does not turn to the folder's torch code
            tokenizer = AutoTokenizer.from_pretrained(folder, config=Qwen2_5_VLConfig())
        except (OSError, ValueError, KeyError) as error:
            raise UserError(f"model {str(path)!r}: no usable tokenizer ({str(error).splitlines()[0]})") from None
        template = _json(folder / "chat_template.json")
        if template and not (folder / "chat_template.jinja").exists():
            tokenizer.chat_template = template["chat_template"]
        if not tokenizer.chat_template:
            raise UserError(f"model {str(path)!r}: the tokenizer has no chat template (chat_template.jinja or chat_template.json)")
        pixels = {f"{kind}_pixels": _pixels(folder, kind) for kind in PIXELS}
        align = ((config.get("spacevista") or {}).get("fusion") or {}).get("align", "grid")
        dino = bool(config.get("dinov3_config"))
        return cls(tokenizer, QwenConfig.from_hf(config), **pixels, dino=dino, align=align, compat=compat)

    def prepare(self, part: dict) -> Media:
        """Patches of an image or video part (`sv_jax.inputs.media.prepare`); put the result in the part's place to prepare it only once."""
        pixels = self.image_pixels if part["type"] == "image" else self.video_pixels
        return prepare(part, pixels, self.dino, self.align, self.compat)

    def outline(self, shape: tuple[int, int, int], fps: float) -> Media:
        """What `prepare` makes of a video of (T, H, W) frames, without its patches: enough for a sample's tokens and positions."""
        return outline(shape, fps, self.video_pixels, self.dino, self.align, self.compat)

    @property
    def stop_ids(self) -> list[int]:
        """<|im_end|> and <|endoftext|>: a completion ends with either."""
        return self.tokenizer.convert_tokens_to_ids(["<|im_end|>", "<|endoftext|>"])

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of a completion, without special tokens."""
        return self.tokenizer.decode(list(tokens), skip_special_tokens=True)


def encode(
    processor: Processor,
    messages: Sequence[dict],
    *,
    tools: Sequence[dict] | None = None,
    target: str | None = None,
    scale: str | None = None,
) -> Sample:
    """Arrays of a conversation.

    messages: [{"role", "content": str or parts}], parts as in transformers; `sv_jax.inputs.media.prepare` describes pictures.
    tools: JSON schemas of what the assistant may call, for templates that show them; its calls are `tool_calls` of a message.
    target: the answer to learn, appended as the assistant's turn. Assistant turns carry loss weight 1, their <|im_end|> included.
    A conversation that ends with the user or a tool is a prompt: the assistant's turn is opened. scale: the sample's scale label.
    Raises UserError for malformed or empty messages.
    """
    if target is not None:
        messages = [*messages, {"role": "assistant", "content": target}]
    check_messages(messages)
    if scale is not None and scale not in SCALES:
        raise unknown("scale", scale, SCALES)
    media = [processor.prepare(p) for m in messages if not isinstance(m["content"], str) for p in m["content"] if p["type"] != "text"]
    text = render(processor.tokenizer, messages, tools)
    tokens = expand(processor.tokenizer(text, add_special_tokens=False)["input_ids"], media, processor.cfg)
    grids = tuple(m.grid for m in media)
    return Sample(
        tokens=tokens,
        positions=position_ids(tokens, grids, [m.seconds_per_grid for m in media], processor.cfg),
        is_vision=np.isin(tokens, (processor.cfg.image_token_id, processor.cfg.video_token_id)),
        weights=assistant_weights(processor.tokenizer, tokens),
        grids=grids,
        patches=tuple(m.patches for m in media),
        dino_patches=tuple(m.dino_patches for m in media) if processor.dino else None,
        scale=-1 if scale is None else SCALES.index(scale),
    )


def render(tokenizer, messages: Sequence[dict], tools: Sequence[dict] | None = None) -> str:
    """The conversation as text by the tokenizer's own template, one placeholder per picture; the assistant's turn is opened when the user
    or a tool spoke last."""
    if tools and "tools" not in tokenizer.get_chat_template(tools=tools):
        raise UserError("tools: the tokenizer's chat template does not show them to the model; leave them out or give it one that does")
    # the template only looks at a part's type and text; pictures are kept from it, it would copy them
    bare = [m if isinstance(m["content"], str) else {**m, "content": [_bare(p) for p in m["content"]]} for m in messages]
    opened = messages[-1]["role"] != "assistant"
    return tokenizer.apply_chat_template(bare, tools=tools, tokenize=False, add_generation_prompt=opened)


def expand(token_ids: Sequence[int], media: Sequence[Media], cfg: QwenConfig) -> np.ndarray:
    """Repeat each picture's placeholder once per merged vision token: i32 [T]. Raises UserError when text holds placeholders of its own."""
    tokens = np.asarray(token_ids, np.int32)
    places = np.flatnonzero((tokens == cfg.image_token_id) | (tokens == cfg.video_token_id))
    expected = [cfg.image_token_id if m.kind == "image" else cfg.video_token_id for m in media]
    if tokens[places].tolist() != expected:
        raise UserError(f"messages: {len(places)} vision placeholders for {len(media)} images and videos; leave <|…_pad|> out of the text")
    repeats = np.ones(len(tokens), int)
    repeats[places] = [np.prod(m.grid) // cfg.vision.spatial_merge_size**2 for m in media]
    return np.repeat(tokens, repeats)


def assistant_weights(tokenizer, tokens: np.ndarray) -> np.ndarray:
    """f32 [T]: 1 on what the assistant says, its closing <|im_end|> included, 0 elsewhere."""
    head = np.array(tokenizer.encode("<|im_start|>assistant\n", add_special_tokens=False))
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    weights = np.zeros(len(tokens), np.float32)
    for start in np.flatnonzero(tokens == head[0]) + len(head):
        if np.array_equal(tokens[start - len(head) : start], head):
            stops = np.flatnonzero(tokens[start:] == end)
            weights[start : start + stops[0] + 1 if len(stops) else start] = 1
    return weights


def check_messages(messages: Sequence[dict]) -> None:
    """Raise UserError for an unknown role or part, a part without its content, or a last user turn that asks nothing."""
    if not messages:
        raise UserError("messages: empty; expected at least one turn")
    for i, message in enumerate(messages):
        where = f"messages[{i}]"
        if not isinstance(message, dict) or message.get("role") not in ROLES:
            raise unknown(f"{where} role", message.get("role") if isinstance(message, dict) else message, ROLES)
        content = message.get("content")
        if isinstance(content, str):
            continue
        if not isinstance(content, list | tuple):
            raise UserError(f"{where} content: expected text or a list of parts, found {type(content).__name__}")
        for part in content:
            kind = part.get("type") if isinstance(part, dict) else part
            if kind not in PARTS:
                raise unknown(f"{where} part type", kind, PARTS)
            if part.get(kind) is None:
                raise UserError(f"{where} {kind} part: field {kind!r} is missing")
    users = [m for m in messages if m["role"] == "user"]
    if not users or not _text(users[-1]).strip():
        raise UserError("question: empty; expected text in the last user turn")


def _text(message: dict) -> str:
    content = message["content"]
    return content if isinstance(content, str) else "".join(p["text"] for p in content if p["type"] == "text")


def _bare(part: dict) -> dict:
    return {"type": "text", "text": part["text"]} if part["type"] == "text" else {"type": part["type"]}


def _pixels(folder: Path, kind: str) -> tuple[int, int]:
    """Least and most pixels of a frame, from processor_config.json (transformers 5) or older files; a video falls back on the image's."""
    nested = (_json(folder / "processor_config.json") or {}).get(f"{kind}_processor")
    own = _json(folder / "video_preprocessor_config.json") if kind == "video" else None
    settings = nested or own or _json(folder / "preprocessor_config.json") or {}
    size = {"shortest_edge": PIXELS[kind][0], "longest_edge": PIXELS[kind][1], **(settings.get("size") or {})}
    return int(settings.get("min_pixels") or size["shortest_edge"]), int(settings.get("max_pixels") or size["longest_edge"])


def _json(path: Path) -> dict | None:
    if not path.exists():
        return None
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not readable as JSON ({error})") from None
