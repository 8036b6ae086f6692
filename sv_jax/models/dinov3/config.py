"""Sizes of a DINOv3 ViT, read from and written to Hugging Face's `config.json`."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from sv_jax.errors import UserError


@dataclass(frozen=True)
class DINOv3Config:
    """Names and defaults are transformers' `DINOv3ViTConfig` (ViT-S/16)."""

    hidden_size: int = 384
    intermediate_size: int = 1536
    num_hidden_layers: int = 12
    num_attention_heads: int = 6
    patch_size: int = 16
    num_channels: int = 3
    num_register_tokens: int = 4
    hidden_act: str = "gelu"
    use_gated_mlp: bool = False
    query_bias: bool = True
    key_bias: bool = False
    value_bias: bool = True
    proj_bias: bool = True
    mlp_bias: bool = True
    layer_norm_eps: float = 1e-5
    rope_theta: float = 100.0

    @property
    def head_dim(self) -> int:
        return self.hidden_size // self.num_attention_heads

    def __post_init__(self):
        if self.hidden_size % (4 * self.num_attention_heads):
            raise UserError(
                f"dinov3 hidden_size {self.hidden_size} must be a multiple of 4 x num_attention_heads {self.num_attention_heads}"
            )
        if self.hidden_act not in ("gelu", "silu"):
            raise UserError(f"dinov3 hidden_act {self.hidden_act!r}: expected 'gelu' or 'silu'")

    @classmethod
    def from_hf(cls, hf: dict) -> DINOv3Config:
        rope = hf.get("rope_parameters") or {}
        data = {f.name: hf[f.name] for f in dataclasses.fields(cls) if hf.get(f.name) is not None}
        data["rope_theta"] = float(rope.get("rope_theta", hf.get("rope_theta", 100.0)))
        return cls(**data)

    def to_hf(self) -> dict:
        return {"model_type": "dinov3_vit", "architectures": ["DINOv3ViTModel"], **dataclasses.asdict(self)}
