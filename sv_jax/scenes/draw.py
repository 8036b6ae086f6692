"""The kinds of worlds, and `draw`: the layout of a scene of one of them."""

from __future__ import annotations

import numpy as np

from sv_jax.scenes import aerial, plain, rooms, streets, tables
from sv_jax.scenes.layout import Layout
from sv_jax.scenes.place import Crowd

KINDS = {
    "full": "everything: rooms, streets, landscapes, things on and in others, all camera paths",
    "odd": "as full, with objects of half or twice their usual size among them",
    "unseen": "as full, with classes that no other kind shows",
    "plain": "few objects on a chequered ground, all in every frame",
}
FULL = {"tiny": tables.draw, "tabletop": tables.draw, "indoor": rooms.draw, "outdoor": streets.draw, "drone": aerial.draw}
GAP = {"tiny": 0.002, "tabletop": 0.012, "indoor": 0.06, "outdoor": 0.25, "drone": 1.5}  # metres around each object
TRIES = 100


def draw(kind: str, scale: str, rng: np.random.Generator, frames: int, size: tuple[int, int], objects: tuple[int, int]) -> Layout:
    """A layout for clips of `frames` frames of (H, W). `objects` (least, most) holds for plain worlds; the others have room for more."""
    if kind == "plain":
        return plain.draw(scale, rng, frames, size, objects)
    for _ in range(TRIES):
        layout = FULL[scale](Crowd(scale, rng, GAP[scale], unseen=kind == "unseen", odd=kind == "odd"), scale, rng, frames, size)
        if layout is not None:
            return layout
    raise RuntimeError(f"no {kind} {scale} scene in {TRIES} draws")
