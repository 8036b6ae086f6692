"""The vision tower and merger of Qwen2.5-VL alone, on a batch of videos.

python vision.py --config small --dtype bf16
"""

import common


def main():
    args = common.arguments("vision", __doc__)
    import torch

    visual = common.qwen(args).model.visual
    data = common.video_inputs(args)
    if args.compile != "none":
        for block in visual.blocks:
            block.mlp = torch.compile(block.mlp, dynamic=False)

    @torch.no_grad()
    def call():
        visual(data["pixel_values_videos"], grid_thw=data["video_grid_thw"])

    common.report(args, "vision", call, len(data["pixel_values_videos"]), unit="patches", rows=len(data["video_grid_thw"]))


if __name__ == "__main__":
    main()
