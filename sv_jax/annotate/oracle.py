"""Specialists that know a scene exactly and add noise of stated size: they show what the way from measurements to answers costs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sv_jax.annotate.specialists import Boxes, Clip, Depth
from sv_jax.errors import UserError
from sv_jax.scenes.scene import Scene
from sv_jax.tasks.geometry import box_of


@dataclass(frozen=True)
class Noise:
    """Standard deviations, of logarithms of depth where they are relative."""

    bias: float = 0.0  # relative error of the scale of the whole clip; the same for every scene, not drawn
    jitter: float = 0.0  # relative error of the scale of each frame, which the consistent depth does not have
    waves: float = 0.0  # relative error that varies smoothly over the frame, about four waves across, drawn for each frame
    grain: float = 0.0  # relative error of each pixel
    blur: float = 0.0  # pixels over which depth is mixed across edges
    masks: int = 0  # pixels by which each frame's masks shrink or grow, at most


@dataclass(frozen=True)
class Oracle:
    """Depth specialist, consistent depth, detector and tracker of one scene's clip, which must be at the scene's own size."""

    scene: Scene
    noise: Noise
    seed: int = 0

    def depth(self, clip: Clip) -> Depth:
        """Metric depth of each frame on its own: every kind of noise."""
        rng = np.random.default_rng([self.seed, 0])
        frames = len(self._checked(clip).depth)
        scale = self.noise.bias + rng.normal(0, 1, (frames, 1, 1)) * self.noise.jitter
        return Depth(self._measured(rng) * np.exp(scale).astype(np.float32))

    def disparity(self, clip: Clip) -> Depth:
        """Consistent relative depth: affine in inverse depth with numbers of its own, no bias and no jitter."""
        self._checked(clip)
        inverse = 1 / self._measured(np.random.default_rng([self.seed, 1]))
        top = float(inverse.max())
        return Depth((inverse + 0.1 * top) / (1.7 * top), "disparity")

    def detect(self, clip: Clip, phrases: tuple[str, ...]) -> Boxes:
        """Boxes of the objects that the first frame shows and whose phrase is asked for (all where none are)."""
        ids, objects = self._checked(clip).ids[0], self.scene.objects
        shown = [k for k, thing in enumerate(objects, 1) if (ids == k).any() and (not phrases or thing.phrase in phrases)]
        boxes = np.array([box_of(ids == k) for k in shown], np.float64).reshape(-1, 4)
        return Boxes(boxes, np.ones(len(shown)), tuple(objects[k - 1].phrase for k in shown))

    def track(self, clip: Clip, boxes: Boxes) -> np.ndarray:
        """The masks of the boxes' objects, found by their phrases, with borders off by up to `masks` pixels."""
        from scipy import ndimage

        rng, scene = np.random.default_rng([self.seed, 2]), self._checked(clip)
        by_phrase = {thing.phrase: k for k, thing in enumerate(scene.objects, 1)}
        out = np.zeros_like(scene.ids)
        for number, phrase in enumerate(boxes.phrases, 1):
            for frame, ids in enumerate(scene.ids):
                mask, steps = ids == by_phrase[phrase], int(rng.integers(-self.noise.masks, self.noise.masks + 1))
                if steps:
                    mask = (ndimage.binary_dilation if steps > 0 else ndimage.binary_erosion)(mask, iterations=abs(steps))
                out[frame][mask & (out[frame] == 0)] = number
        return out

    def _checked(self, clip: Clip) -> Scene:
        if clip.frames.shape != self.scene.frames.shape:
            raise UserError(f"oracle: the clip is {list(clip.frames.shape)}, the scene {list(self.scene.frames.shape)}; expected the same")
        return self.scene

    def _measured(self, rng: np.random.Generator) -> np.ndarray:
        """f32 [F, H, W]: the scene's depth, blurred at edges, with waves and grain; inf stays."""
        from scipy import ndimage

        depth = self.scene.depth.astype(np.float64)
        known = np.isfinite(depth)
        if self.noise.blur:
            sigma = (0, self.noise.blur, self.noise.blur)
            weight = ndimage.gaussian_filter(known.astype(np.float64), sigma)
            depth = np.divide(ndimage.gaussian_filter(np.where(known, depth, 0.0), sigma), weight, out=depth.copy(), where=known)
        frames, height, width = depth.shape
        coarse = rng.normal(0, 1, (frames, 5, 5))
        zoom = (1, height / 5, width / 5)
        waves = ndimage.zoom(coarse, zoom, order=3, mode="nearest", grid_mode=True) if self.noise.waves else 0.0
        error = self.noise.waves * waves + self.noise.grain * rng.normal(0, 1, depth.shape)
        return np.where(known, depth * np.exp(error), np.inf).astype(np.float32)
