"""Scenes from (scale, seed): the same scene whatever it is batched with."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice

import jax
import numpy as np

from sv_jax.errors import UserError, unknown
from sv_jax.scenes import camera, raycast
from sv_jax.scenes.layout import OBJECTS, Layout, draw
from sv_jax.scenes.scene import SCALES, Scene
from sv_jax.scenes.worlds import WORLDS

FPS = 2.0
FAR = 25.0  # the ground ends at this depth, in distances of the first camera from the middle of the scene
PIXELS = 80 / 112**2  # share of the first frame that every object must show ...
VISIBLE = 0.6  # ... and share of its own silhouette
ATTEMPTS = 100


def generate(scale: str, seed: int, *, frames: int = 4, size: tuple[int, int] = (112, 112)) -> Scene:
    """The scene of (scale, seed), with `frames` frames of `size` (H, W). In the first frame every object shows at least 60 % of itself."""
    return next(generate_many([(scale, seed)], frames=frames, size=size))


def generate_many(
    specs: Iterable[tuple[str, int]],
    *,
    frames: int = 4,
    size: tuple[int, int] = (112, 112),
    objects: tuple[int, int] = OBJECTS,
    batch: int = 16,
) -> Iterator[Scene]:
    """The scenes of (scale, seed) pairs, in order, rendered `batch` at a time by one compiled program. `objects` (least, most) of each."""
    if frames < 1 or min(size) < 16:
        raise UserError(f"frames, size: found {frames} frames of {size[0]}x{size[1]}, expected at least 1 frame of 16x16")
    left = iter(specs)
    while chunk := list(islice(left, batch)):
        yield from _chunk(chunk, frames, size, objects, batch)


def _chunk(specs: list[tuple[str, int]], frames: int, size: tuple[int, int], objects: tuple[int, int], batch: int) -> list[Scene]:
    """Scenes of at most `batch` specs. A scene that is not clear is drawn again from its own seed and rendered in the next round."""
    done: dict[int, Scene] = {}
    for attempt in range(ATTEMPTS):
        pending = [i for i in range(len(specs)) if i not in done]
        if not pending:
            return [done[i] for i in range(len(specs))]
        layouts = [draw(specs[i][0], rng_of(*specs[i], attempt), frames, size, objects) for i in pending]
        images = render([specs[i][0] for i in pending], layouts, size, batch)
        for row, (i, layout) in enumerate(zip(pending, layouts, strict=True)):
            rgb, depth, ids, alone = (np.array(a[row]) for a in (images.rgb, images.depth, images.ids, images.alone))
            if _clear(ids[0], alone[0], len(layout.objects)):
                scale, seed = specs[i]
                K = camera.intrinsics(size)
                done[i] = Scene(f"{scale}-{seed:07d}", scale, rgb, depth, ids, K, layout.poses, FPS, layout.objects)
    raise RuntimeError(f"no clear scene for {[specs[i] for i in range(len(specs)) if i not in done]} in {ATTEMPTS} attempts")


def rng_of(scale: str, seed: int, attempt: int) -> np.random.Generator:
    if scale not in SCALES:
        raise unknown("scale", scale, SCALES)
    if seed < 0:
        raise UserError(f"seed: found {seed}, expected 0 or more")
    return np.random.default_rng([SCALES.index(scale), seed, attempt])


def _clear(ids: np.ndarray, alone: np.ndarray, count: int) -> bool:
    """Whether each object shows enough pixels of a frame [H, W], and enough of those it would show alone."""
    for number in range(1, count + 1):
        visible, whole = (ids == number).sum(), (alone >> (number - 1) & 1).sum()
        if visible < PIXELS * ids.size or visible < VISIBLE * whole:
            return False
    return True


def render(scales: list[str], layouts: list[Layout], size: tuple[int, int], batch: int) -> raycast.Image:
    """Numpy images [batch, F, ...] of at most `batch` layouts; rows beyond them are empty."""
    views = [raycast.prims(layout.objects, layout.poses) for layout in layouts]
    settings = [setting(scale, layout, size) for scale, layout in zip(scales, layouts, strict=True)]
    rest = batch - len(layouts)

    def stack(*rows):
        return np.concatenate([np.stack(rows), np.zeros((rest, *np.shape(rows[0])), np.asarray(rows[0]).dtype)])

    images = raycast.render(np.int32(len(layouts)), jax.tree.map(stack, *views), jax.tree.map(stack, *settings), size=tuple(size))
    return jax.device_get(images)


def setting(scale: str, layout: Layout, size: tuple[int, int]) -> raycast.Setting:
    """Camera, light and ground of a layout for the ray caster."""
    world, K = WORLDS[scale], camera.intrinsics(size)
    eyes = layout.poses[:, :3, 3]
    squares = (eyes[:, :2] - layout.origin) / world.pitch
    tile = np.floor(squares)
    tinted = [np.array(c) * layout.tint for c in world.ground]
    return raycast.Setting(
        axes=layout.poses[:, :3, :3].astype(np.float32),
        height=eyes[:, 2].astype(np.float32),
        tile=tile.astype(np.int32),
        offset=(squares - tile).astype(np.float32),
        focal=np.array([K[0, 0], K[1, 1], K[0, 2], K[1, 2]], np.float32),
        far=np.float32(FAR * np.linalg.norm(eyes[0])),
        pitch=np.float32(world.pitch),
        sun=layout.sun.astype(np.float32),
        colours=np.array([*tinted, world.horizon, world.zenith], np.float32),
    )
