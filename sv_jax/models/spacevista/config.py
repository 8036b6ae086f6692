"""Sizes of a whole SpaceVista model: Qwen2.5-VL, and, each optional, DINOv3 with its fusion, and the scale experts."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

from sv_jax.errors import UserError, unknown
from sv_jax.models.dinov3.config import DINOv3Config
from sv_jax.models.qwen2_5_vl.config import QwenConfig

SCALES = ("tiny", "tabletop", "indoor", "outdoor", "drone")
ROUTERS = ("label", "layer", "prompt", "xlora", "uniform", "sum")
PROJECTIONS = ("q", "k", "v", "o", "gate", "up", "down")
FUSIONS = ("cross_attention", "add", "concat", "gated", "weighted")
MERGERS = ("mlp", "avg")
ALIGNS = ("grid", "official")


@dataclass(frozen=True)
class FusionConfig:
    """Eq. 1. Names follow the released code (`geometry_merger`, `feature_fusion`). `num_heads` and `num_blocks` shape `cross_attention`."""

    merger_hidden_size: int = 2048
    num_heads: int = 8
    num_blocks: int = 1
    method: str = "cross_attention"
    merger: str = "mlp"  # 2x2 patches are normalised and joined, or averaged
    align: str = "grid"  # DINOv3 sees Qwen's frame on Qwen's patch grid, or each its own padded square (`sv_jax/inputs/processor.py`)

    def __post_init__(self):
        for name, known in (("method", FUSIONS), ("merger", MERGERS), ("align", ALIGNS)):
            if getattr(self, name) not in known:
                raise unknown(f"fusion {name}", getattr(self, name), known)


@dataclass(frozen=True)
class XLoRAConfig:
    """PEFT's X-LoRA classifier, which the router `xlora` is; its width and temperature are those of `ExpertsConfig`. The released code has
    depth 8 with torch's initialisation: its gates hardly depend on the input when training begins."""

    depth: int = 2  # linear layers, ReLU between
    layerwise: bool = True  # a gate for each projection of each layer, else one for the whole model
    softmax: bool = True  # else the gates are the logits themselves
    top_k: int | None = None  # experts that keep their gate; that of the others becomes 0
    softmax_topk: bool = False  # a softmax over the gates that are kept

    def __post_init__(self):
        for name in ("depth", "top_k"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise UserError(f"xlora {name} {value}: expected at least 1")


@dataclass(frozen=True)
class ExpertsConfig:
    """Eq. 2. `num_experts` 0: none, plain Qwen2.5-VL; 4: drone shares the outdoor expert; 5: one each."""

    num_experts: int = 4
    rank: int = 8
    alpha: float = 16.0
    router: str = "layer"
    router_hidden_size: int = 64  # of `layer`, `prompt` and `xlora`
    temperature: float = 1.0  # of their softmax
    xlora: XLoRAConfig = XLoRAConfig()

    def __post_init__(self):
        if self.router not in ROUTERS:
            raise unknown("router", self.router, ROUTERS)
        if self.num_experts < 0:
            raise UserError(f"num_experts {self.num_experts}: expected 0 (none) or more")
        if self.xlora.top_k is not None and self.xlora.top_k > self.num_experts:
            raise UserError(f"xlora top_k {self.xlora.top_k}: expected at most num_experts {self.num_experts}")

    @classmethod
    def from_hf(cls, fields: dict) -> ExpertsConfig:
        return cls(**{**fields, "xlora": XLoRAConfig(**fields.get("xlora", {}))})

    @property
    def scaling(self) -> float:
        return self.alpha / self.rank

    @property
    def names(self) -> tuple[str, ...]:
        """The scale that each expert is named after."""
        return tuple(SCALES[e] if e < len(SCALES) else f"extra{e - len(SCALES)}" for e in range(self.num_experts))

    def expert_of(self, scale: str) -> int:
        """Index of the expert that owns a scale; scales beyond the last expert share it."""
        if scale not in SCALES:
            raise unknown("scale", scale, SCALES)
        return min(SCALES.index(scale), self.num_experts - 1)


@dataclass(frozen=True)
class SpaceVistaConfig:
    """Without `dino` and `experts` this is Qwen2.5-VL."""

    qwen: QwenConfig = field(default_factory=QwenConfig)
    dino: DINOv3Config | None = None
    fusion: FusionConfig | None = None
    experts: ExpertsConfig | None = None

    def __post_init__(self):
        if (self.dino is None) != (self.fusion is None):
            raise UserError("dino and fusion go together: give both or neither")
        if self.experts is not None and self.experts.num_experts == 0:
            object.__setattr__(self, "experts", None)

    @classmethod
    def from_hf(cls, hf: dict) -> SpaceVistaConfig:
        extra = hf.get("spacevista", {})
        return cls(
            QwenConfig.from_hf(hf),
            DINOv3Config.from_hf(hf["dinov3_config"]) if hf.get("dinov3_config") else None,
            FusionConfig(**extra["fusion"]) if extra.get("fusion") else None,
            ExpertsConfig.from_hf(extra["experts"]) if extra.get("experts") else None,
        )

    def to_hf(self) -> dict:
        out = self.qwen.to_hf()
        if self.dino is None and self.experts is None:
            return out
        return out | {
            "model_type": "spacevista",
            "architectures": ["SpaceVistaForConditionalGeneration"],
            "auto_map": {
                "AutoConfig": "modeling_spacevista.SpaceVistaConfig",
                "AutoModelForImageTextToText": "modeling_spacevista.SpaceVistaForConditionalGeneration",
            },
            "dinov3_config": self.dino.to_hf() if self.dino else None,
            "spacevista": {
                "fusion": dataclasses.asdict(self.fusion) if self.fusion else None,
                "experts": dataclasses.asdict(self.experts) if self.experts else None,
            },
        }
