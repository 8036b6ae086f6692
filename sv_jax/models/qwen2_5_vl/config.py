"""Sizes of Qwen2.5-VL, read from and written to Hugging Face's `config.json`."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

from sv_jax.errors import UserError, unknown

MROPE_RULES = ("max", "spatial")
ROPE_TYPES = ("default", "mrope")  # "yarn" and others scale the angles for prompts beyond what the weights were trained on


@dataclass(frozen=True)
class TextConfig:
    """The decoder. Names are transformers'."""

    vocab_size: int = 151936
    hidden_size: int = 2048
    intermediate_size: int = 11008
    num_hidden_layers: int = 36
    num_attention_heads: int = 16
    num_key_value_heads: int = 2
    rms_norm_eps: float = 1e-6
    rope_theta: float = 1e6
    mrope_section: tuple[int, ...] = (16, 24, 24)
    tie_word_embeddings: bool = False
    max_position_embeddings: int = 128000

    @property
    def head_dim(self) -> int:
        return self.hidden_size // self.num_attention_heads

    def __post_init__(self):
        if self.hidden_size % self.num_attention_heads:
            raise UserError(f"hidden_size {self.hidden_size} is not a multiple of num_attention_heads {self.num_attention_heads}")
        if self.num_attention_heads % self.num_key_value_heads:
            raise UserError(
                f"num_attention_heads {self.num_attention_heads} is not a multiple of num_key_value_heads {self.num_key_value_heads}"
            )
        if len(self.mrope_section) != 3 or 2 * sum(self.mrope_section) != self.head_dim:
            raise UserError(f"mrope_section {self.mrope_section}: expected three numbers, half the head size {self.head_dim} in all")


@dataclass(frozen=True)
class VisionConfig:
    """The vision tower. Defaults are transformers' class defaults, which the released 3B file relies on."""

    depth: int = 32
    hidden_size: int = 1280
    intermediate_size: int = 3420
    num_heads: int = 16
    in_channels: int = 3
    patch_size: int = 14
    spatial_merge_size: int = 2
    temporal_patch_size: int = 2
    tokens_per_second: int = 4
    window_size: int = 112
    out_hidden_size: int = 2048
    fullatt_block_indexes: tuple[int, ...] = (7, 15, 23, 31)

    @property
    def head_dim(self) -> int:
        return self.hidden_size // self.num_heads

    @property
    def patch_dim(self) -> int:
        return self.in_channels * self.temporal_patch_size * self.patch_size**2


@dataclass(frozen=True)
class QwenConfig:
    """A whole Qwen2.5-VL. `mrope` names the rule for positions after a video (`sv_jax.models.qwen2_5_vl.mrope`)."""

    text: TextConfig = field(default_factory=TextConfig)
    vision: VisionConfig = field(default_factory=VisionConfig)
    image_token_id: int = 151655
    video_token_id: int = 151656
    vision_start_token_id: int = 151652
    vision_end_token_id: int = 151653
    vision_token_id: int = 151654
    mrope: str = "max"

    def __post_init__(self):
        if self.mrope not in MROPE_RULES:
            raise unknown("mrope", self.mrope, MROPE_RULES)

    @property
    def vision_ids(self) -> tuple[int, ...]:
        """Token ids that stand for vision and are never sampled."""
        return (self.vision_start_token_id, self.vision_end_token_id, self.vision_token_id, self.image_token_id, self.video_token_id)

    @classmethod
    def from_hf(cls, hf: dict) -> QwenConfig:
        """Read `config.json` in any of its three forms: flat (released), `text_config` (4.52+), `rope_parameters` (5.x)."""
        text = {**hf, **hf.get("text_config", {})}
        rope = text.get("rope_parameters") or text.get("rope_scaling") or {}
        kind = rope.get("rope_type", rope.get("type", "default"))
        if kind not in ROPE_TYPES:
            raise unknown("config.json: rope type", kind, ROPE_TYPES)
        for name, only in (("hidden_act", "silu"), ("use_sliding_window", False)):
            if (found := text.get(name) or only) != only:
                raise UserError(f"config.json: {name} {found!r} is not supported, expected {only!r}")
        text = _known(TextConfig, text) | {"mrope_section": tuple(rope.get("mrope_section", TextConfig.mrope_section))}
        text["rope_theta"] = float(rope.get("rope_theta", hf.get("rope_theta", text.get("rope_theta", TextConfig.rope_theta))))
        text["tie_word_embeddings"] = bool(hf.get("tie_word_embeddings", text.get("tie_word_embeddings", False)))
        vision = dict(hf.get("vision_config", {}))
        vision["in_channels"] = vision.get("in_channels", vision.get("in_chans", 3))
        vision = _known(VisionConfig, vision)
        if "fullatt_block_indexes" in vision:
            vision["fullatt_block_indexes"] = tuple(vision["fullatt_block_indexes"])
        if "tokens_per_second" in vision:
            vision["tokens_per_second"] = int(vision["tokens_per_second"])
        return cls(TextConfig(**text), VisionConfig(**vision), **{k: v for k, v in _known(cls, hf).items() if k not in ("text", "vision")})

    def to_hf(self) -> dict:
        """The fields of `config.json` that this config owns, in the released flat form plus `vision_config`."""
        text = dataclasses.asdict(self.text)
        section = list(text.pop("mrope_section"))
        out = {k: v for k, v in dataclasses.asdict(self).items() if k not in ("text", "vision")}
        vision = dataclasses.asdict(self.vision)
        vision["fullatt_block_indexes"] = list(vision["fullatt_block_indexes"])
        vision["model_type"] = "qwen2_5_vl"
        return {
            "model_type": "qwen2_5_vl",
            "architectures": ["Qwen2_5_VLForConditionalGeneration"],
            **text,
            "rope_scaling": {"type": "mrope", "mrope_section": section},
            "hidden_act": "silu",
            **out,
            "vision_config": vision,
        }


def _known(cls, data: dict) -> dict:
    names = {f.name for f in dataclasses.fields(cls)}
    return {k: v for k, v in data.items() if k in names and v is not None}
