"""Forward pass of Qwen2.5-VL on text and video, logits of every position.

python forward_video.py --config small --dtype bf16
"""

import common


def main():
    args = common.arguments("forward_video", __doc__)
    import torch

    model = common.qwen(args)
    data = common.video_inputs(args)
    if args.compile != "none":  # the decoder and the blocks of the tower; the bookkeeping of indices between them stays eager
        model.model.language_model = torch.compile(model.model.language_model, dynamic=False)
        for block in model.model.visual.blocks:
            block.mlp = torch.compile(block.mlp, dynamic=False)

    @torch.no_grad()
    def call():
        model(**data, use_cache=False)

    common.report(args, "forward_video", call, data["input_ids"].numel(), unit="tokens", rows=len(data["input_ids"]))


if __name__ == "__main__":
    main()
