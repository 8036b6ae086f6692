"""What the peers share: options, the model, the inputs, timing, and the one JSON line.

A peer is what a user would otherwise run: torch on the CPU with transformers. Each lever of a careful user is an option; `settings.json`
has the best ones found for each case, size and dtype, and a flag wins over it.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
import types
from pathlib import Path

HERE = Path(__file__).resolve().parent
DEFAULTS = {"compile": "none", "threads": 0, "brief": 1, "thp": 1, "fast_vision": 1}
ENV = {  # levers that must be in the environment before the process starts
    "brief": {"GOMP_SPINCOUNT": "20000"},
    "thp": {"THP_MEM_ALLOC_ENABLE": "1", "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"},
}


def arguments(case: str, doc: str) -> argparse.Namespace:
    """The options, filled from settings.json. Restarts the process once to put the environment in place."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="small", help="a size in configs.json")
    parser.add_argument("--dtype", default="fp32", choices=["fp32", "bf16"])
    parser.add_argument("--compile", choices=["none", "default", "freeze"], help="torch.compile: off, on, weights frozen as constants")
    parser.add_argument("--threads", type=int, help="0: as many as the process has cores")
    parser.add_argument("--brief", type=int, help="1: waiting OpenMP threads spin only briefly")
    parser.add_argument("--thp", type=int, help="1: transparent huge pages")
    parser.add_argument("--fast_vision", type=int, help="1: patch embedding as a product, equal windows as one batch: the same arithmetic")
    parser.add_argument("--warmup", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=7, help="timed calls; the median is reported")
    parser.add_argument("--serve", action="store_true", help="after warm-up, one timed call for each line on stdin")
    args = parser.parse_args()
    tuned = json.loads((HERE / "settings.json").read_text()).get(f"{case}/{args.config}/{args.dtype}", {})
    for name, default in DEFAULTS.items():
        if getattr(args, name) is None:
            setattr(args, name, tuned.get(name, default))
    if os.environ.get("PEER_ENV") != "1":
        env = os.environ | {"PEER_ENV": "1", "HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"}
        for lever, variables in ENV.items():
            if getattr(args, lever):
                env |= variables
        os.execve(sys.executable, [sys.executable, *sys.argv], env)
    import torch

    torch.set_num_threads(args.threads or len(os.sched_getaffinity(0)))
    torch.manual_seed(0)
    if args.compile == "freeze":
        import torch._inductor.config as inductor

        inductor.freezing = True
        inductor.cpp_wrapper = True
    return args


def sizes(args) -> dict:
    return json.loads((HERE / "configs.json").read_text())[args.config]


def dtype_of(args):
    import torch

    return torch.bfloat16 if args.dtype == "bf16" else torch.float32


def qwen(args):
    """A random Qwen2.5-VL of the named size in the asked dtype."""
    import torch
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    config = Qwen2_5_VLConfig(**sizes(args)["qwen"])
    model = Qwen2_5_VLForConditionalGeneration._from_config(config, attn_implementation="sdpa", dtype=torch.float32)
    model = model.to(dtype_of(args)).eval().requires_grad_(False)
    if args.fast_vision:
        fast_vision(model.model.visual)
    return model


def fast_vision(visual) -> None:
    """Two exact rewrites. The patch embedding is a Conv3d whose kernel equals its stride: a product. Attention over windows runs in
    transformers as a Python loop, a small call per window: windows of one length can be one batch."""
    import torch
    import torch.nn.functional as F
    from transformers.models.qwen2_5_vl import modeling_qwen2_5_vl as qwen2_5_vl

    def embed(self, x):
        w = self.proj.weight
        return F.linear(x.view(-1, w[0].numel()).to(w.dtype), w.view(w.shape[0], -1))

    def attend(self, hidden_states, cu_seqlens, position_embeddings=None, max_seqlen=None, **_):
        n = hidden_states.shape[0]
        q, k, v = self.qkv(hidden_states).view(n, 3, self.num_heads, -1).unbind(1)
        q, k = qwen2_5_vl.apply_rotary_pos_emb_vision(q, k, *position_embeddings)
        lengths = (cu_seqlens[1:] - cu_seqlens[:-1]).tolist()
        out, start, i = [], 0, 0
        while i < len(lengths):  # runs of equal length become one batch
            j = i
            while j < len(lengths) and lengths[j] == lengths[i]:
                j += 1
            rows = (j - i) * lengths[i]
            part = [t[start : start + rows].view(j - i, lengths[i], self.num_heads, -1).transpose(1, 2) for t in (q, k, v)]
            out.append(F.scaled_dot_product_attention(*part).transpose(1, 2).reshape(rows, -1))
            start, i = start + rows, j
        return self.proj(torch.cat(out) if len(out) > 1 else out[0])

    visual.patch_embed.forward = types.MethodType(embed, visual.patch_embed)
    for block in visual.blocks:
        block.attn.forward = types.MethodType(attend, block.attn)


def video_inputs(args) -> dict:
    """A batch of rows [vision start, vision tokens, vision end, text], a video each."""
    import torch

    spec = sizes(args)
    work, qc = spec["work"], spec["qwen"]
    vc = qc["vision_config"]
    g = torch.Generator().manual_seed(1)
    frames, height, width = work["video"]
    grid = [frames // vc["temporal_patch_size"], height // vc["patch_size"], width // vc["patch_size"]]
    patches = grid[0] * grid[1] * grid[2]
    text = torch.randint(10, qc["text_config"]["vocab_size"], (work["batch"], work["text_tokens"]), generator=g)
    placeholders = [qc["video_token_id"]] * (patches // vc["spatial_merge_size"] ** 2)
    block = torch.tensor([qc["vision_start_token_id"], *placeholders, qc["vision_end_token_id"]]).repeat(work["batch"], 1)
    rows = torch.cat([block, text], 1)
    pixels = vc["in_channels"] * vc["temporal_patch_size"] * vc["patch_size"] ** 2
    return {
        "input_ids": rows,
        "attention_mask": torch.ones_like(rows),
        "mm_token_type_ids": 2 * (rows == qc["video_token_id"]).int(),
        "pixel_values_videos": torch.randn(work["batch"] * patches, pixels, generator=g).to(dtype_of(args)),
        "video_grid_thw": torch.tensor([grid] * work["batch"]),
        "second_per_grid_ts": torch.ones(work["batch"]),
    }


def report(args, case: str, call, tokens: float, **extra) -> None:
    """Warm up, time, print one JSON line. `tokens` is what one call handles."""
    import torch

    began = time.perf_counter()
    for _ in range(args.warmup):
        call()
    warm = time.perf_counter() - began

    def timed() -> float:
        began = time.perf_counter()
        call()
        return time.perf_counter() - began

    def line(times: list[float]) -> None:
        middle = statistics.median(times)
        out = {
            "case": case, "config": args.config, "dtype": args.dtype, "peer": f"torch {torch.__version__}",
            "seconds_per_call": middle, "seconds_min": min(times), "seconds_max": max(times), "calls": len(times),
            "tokens_per_s": tokens / middle, "tokens_per_call": tokens, "warmup_seconds": round(warm, 2),
            "settings": {name: getattr(args, name) for name in DEFAULTS}, **extra,
        }  # fmt: skip
        print(json.dumps(out), flush=True)

    if not args.serve:
        line([timed() for _ in range(args.repeat)])
        return
    print(json.dumps({"ready": True, "case": case}), flush=True)
    for _ in sys.stdin:
        line([timed()])
