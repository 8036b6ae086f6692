"""Colours of textured surfaces: cells with lines, chequers, grain and smooth noise, averaged over what a pixel spans."""

from __future__ import annotations

import jax.numpy as jnp
from jax import lax

once = lax.optimization_barrier  # XLA on a CPU computes what several results need once for each of them, unless it ends here


def _hash(*cells):
    """f32 [N] in [-1/2, 1/2) from integer cells, i32 [N] each."""
    mixed = jnp.uint32(0)
    for cell, prime in zip(cells, (73856093, 19349663, 83492791), strict=False):
        mixed = mixed ^ (cell.astype(jnp.uint32) * jnp.uint32(prime))
    mixed = (mixed ^ (mixed >> 13)) * jnp.uint32(1274126177)
    return (mixed >> 16).astype(jnp.float32) / 65536 - 0.5


def _noise(place):
    """f32 [N] in [-1/2, 1/2): smooth noise over the unit lattice of coordinates, three [N]."""
    cells = [jnp.floor(p) for p in place]
    (i, u), (j, v), (k, w) = ((c.astype(jnp.int32), (f := p - c) * f * (3 - 2 * f)) for p, c in zip(place, cells, strict=True))

    def line(b, c):
        return (1 - u) * _hash(i, b, c) + u * _hash(i + 1, b, c)

    def plane(c):
        return (1 - v) * line(j, c) + v * line(j + 1, c)

    return (1 - w) * plane(k) + w * plane(k + 1)


def albedo(look, place, normal, width):
    """Colours, three [N], of surfaces with paint [N, PAINT] at own coordinates `place` in metres, three [N]; patterns are averaged over
    pixels that span `width` metres [N]. On a face a pattern has the two axes that lie in it."""
    first, second = look[:, :3], look[:, 3:6]
    line, bond, checker, grain, noise = look[:, 9:14].T
    rate = [jnp.where(jnp.abs(normal[i]) < 0.7, look[:, 6 + i], 0) for i in range(3)]
    used = [r > 0 for r in rate]
    cell = [jnp.where(used[i], place[i] * rate[i], 0.5) for i in range(3)]
    row = jnp.floor(jnp.where(used[2], cell[2], cell[1]))
    shift = bond * 0.5 * (row - 2 * jnp.floor(row / 2))  # of every other row, along both ways: one of them has no cells
    cell = [cell[0] + shift, cell[1] + jnp.where(used[2], shift, 0), cell[2]]
    span = [jnp.maximum(width * r, 1e-4) for r in rate]

    def wave(p, w):  # mean of a square wave of period 2 and values +-1
        bump = [jnp.abs(q - jnp.floor(q) - 0.5) for q in ((p - w / 2) / 2, (p + w / 2) / 2)]
        return 2 * (bump[0] - bump[1]) / w

    def lines(p, w):  # share of lines that fill [0, line) of each cell
        ends = [jnp.floor(q) * line + jnp.minimum(q - jnp.floor(q), line) for q in (p - w / 2, p + w / 2)]
        return (ends[1] - ends[0]) / w

    odd = 0.5 - 0.5 * wave(cell[0], span[0]) * wave(cell[1], span[1]) * wave(cell[2], span[2])
    free = 1.0
    for i in range(3):
        free = free * jnp.where(used[i], 1 - lines(cell[i], span[i]), 1)
    mixed = jnp.maximum(checker * odd, 1 - free)

    coarse = jnp.maximum(jnp.maximum(span[0], span[1]), span[2])
    bright = 1 + grain * _hash(*(jnp.floor(c).astype(jnp.int32) for c in cell)) * jnp.clip(1.5 - 2 * coarse, 0, 1)
    finest = jnp.maximum(jnp.maximum(look[:, 14], look[:, 15]), look[:, 16]) * width
    bright, noisy = once((bright, [p * look[:, 14 + i] for i, p in enumerate(place)]))
    bright += noise * _noise(noisy) * jnp.clip(1.5 - finest, 0, 1)
    mixed, bright = once((mixed, bright))
    return [jnp.clip((first[:, i] + (second[:, i] - first[:, i]) * mixed) * bright, 0, 1) for i in range(3)]
