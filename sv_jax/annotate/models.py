"""Specialists from transformers. Needs torch; the only file here that imports it.

DepthPro and SAM 2 get their pixels from us, made as their processors make them: those processors need torchvision, which nothing else of
ours does. One frame is in memory at a time, except for SAM 2, which keeps the clip.
"""

from __future__ import annotations

import os

import numpy as np
import torch
from torch.nn.functional import interpolate

from sv_jax.annotate.specialists import Boxes, Clip, Depth
from sv_jax.errors import UserError

HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))  # mean and standard deviation of DepthPro's pixels, ...
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))  # ... and of SAM 2's


class DepthAnything:
    """Depth Anything V1 or V2: metres where the checkpoint is a metric one, else a disparity of each frame's own scale.

    `huggingface/transformers:src/transformers/models/depth_anything`.
    """

    def __init__(self, where: str):
        from transformers import AutoImageProcessor, DepthAnythingForDepthEstimation

        self._model = _load(DepthAnythingForDepthEstimation, where)
        self._processor = _read(AutoImageProcessor.from_pretrained, where)

    def __call__(self, clip: Clip) -> Depth:
        size = clip.frames.shape[1:3]
        values = []
        for frame in clip.frames:
            out = _run(self._model, **self._processor(images=frame, return_tensors="pt"))
            values.append(self._processor.post_process_depth_estimation(out, target_sizes=[size])[0]["predicted_depth"].cpu().numpy())
        metric = self._model.config.depth_estimation_type == "metric"
        return Depth(np.stack(values).astype(np.float32), "metric" if metric else "disparity")


class DepthPro:
    """DepthPro: metres and the focal length. Where the clip's own is known it is used instead of each frame's estimate.

    The model gives inverse depth for a focal length of one width; `post_process_depth_estimation` of
    `huggingface/transformers:src/transformers/models/depth_pro/image_processing_depth_pro.py`.
    """

    def __init__(self, where: str):
        from transformers import DepthProForDepthEstimation

        self._model = _load(DepthProForDepthEstimation, where)
        config = self._model.config
        self._side = round(config.patch_size / min(config.scaled_images_ratios))  # the smallest copy is one patch

    def __call__(self, clip: Clip) -> Depth:
        size = clip.frames.shape[1:3]
        inverse, focal = [], []
        for frame in clip.frames:
            out = _run(self._model, pixel_values=_pixels(frame[None], self._side, *HALF, antialias=False))
            inverse.append(interpolate(out.predicted_depth[:, None], size, mode="bilinear")[0, 0].float().cpu().numpy())
            if out.field_of_view is not None and 1 <= float(out.field_of_view[0]) <= 170:  # degrees across the width
                focal.append(size[1] / 2 / np.tan(np.radians(float(out.field_of_view[0])) / 2))
        if clip.K is None and not focal:
            raise UserError(f"depth_pro: {clip.name}: the checkpoint estimates no field of view; give --fov or --cameras")
        used = float(clip.K[0, 0]) if clip.K is not None else float(np.median(focal))
        depth = 1 / np.clip(np.stack(inverse) * size[1] / used, 1e-4, 1e4)
        return Depth(depth.astype(np.float32), focal=used)


class GroundingDino:
    """Grounding DINO, or another zero-shot detector with its processor: boxes of the phrases in the first frame.

    A box whose words are none of the phrases takes the phrase that shares most words with them, if any does.
    Thresholds: those of the paper's tabletop counting (SpaceVista, appendix B).
    """

    def __init__(self, where: str, threshold: float = 0.4, text_threshold: float = 0.4):
        from transformers import AutoModelForZeroShotObjectDetection, AutoProcessor

        self._model = _load(AutoModelForZeroShotObjectDetection, where)
        self._processor = _read(AutoProcessor.from_pretrained, where)
        self._thresholds = {"threshold": threshold, "text_threshold": text_threshold}

    def __call__(self, clip: Clip, phrases: tuple[str, ...]) -> Boxes:
        if not phrases:
            raise UserError("grounding_dino: no phrases; expected what to look for, as in --phrases 'red mug,book'")
        text = " ".join(f"{phrase.lower()}." for phrase in phrases)
        inputs = self._processor(images=clip.frames[0], text=text, return_tensors="pt")
        out = _run(self._model, **inputs)
        found = self._processor.post_process_grounded_object_detection(
            out, inputs["input_ids"], target_sizes=[clip.frames.shape[1:3]], **self._thresholds
        )[0]
        said = [_nearest(label, phrases) for label in found["text_labels"]]
        height, width = clip.frames.shape[1:3]
        xyxy = np.clip(found["boxes"].cpu().numpy().astype(np.float64), 0, [width, height, width, height])
        score = found["scores"].cpu().numpy()
        kept = [i for i in distinct(xyxy, score) if said[i] is not None]
        return Boxes(xyxy[kept], score[kept], tuple(said[i] for i in kept))


def distinct(xyxy: np.ndarray, score: np.ndarray, most: float = 0.7) -> list[int]:
    """Indices of boxes [n, 4], surest first, without those that overlap a surer one by more than `most` of their union: an object that was
    found twice, maybe under two phrases."""
    area = np.prod(xyxy[:, 2:] - xyxy[:, :2], axis=1)
    kept: list[int] = []
    for i in np.argsort(-score, kind="stable"):
        shared = np.clip(np.minimum(xyxy[i, 2:], xyxy[kept, 2:]) - np.maximum(xyxy[i, :2], xyxy[kept, :2]), 0, None).prod(1)
        if (shared <= most * (area[i] + area[kept] - shared)).all():
            kept.append(int(i))
    return kept


def _nearest(label: str, phrases: tuple[str, ...]) -> str | None:
    """The phrase that shares the largest part of its words with a label, None where none shares any."""
    words = set(label.lower().split())
    shares = [len(words & set(phrase.lower().split())) / len(words | set(phrase.lower().split())) for phrase in phrases]
    return phrases[int(np.argmax(shares))] if max(shares) > 0 else None


class Sam2:
    """SAM 2 or 2.1 for video: the masks of boxes of the first frame in every frame. Where masks overlap, the surer one has the pixel.

    `huggingface/transformers:src/transformers/models/sam2_video`; the prompts are made as `Sam2VideoProcessor` makes them: a box is two
    points with labels 2 and 3 in pixels of the model's input.
    """

    def __init__(self, where: str):
        from transformers import Sam2VideoModel

        self._model = _load(Sam2VideoModel, where)

    def __call__(self, clip: Clip, boxes: Boxes) -> np.ndarray:
        from transformers.models.sam2_video.modeling_sam2_video import Sam2VideoInferenceSession

        if len(boxes.phrases) > 255:
            raise UserError(f"sam2: {clip.name}: {len(boxes.phrases)} boxes, expected at most 255")
        (height, width), side, device = clip.frames.shape[1:3], self._model.config.prompt_encoder_config.image_size, self._model.device
        session = Sam2VideoInferenceSession(
            _pixels(clip.frames, side, *IMAGENET),
            height,
            width,
            inference_device=device,
            inference_state_device=device,
            dtype=torch.float32,
        )
        corners = torch.tensor(boxes.xyxy / [width, height, width, height] * side, dtype=torch.float32).reshape(-1, 1, 1, 2, 2)
        for number, points in enumerate(corners, 1):
            labels = torch.tensor([[[2, 3]]], dtype=torch.int32)
            session.add_point_inputs(session.obj_id_to_idx(number), 0, {"point_coords": points, "point_labels": labels})
        session.obj_with_new_inputs = list(range(1, len(corners) + 1))
        ids = np.zeros(clip.frames.shape[:3], np.uint8)
        with torch.no_grad():
            self._model(session, frame_idx=0)
            for out in self._model.propagate_in_video_iterator(session):
                logits = interpolate(out.pred_masks.float(), (height, width), mode="bilinear")[:, 0].cpu().numpy()
                numbers = np.array(out.object_ids, np.uint8)[logits.argmax(0)]
                ids[out.frame_idx] = np.where(logits.max(0) > 0, numbers, 0)
        return ids


def _pixels(frames: np.ndarray, side: int, mean, std, antialias: bool = True) -> torch.Tensor:
    """f32 [F, 3, side, side] of u8 frames [F, H, W, 3], normalised, bilinear."""
    values = torch.from_numpy(frames.copy()).permute(0, 3, 1, 2).float() / 255
    values = (values - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
    return interpolate(values, (side, side), mode="bilinear", antialias=antialias)


def _run(model, **inputs):
    with torch.no_grad():
        return model(**{name: value.to(model.device) for name, value in inputs.items()})


def _load(kind, where: str):
    """A model in f32 for inference, on a GPU if torch has one."""
    model = _read(kind.from_pretrained, where, dtype=torch.float32)
    return model.eval().to("cuda" if torch.cuda.is_available() else "cpu")


def _read(load, where: str, **options):
    """`load(where)`; UserError where there is no such checkpoint, or not of this kind."""
    try:
        return load(where, **options)
    except (OSError, ValueError, KeyError) as error:
        reason = (
            "no such folder" if os.sep in where and where[0] in "./~" and not os.path.isdir(where) else str(error).strip().split("\n")[0]
        )
        raise UserError(f"specialist {where!r}: {reason}") from None
