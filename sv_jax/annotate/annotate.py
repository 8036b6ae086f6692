"""One clip through the specialists: depth, Eq. 5, boxes, masks, and the scene that they measure."""

from __future__ import annotations

import numpy as np

from sv_jax.annotate import align
from sv_jax.annotate.lift import check_intrinsics, lift
from sv_jax.annotate.specialists import Boxes, Clip, Depth, DepthSpecialist, Detector, Tracker
from sv_jax.errors import UserError
from sv_jax.scenes.scene import Scene


def annotate(
    clip: Clip,
    depth: DepthSpecialist,
    detect: Detector,
    track: Tracker,
    phrases: tuple[str, ...] = (),
    *,
    video_depth: DepthSpecialist | None = None,
    strength: float = 1.0,
    poses: np.ndarray | None = None,
    scale: str | None = None,
) -> Scene:
    """The scene that specialists see in a clip, for `sv_jax.tasks.ask`.

    phrases: what the detector looks for. video_depth: a depth that is consistent in time, metric or a disparity, which Eq. 5 follows with
    `strength`; without it the metric depth is taken as it is. poses, scale: as in `lift`.
    Intrinsics are the clip's, else of the depth specialist's focal length. UserError where a specialist's answer has the wrong shape or
    finds nothing, where nothing says the focal length, and as `lift` does.
    """
    if clip.K is not None:
        check_intrinsics(clip.K, clip.frames.shape[1:3])
    metric = _depth(clip, depth)
    if metric.kind != "metric":
        raise UserError(f"depth: {clip.name}: the specialist gives a {metric.kind}, expected depth in metres")
    values = metric.values if video_depth is None else aligned(metric.values, _depth(clip, video_depth), strength)
    K = clip.K if clip.K is not None else _intrinsics(clip, metric.focal)
    boxes = detect(clip, phrases)
    if not len(boxes.phrases):
        raise UserError(f"detector: {clip.name}: none of {', '.join(phrases) or 'any phrase'} in the first frame")
    ids = _masks(clip, boxes, track)
    return lift(clip.name, clip.frames, clip.fps, values, ids, boxes.phrases, K, poses, scale)


def aligned(metric: np.ndarray, video: Depth, strength: float) -> np.ndarray:
    """f64 [F, H, W]: metric depth [F, H, W] aligned by Eq. 5 in the log domain; a disparity is brought to metres first."""
    consistent = video.values if video.kind == "metric" else align.fit_disparity(video.values, metric)
    return align.align(metric, consistent, strength, linked=align.links(consistent))


def _depth(clip: Clip, specialist: DepthSpecialist) -> Depth:
    found = specialist(clip)
    if found.values.shape != clip.frames.shape[:3]:
        raise UserError(f"depth: {clip.name}: found {list(found.values.shape)}, expected {list(clip.frames.shape[:3])} as the frames")
    return found


def _intrinsics(clip: Clip, focal: float | None) -> np.ndarray:
    if focal is None:
        raise UserError(f"intrinsics: {clip.name}: unknown, and the depth specialist estimates none; give --fov or --cameras")
    height, width = clip.frames.shape[1:3]
    return np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]])


def _masks(clip: Clip, boxes: Boxes, track: Tracker) -> np.ndarray:
    ids = track(clip, boxes)
    if ids.shape != clip.frames.shape[:3]:
        raise UserError(f"masks: {clip.name}: found {list(ids.shape)}, expected {list(clip.frames.shape[:3])} as the frames")
    return ids
