"""DINOv3: dense features of a batch of frames.

python dinov3.py --config small --dtype bf16
"""

import common


def main():
    args = common.arguments("dinov3", __doc__)
    import torch
    from transformers import DINOv3ViTConfig, DINOv3ViTModel

    spec = common.sizes(args)
    n, height, width = spec["work"]["dinov3_images"]
    config = DINOv3ViTConfig(**spec["dinov3"], image_size=height, attn_implementation="sdpa")
    model = DINOv3ViTModel(config).to(common.dtype_of(args)).eval().requires_grad_(False)
    frames = torch.randn(n, 3, height, width, generator=torch.Generator().manual_seed(1)).to(common.dtype_of(args))
    run = model if args.compile == "none" else torch.compile(model, dynamic=False)

    @torch.no_grad()
    def call():
        run(frames)

    common.report(args, "dinov3", call, n * (height // config.patch_size) * (width // config.patch_size), unit="patches", rows=n)


if __name__ == "__main__":
    main()
