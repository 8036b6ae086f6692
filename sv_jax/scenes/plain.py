"""Plain worlds: a few objects apart from each other on a chequered ground, all of them in every frame; drawn until it looks clear."""

from __future__ import annotations

import numpy as np

from sv_jax.scenes import camera
from sv_jax.scenes.layout import FAR, SUN, Lamp, Layout, upward
from sv_jax.scenes.scene import SCALES, Object, Texture
from sv_jax.scenes.worlds import PLAIN_COLOURS, WORLDS, World, build

OBJECTS = (2, 5)  # least and most objects of a scene
REPEATED = 0.45  # share of scenes with several objects of one class
LONGEST = (0.34, 1.05)  # range of a class's usual longest side, in scene radii
GAP = 0.04  # scene radii between the circles around two objects, at least
SHORT, LONG = 0.075, 0.15  # share of the frame's side that an object's box must reach the short and the long way in the first frame
HIDDEN = 0.45  # share of an object's box that nearer boxes may cover in the first frame
ELEVATION = {scale: (np.radians(20), np.radians(45)) for scale in SCALES} | {"drone": (np.radians(28), np.radians(52))}
LIMIT = 20_000  # draws before giving up; a scene takes a few


def draw(scale: str, rng: np.random.Generator, frames: int, size: tuple[int, int], objects: tuple[int, int] = OBJECTS) -> Layout:
    """A layout with between `objects` (least, most) objects at `scale` for clips of `frames` frames of (H, W), all of them inside every
    frame."""
    world = WORLDS[scale]
    least, most = objects
    same = min(int(rng.integers(2, 5)) if rng.uniform() < REPEATED else 1, most)  # drawn once: what is hard to place must not become rare
    total = int(rng.integers(max(least, same), most + 1))
    main = str(rng.choice(list(world.models)))
    for _ in range(LIMIT):
        placed = _objects(world, main, same, total, rng)
        if placed is None:
            continue
        corners = [_corners(thing) for thing in placed]
        poses = camera.path(np.concatenate(corners), frames, size, ELEVATION[scale], rng)
        if _clear(camera.project(np.stack(corners), camera.intrinsics(size), poses[:1])[0], size):
            break
    else:
        raise RuntimeError(f"no clear {scale} scene of {same} {main} and {total - same} other objects in {LIMIT} draws")
    azimuth, rise = rng.uniform(0, 2 * np.pi), np.radians(rng.uniform(35, 70))
    reach = float(np.linalg.norm(poses[0, :3, 3]))
    sun = Lamp(SUN * reach * upward(azimuth, rise), np.full(3, 0.58))
    tint = rng.uniform(0.85, 1.1) * rng.uniform(0.96, 1.04, 3)
    even, odd = (tint * colour for colour in world.ground)
    squares = Texture(tuple(odd.tolist()), (world.pitch, world.pitch, 0.0), checker=1.0, grain=0.1)
    sky = (world.horizon, world.zenith)
    return Layout(placed, poses, (sun,), np.full(3, 0.5), (even, squares), rng.uniform(0, 2 * world.pitch, 2), sky, FAR * reach)


def _objects(world: World, main: str, same: int, total: int, rng: np.random.Generator) -> tuple[Object, ...] | None:
    """`same` objects of class `main` and others of different classes, on the ground without overlap; None where no place was found."""
    longest = max(world.models[main].size)
    low, high = np.clip([longest / LONGEST[1], longest / LONGEST[0]], *world.radius)
    radius = np.exp(rng.uniform(np.log(low), np.log(high)))
    others = [name for name, model in world.models.items() if name != main and LONGEST[0] <= max(model.size) / radius <= LONGEST[1]]
    if len(others) < total - same:
        return None
    names = [main] * same + [str(name) for name in rng.permutation(others)[: total - same]]
    objects: list[Object] = []
    for name, colour in zip(names, _colours(names, rng), strict=True):
        sizes = np.array(world.models[name].size) * rng.uniform(0.8, 1.2) * rng.uniform(0.92, 1.08, 2)[[0, 0, 1]]
        xy = _place(radius, float(np.hypot(sizes[0], sizes[1])) / 2, objects, rng)
        if xy is None:
            return None
        objects.append(build(name, world.models[name], colour, sizes, xy, rng.uniform(-np.pi, np.pi)))
    return tuple(objects[i] for i in rng.permutation(total))


def _place(radius: float, reach: float, objects: list[Object], rng: np.random.Generator) -> np.ndarray | None:
    """A free place [2] for something that reaches `reach` around it, in a disc of `radius`."""
    rooms = [reach + np.hypot(*other.size[:2]) / 2 + GAP * radius for other in objects]
    for distance, angle in zip(radius * np.sqrt(rng.uniform(size=20)), rng.uniform(0, 2 * np.pi, 20), strict=True):
        xy = distance * np.array([np.cos(angle), np.sin(angle)])
        if all(np.hypot(*(xy - other.center[:2])) > room for other, room in zip(objects, rooms, strict=True)):
            return xy
    return None


def _colours(names: list[str], rng: np.random.Generator) -> list[str]:
    """A colour for each name, so that no two objects share both; colours repeat across classes in some scenes."""
    if rng.uniform() < 0.6:
        return [str(c) for c in rng.permutation(PLAIN_COLOURS)[: len(names)]]
    orders = {name: [str(c) for c in rng.permutation(PLAIN_COLOURS)] for name in dict.fromkeys(names)}
    return [orders[name].pop() for name in names]


def _corners(thing: Object) -> np.ndarray:
    """f64 [8, 3]: corners of the bounding box in the world."""
    signs = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)])
    return thing.center + (signs * thing.size / 2) @ thing.rotation.T


def _clear(pixels: np.ndarray, size: tuple[int, int]) -> bool:
    """Whether boxes around projected corners [n, 8, 3] are large enough and not covered by nearer ones."""
    low, high = pixels[..., :2].min(1), pixels[..., :2].max(1)
    extent = (high - low) / min(size)
    if (extent.min(1) < SHORT).any() or (extent.max(1) < LONG).any():
        return False
    shared = np.clip(np.minimum(high[:, None], high) - np.maximum(low[:, None], low), 0, None).prod(-1)
    depth = pixels[..., 2].mean(1)
    covered = np.where(depth[None] < depth[:, None], shared, 0).sum(1) / (high - low).prod(-1)
    return bool((covered <= HIDDEN).all())
