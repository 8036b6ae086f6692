"""SpaceVista for `transformers` (`trust_remote_code=True`): Qwen2.5-VL whose vision tokens are fused with DINOv3's dense features, with
scale-expert LoRA on every projection of the language model. It needs torch and transformers alone.

    model = AutoModelForImageTextToText.from_pretrained(folder, trust_remote_code=True)
    model.generate(**processor_outputs)                     # the experts' router decides
    model.generate(**processor_outputs, scale="indoor")     # or one scale's expert does

B rows, T tokens, D width, C DINOv3 width, E experts, R rank; a medium is an image or a video of t slices of h x w patches.
"""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import nn
from transformers import AutoModel, DINOv3ViTConfig, Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLModel
from transformers.cache_utils import Cache, DynamicCache
from transformers.configuration_utils import PretrainedConfig
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VLDecoderLayer, Qwen2_5_VLTextModel

SCALES = ("tiny", "tabletop", "indoor", "outdoor", "drone")
CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class SpaceVistaConfig(Qwen2_5_VLConfig):
    """Qwen2.5-VL's fields, `dinov3_config` (None: no fusion), `spacevista` {"fusion", "experts"} and `mrope`, the rule for the positions
    after a video: "max" (the next text token stands after all of the video) or "spatial" (transformers >= 5.3)."""

    model_type = "spacevista"

    def __init__(self, dinov3_config: dict | None = None, spacevista: dict | None = None, mrope: str = "max", **kwargs):
        self.dinov3_config = DINOv3ViTConfig(**dinov3_config) if isinstance(dinov3_config, dict) else dinov3_config
        self.spacevista = spacevista
        self.mrope = mrope
        super().__init__(**kwargs)

    @property
    def fusion(self) -> dict | None:
        return (self.spacevista or {}).get("fusion")

    @property
    def experts(self) -> dict | None:
        return (self.spacevista or {}).get("experts")


class GeometryMerger(nn.Module):
    """2x2 neighbouring DINOv3 patches, normalised and joined or averaged -> one token of width D: [t, h, w, C] -> [t, h/2, w/2, D]."""

    def __init__(self, fusion: dict, context: int, width: int):
        super().__init__()
        self.average, hidden = fusion.get("merger") == "avg", fusion["merger_hidden_size"]
        if not self.average:
            self.ln_q = nn.RMSNorm(context, eps=1e-6)
        self.mlp = nn.Sequential(nn.Linear(context if self.average else 4 * context, hidden), nn.GELU(), nn.Linear(hidden, width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        t, h, w, c = x.shape
        x = (x if self.average else self.ln_q(x)).view(t, h // 2, 2, w // 2, 2, c).transpose(2, 3)
        return self.mlp(x.mean(dim=(3, 4)) if self.average else x.reshape(t, h // 2, w // 2, 4 * c))


class CrossAttentionBlock(nn.Module):
    """x + MHA(LN x + P, LN g + P, LN g), then x + MLP(LN x); P are the positions of the grid."""

    def __init__(self, width: int, num_heads: int):
        super().__init__()
        self.norm1_query, self.norm1_key, self.norm1_value, self.norm2 = (nn.LayerNorm(width) for _ in range(4))
        self.cross_attention = nn.MultiheadAttention(width, num_heads, batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Dropout(0.0), nn.Linear(4 * width, width))

    def forward(self, x: torch.Tensor, g: torch.Tensor, p: torch.Tensor) -> torch.Tensor:
        y, _ = self.cross_attention(self.norm1_query(x) + p, self.norm1_key(g) + p, self.norm1_value(g), need_weights=False)
        x = x + y
        return x + self.mlp(self.norm2(x))


class CrossAttentionFusion(nn.Module):
    """Eq. 1 on the slices of one medium, x and g [t, h, w, D]: a slice's tokens attend to the dense features of that slice alone."""

    def __init__(self, fusion: dict, width: int):
        super().__init__()
        self.cross_attn_blocks = nn.ModuleList(CrossAttentionBlock(width, fusion["num_heads"]) for _ in range(fusion["num_blocks"]))

    def forward(self, x: torch.Tensor, g: torch.Tensor) -> torch.Tensor:
        p = grid_positions(*x.shape[1:], device=x.device).to(x.dtype)
        y, g = x.flatten(1, 2), g.flatten(1, 2)
        for block in self.cross_attn_blocks:
            y = block(y, g, p)
        return y.view_as(x)


class AddFusion(nn.Module):
    def __init__(self, fusion: dict, width: int):
        super().__init__()

    def forward(self, x: torch.Tensor, g: torch.Tensor) -> torch.Tensor:
        return x + g


class ConcatFusion(nn.Module):
    def __init__(self, fusion: dict, width: int):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.projection = nn.Linear(2 * width, width)

    def forward(self, x: torch.Tensor, g: torch.Tensor) -> torch.Tensor:
        return self.projection(torch.cat([self.norm1(x), self.norm2(g)], dim=-1))


class GatedFusion(nn.Module):
    def __init__(self, fusion: dict, width: int):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.gate_projection = nn.Sequential(nn.Linear(2 * width, width), nn.Sigmoid())

    def forward(self, x: torch.Tensor, g: torch.Tensor) -> torch.Tensor:
        x, g = self.norm1(x), self.norm2(g)
        s = self.gate_projection(torch.cat([x, g], dim=-1))
        return s * x + (1 - s) * g


class WeightedFusion(nn.Module):
    def __init__(self, fusion: dict, width: int):
        super().__init__()
        self.weight_2d, self.weight_3d = nn.Parameter(torch.tensor(0.5)), nn.Parameter(torch.tensor(0.0))

    def forward(self, x: torch.Tensor, g: torch.Tensor) -> torch.Tensor:
        a, b = self.weight_2d.float(), self.weight_3d.float()
        return ((a * x + b * g) / (a + b)).to(x.dtype)


FUSIONS = {
    "cross_attention": CrossAttentionFusion,
    "add": AddFusion,
    "concat": ConcatFusion,
    "gated": GatedFusion,
    "weighted": WeightedFusion,
}


def grid_positions(h: int, w: int, width: int, device=None) -> torch.Tensor:
    """[h * w, D] sines and cosines: the first half of the channels from the row, the second from the column."""
    frequency = 10000.0 ** (-torch.arange(width // 4, device=device, dtype=torch.float32) / (width // 4))
    waves = [torch.arange(n, device=device, dtype=torch.float32)[:, None] * frequency for n in (h, w)]
    rows, columns = (torch.cat([a.sin(), a.cos()], dim=-1) for a in waves)
    return torch.cat([rows[:, None].expand(h, w, -1), columns[None].expand(h, w, -1)], dim=-1).flatten(0, 1)


class ExpertLinear(nn.Linear):
    """y = W x + b + sum_e gate_e (alpha/R) B_e A_e x (Eq. 2). The layer sets `gate`, [B, T, E] or None, before each of its calls."""

    def __init__(self, linear: nn.Linear, experts: dict):
        super().__init__(linear.in_features, linear.out_features, bias=linear.bias is not None)
        e, r = experts["num_experts"], experts["rank"]
        self.scaling = experts["alpha"] / r
        self.lora_A = nn.Parameter(torch.randn(e, r, linear.in_features) * linear.in_features**-0.5)
        self.lora_B = nn.Parameter(torch.zeros(e, linear.out_features, r))
        self.gate: torch.Tensor | None = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = super().forward(x)
        if self.gate is None:
            return y
        z = torch.einsum("btd,erd->bter", x, self.lora_A.to(x.dtype)) * (self.scaling * self.gate).to(x.dtype)[..., None]
        return y + torch.einsum("bter,eor->bto", z, self.lora_B.to(x.dtype))


class F32Linear(nn.Linear):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.linear(x.float(), self.weight.float(), self.bias.float())


class Router(nn.Module):
    """A layer's own router on its normalised input, in f32: [B, T, D] -> gate [B, T, E]."""

    def __init__(self, width: int, experts: dict):
        super().__init__()
        self.temperature = experts["temperature"]
        self.fc1 = F32Linear(width, experts["router_hidden_size"])
        self.fc2 = F32Linear(experts["router_hidden_size"], experts["num_experts"])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (self.fc2(F.silu(self.fc1(x))) / self.temperature).softmax(dim=-1)


class PromptRouter(Router):
    """The same MLP on the mean of a prompt's normalised embeddings: [B, T, D] and a mask [B, T] -> gate [B, 1, E]."""

    def __init__(self, width: int, experts: dict):
        super().__init__(width, experts)
        self.norm = nn.RMSNorm(width, eps=1e-6)

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        x = F.rms_norm(x.float(), x.shape[-1:], self.norm.weight.float(), self.norm.eps)
        mask = mask[..., None].float()
        return super().forward((x * mask).sum(dim=1, keepdim=True) / mask.sum(dim=1, keepdim=True))


class XLoRA(nn.Module):
    """X-LoRA's classifier, up to the last product where that is cut by layer: each layer holds its part of it as `router`."""

    def __init__(self, width: int, experts: dict):
        super().__init__()
        size, depth = experts["router_hidden_size"], experts["xlora"]["depth"]
        self.first = F32Linear(width, size) if depth > 1 else None
        self.hidden = nn.ModuleList(F32Linear(size, size) for _ in range(depth - 2))
        self.last = None if experts["xlora"]["layerwise"] else F32Linear(size if depth > 1 else width, experts["num_experts"])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x if self.first is None else F.relu(self.first(x))
        for linear in self.hidden:
            x = F.relu(linear(x))
        return x if self.last is None else self.last(x)


def xlora_gate(logits: torch.Tensor, experts: dict) -> torch.Tensor:
    """Logits to gates, over the last axis: softmax, top-k, softmax over what top-k left."""
    xlora = experts["xlora"]
    gate = (logits / experts["temperature"]).softmax(dim=-1) if xlora["softmax"] else logits.float()
    if xlora["top_k"] is not None:
        gate = gate * torch.zeros_like(gate).scatter(-1, gate.topk(xlora["top_k"], dim=-1).indices, 1.0)
    if xlora["softmax_topk"]:
        gate = gate.masked_fill(gate == 0, float("-inf")).softmax(dim=-1)
    return gate


class SpaceVistaDecoderLayer(Qwen2_5_VLDecoderLayer):
    """Transformers' decoder layer with experts on its seven projections, under one gate or one each."""

    def __init__(self, config: PretrainedConfig, layer_idx: int, experts: dict):
        super().__init__(config, layer_idx)
        self.experts = experts
        for module, names in ((self.self_attn, "qkvo"), (self.mlp, ("gate", "up", "down"))):
            for name in names:
                setattr(module, f"{name}_proj", ExpertLinear(getattr(module, f"{name}_proj"), experts))
        if experts["router"] == "layer":
            self.router = Router(config.hidden_size, experts)
        if experts["router"] == "xlora" and experts["xlora"]["layerwise"]:
            width = experts["router_hidden_size"] if experts["xlora"]["depth"] > 1 else config.hidden_size
            self.router = F32Linear(width, 7 * experts["num_experts"])

    def forward(self, hidden_states: torch.Tensor, scale=None, signal=None, plain: bool = False, **kwargs):
        gate = None if plain else self.route(hidden_states, scale, signal)
        projections = [module for module in self.modules() if isinstance(module, ExpertLinear)]  # q, k, v, o, gate, up, down
        for i, projection in enumerate(projections):
            projection.gate = gate[..., i, :] if gate is not None and gate.ndim == 4 else gate
        return super().forward(hidden_states, **kwargs)

    def route(self, x: torch.Tensor, scale: str | list[str] | None, signal: torch.Tensor | None) -> torch.Tensor:
        """The gate [B, T, E] (or [B, T, 7, E]): one-hot of the given scale (one for all rows, or one a row), else what the config's router
        says; `signal` is what it knows before the layers run."""
        e, router = self.experts["num_experts"], self.experts["router"]
        if scale is None and router == "layer":
            return self.router(self.input_layernorm(x))
        if scale is None and router == "prompt":
            return signal.expand(-1, x.shape[1], -1)
        if scale is None and router == "xlora":
            logits = self.router(signal).unflatten(-1, (7, e)) if self.experts["xlora"]["layerwise"] else signal
            return xlora_gate(logits, self.experts)
        if scale is None and router in ("uniform", "sum"):
            return x.new_full((*x.shape[:2], e), 1.0 / e if router == "uniform" else 1.0, dtype=torch.float32)
        scales = [scale] * x.shape[0] if isinstance(scale, str) else scale or []
        if len(scales) != x.shape[0] or set(scales) - set(SCALES):
            raise ValueError(f"scale {scale!r}: expected one of {', '.join(SCALES)}, or a list with one of them per row")
        index = torch.tensor([min(SCALES.index(s), e - 1) for s in scales], device=x.device)
        return F.one_hot(index, e).float()[:, None].expand(-1, x.shape[1], -1)


class FirstPassCache:
    """A cache of L layers seen by X-LoRA's pass without experts: its keys and values are kept in L further layers of the same cache."""

    def __init__(self, cache: Cache, num_layers: int):
        self.cache, self.num_layers = cache, num_layers
        if len(cache.layers) == num_layers:
            if cache.get_seq_length():
                raise ValueError("past_key_values: filled without the router `xlora` (with scale=…?); it cannot go on from there")
            cache.layers += copy.deepcopy(cache.layers)

    def update(self, key_states, value_states, layer_idx, *args, **kwargs):
        return self.cache.update(key_states, value_states, layer_idx + self.num_layers, *args, **kwargs)

    def __getattr__(self, name):
        return getattr(self.cache, name)


class SpaceVistaTextModel(Qwen2_5_VLTextModel):
    """Transformers' decoder with experts, and what their router has once in the model. `prompt` keeps its gate with the cache: without a
    cache every call is a new prompt."""

    def __init__(self, config: PretrainedConfig, experts: dict):
        super().__init__(config)
        self.experts = experts
        self.layers = nn.ModuleList(SpaceVistaDecoderLayer(config, i, experts) for i in range(config.num_hidden_layers))
        if experts["router"] == "prompt":
            self.router = PromptRouter(config.hidden_size, experts)
        if experts["router"] == "xlora":
            self.router = XLoRA(config.hidden_size, experts)
        self.post_init()

    def forward(self, inputs_embeds, attention_mask=None, past_key_values=None, use_cache=None, scale=None, **kwargs):
        use_cache = self.config.use_cache if use_cache is None else use_cache
        if use_cache and past_key_values is None:
            past_key_values = DynamicCache(config=self.config)
        inputs = {"inputs_embeds": inputs_embeds, "attention_mask": attention_mask, "use_cache": use_cache, **kwargs}
        signal = None
        if scale is None and self.experts["router"] == "prompt":
            signal = self.prompt_gate(inputs_embeds, attention_mask, past_key_values)
        if scale is None and self.experts["router"] == "xlora":
            cache = None if past_key_values is None else FirstPassCache(past_key_values, len(self.layers))
            with torch.no_grad():
                first = super().forward(past_key_values=cache, plain=True, **{**inputs, "return_dict": True})
            signal = self.router(first.last_hidden_state)
        return super().forward(past_key_values=past_key_values, scale=scale, signal=signal, **inputs)

    def prompt_gate(self, x: torch.Tensor, mask: torch.Tensor | None, cache: Cache | None) -> torch.Tensor:
        if cache is not None and cache.get_seq_length():
            return cache.prompt_gate
        if mask is not None and mask.ndim != 2:
            raise ValueError(f"attention_mask of shape {tuple(mask.shape)}: the router `prompt` expects one of two axes, rows and tokens")
        gate = self.router(x, torch.ones(x.shape[:2], device=x.device) if mask is None else mask)
        if cache is not None:
            cache.prompt_gate = gate
        return gate


class SpaceVistaModel(Qwen2_5_VLModel):
    """Qwen2.5-VL with DINOv3 beside its vision tower and experts in its language model."""

    config_class = SpaceVistaConfig

    def __init__(self, config: SpaceVistaConfig):
        super().__init__(config)
        text = self.language_model.config
        if config.experts:
            self.language_model = SpaceVistaTextModel(text, config.experts)
        self.dinov3 = None
        if config.dinov3_config is not None:
            self.dinov3 = AutoModel.from_config(config.dinov3_config)
            self.geometry_merger = GeometryMerger(config.fusion, config.dinov3_config.hidden_size, text.hidden_size)
            self.feature_fusion = FUSIONS[config.fusion.get("method", "cross_attention")](config.fusion, text.hidden_size)
        self.post_init()

    def train(self, mode: bool = True):
        super().train(mode)
        if self.dinov3 is not None:
            self.dinov3.eval()  # its positions are augmented at random in training mode
        return self

    # `scale` is not named in the signatures: `generate` takes what stands there away from the language model
    def get_image_features(self, pixel_values, image_grid_thw=None, dino_pixel_values=None, **kwargs):
        kwargs = {k: v for k, v in kwargs.items() if k not in ("scale", "dino_pixel_values_videos")}
        out = super().get_image_features(pixel_values, image_grid_thw, **kwargs)
        return self.fuse(out, pixel_values, image_grid_thw, dino_pixel_values)

    def get_video_features(self, pixel_values_videos, video_grid_thw=None, dino_pixel_values_videos=None, **kwargs):
        kwargs = {k: v for k, v in kwargs.items() if k not in ("scale", "dino_pixel_values")}
        out = super().get_video_features(pixel_values_videos, video_grid_thw, **kwargs)
        return self.fuse(out, pixel_values_videos, video_grid_thw, dino_pixel_values_videos)

    def fuse(self, out, patches: torch.Tensor, grids: torch.Tensor, frames: torch.Tensor | None):
        """Qwen's merged tokens, one tensor per medium in `out.pooler_output`, fused with DINOv3's features of the same pixels, or of the
        ImageNet-normalised `frames` [2 t of all media, 3, height, width]."""
        if self.dinov3 is None:
            return out
        if frames is None and self.config.fusion.get("align") == "official":
            raise ValueError("align 'official': DINOv3's 420 x 420 frames are missing; give dino_pixel_values or dino_pixel_values_videos")
        grids = [tuple(grid) for grid in grids.tolist()]
        per_medium = patches.split([t * h * w for t, h, w in grids])
        if frames is None:
            frames = [dino_frames(p.float(), *grid) for p, grid in zip(per_medium, grids, strict=True)]
        else:
            frames = frames.split([2 * t for t, _, _ in grids])
        out.pooler_output = tuple(
            self.feature_fusion(x.view(t, h // 2, w // 2, -1), self.dense_features(f, t, h, w).to(x.dtype)).flatten(0, 2)
            for x, f, (t, h, w) in zip(out.pooler_output, frames, grids, strict=True)
        )
        return out

    def dense_features(self, frames: torch.Tensor, t: int, h: int, w: int) -> torch.Tensor:
        """Frames [2t, 3, height, width] of one medium -> [t, h/2, w/2, D]. The two frames of a slice are averaged before the merger."""
        prefix = 1 + self.dinov3.config.num_register_tokens
        dense = self.dinov3(frames.to(self.dinov3.dtype)).last_hidden_state[:, prefix:]
        return self.geometry_merger(dense.view(t, 2, h, w, -1).mean(dim=1))

    def get_rope_index(self, input_ids, mm_token_type_ids, *args, attention_mask=None, **kwargs):
        """Transformers' positions; under the rule "max" what follows a vision item is moved behind all three of its axes."""
        positions, deltas = super().get_rope_index(input_ids, mm_token_type_ids, *args, attention_mask=attention_mask, **kwargs)
        if self.config.mrope == "spatial":
            return positions, deltas
        for row in range(input_ids.shape[0]):
            keep = torch.ones_like(input_ids[row]).bool() if attention_mask is None else attention_mask[row].bool()
            p, kinds = positions[:, row, keep], mm_token_type_ids[row, keep]
            for start in (1 + torch.nonzero(kinds[1:] != kinds[:-1])[:, 0]).tolist():
                p[:, start:] += p[:, :start].max() + 1 - p[0, start]
            positions[:, row, keep] = p
            deltas[row] = p.max() + 1 - p.shape[1]
        return positions, deltas


def dino_frames(patches: torch.Tensor, t: int, h: int, w: int) -> torch.Tensor:
    """Qwen's normalised patches [t*h*w, 3*2*14*14] -> DINOv3's frames [2t, 3, 16h, 16w]: the same picture in the same grid of patches."""
    channels = lambda values: patches.new_tensor(values).view(1, 3, 1, 1)  # noqa: E731
    x = patches.view(t, h // 2, w // 2, 2, 2, 3, 2, 14, 14).permute(0, 6, 5, 1, 3, 7, 2, 4, 8)
    x = x.reshape(2 * t, 3, 14 * h, 14 * w) * channels(CLIP_STD) + channels(CLIP_MEAN)
    x = F.interpolate(x, size=(16 * h, 16 * w), mode="bilinear", align_corners=False)
    return (x - channels(IMAGENET_MEAN)) / channels(IMAGENET_STD)


class SpaceVistaForConditionalGeneration(Qwen2_5_VLForConditionalGeneration):
    config_class = SpaceVistaConfig
    _keys_to_ignore_on_load_missing = [r"dinov3\.embeddings\.mask_token"]  # only pretraining reads it

    def __init__(self, config: SpaceVistaConfig):
        super(Qwen2_5_VLForConditionalGeneration, self).__init__(config)  # its own __init__ would build a whole Qwen2.5-VL first
        self.model = SpaceVistaModel(config)
        self.lm_head = nn.Linear(config.text_config.hidden_size, config.text_config.vocab_size, bias=False)
        self.post_init()

    def prepare_inputs_for_generation(self, input_ids, scale=None, dino_pixel_values=None, dino_pixel_values_videos=None, **kwargs):
        own = {"scale": scale, "dino_pixel_values": dino_pixel_values, "dino_pixel_values_videos": dino_pixel_values_videos}
        inputs = super().prepare_inputs_for_generation(input_ids, **kwargs)
        return inputs | {name: value for name, value in own.items() if value is not None}
