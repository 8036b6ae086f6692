"""room_size: the floor area or the volume of a room that the clip shows all around."""

from __future__ import annotations

import numpy as np

from sv_jax.tasks import geometry, refer, units
from sv_jax.tasks.qa import QA
from sv_jax.tasks.view import View

SHOWN = 0.8  # share of the walls' length that the clip must show
STEP = 0.2  # metres of wall that count as shown where one of their points is
CORNER = 0.3  # metres from a corner within which both its walls must show a point ...
EDGE = 0.6  # ... that lies this near to the floor or the ceiling
THICK = 0.02  # metres between a surface and points that count as its own: doors and windows stand out a little
LEVEL = 0.005  # share of the background's pixels from which the floor or the ceiling counts as seen
GRID = 112  # columns of a frame that are looked at: all of them would take long
AREA_TEMPLATES = (
    "What is the floor area of this room, in {unit}?",
    "How many {unit} of floor does this room have?",
    "How large is the floor of the room in the video, in {unit}?",
    "In {unit}, what is the size of the room's floor?",
    "Give the area of the room's floor, furniture included, in {unit}.",
)
VOLUME_TEMPLATES = (
    "What is the volume of this room, in {unit}?",
    "How many {unit} of space does this room enclose?",
    "How large is the volume of the room in the video, in {unit}?",
    "In {unit}, what is the room's volume between floor and ceiling?",
    "Give the volume of the empty room in {unit}.",
)


def room_size(view: View, rng: np.random.Generator) -> QA | None:
    """Floor area of the room, or by a coin its volume where the clip shows floor and ceiling. Indoor scenes with a room only."""
    room = view.scene.room
    shows = room is not None and view.once("room", lambda: _shows(view))
    if not shows:
        return None
    area = geometry.area(room.corners)
    width, depth = np.ptp(room.corners, axis=0)
    facts = f"walls {units.number(width)} m x {units.number(depth)} m apart, {round(100 * area / (width * depth))} % of it floor"
    facts += f"; {units.number(area)} m2"
    templates, unit, value = AREA_TEMPLATES, "m²", area
    if shows == "volume" and rng.random() < 0.5:
        templates, unit, value = VOLUME_TEMPLATES, "m³", area * room.height
        facts += f"; {units.number(room.height)} m high; {units.number(value)} m3"
    return refer.record(
        view, "room_size", "room", facts, question=templates[rng.integers(len(templates))].format(unit=units.NAMES[unit]),
        answer=units.number(value), answer_type="number", unit=unit, answer_si=value,
    )  # fmt: skip


def _shows(view: View) -> str | None:
    """What the clip shows of the room: "area", "volume" with floor and ceiling, too, or None."""
    room, points = view.scene.room, _background(view)
    if not len(points):
        return None
    ends = np.roll(room.corners, -1, 0)
    lengths = np.linalg.norm(ends - room.corners, axis=1)
    shares, corners = zip(*(_wall(points, a, b, room.height) for a, b in zip(room.corners, ends, strict=True)), strict=True)
    if np.dot(shares, lengths) < SHOWN * lengths.sum() or not np.all(corners):
        return None
    levels = [np.abs(points[:, 2] - z) <= THICK for z in (0.0, room.height)]
    return "volume" if min(level.mean() for level in levels) >= LEVEL else "area"


def _background(view: View) -> np.ndarray:
    """f64 [n, 3]: world points of a grid of the clip's pixels that show no object."""
    scene, step = view.scene, max(1, view.scene.ids.shape[2] // GRID)
    frame, row, column = np.nonzero((scene.ids[:, ::step, ::step] == 0) & np.isfinite(scene.depth[:, ::step, ::step]))
    row, column = row * step, column * step
    return geometry.points_at(scene.depth[frame, row, column], column, row, scene.K, scene.poses[frame])


def _wall(points: np.ndarray, a: np.ndarray, b: np.ndarray, height: float) -> tuple[float, bool]:
    """Which share of the wall from corner `a` to `b` [2] some points show, and whether some do at both its ends."""
    length = np.linalg.norm(b - a)
    way = (b - a) / length
    along, across = (points[:, :2] - a) @ way, (points[:, :2] - a) @ [-way[1], way[0]]
    own = (np.abs(across) <= THICK) & (along >= 0) & (along < length)
    steps = int(np.ceil(length / STEP))
    share = len(np.unique((along[own] / length * steps).astype(int))) / steps
    edge = own & (np.minimum(points[:, 2], height - points[:, 2]) <= EDGE)
    return share, bool(edge.any() and along[edge].min() <= CORNER and along[edge].max() >= length - CORNER)
