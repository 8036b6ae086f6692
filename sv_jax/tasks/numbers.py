"""Tasks that are answered with a number: object_size, absolute_distance, depth, counting, area_estimation."""

from __future__ import annotations

from itertools import combinations

import numpy as np

from sv_jax.tasks import geometry, refer, units
from sv_jax.tasks.qa import QA
from sv_jax.tasks.view import VISIBLE, Seen, View

HEIGHT_TEMPLATES = (
    "How tall is {a}, in {unit}?",
    "What is the height of {a}, in {unit}?",
    "Give the height of {a} in {unit}.",
    "In {unit}, how tall is {a}?",
    "How many {unit} tall is {a}?",
)
DISTANCE_TEMPLATES = (
    "What is the closest distance between {a} and {b}, in {unit}?",
    "How far apart are {a} and {b} at their closest points, in {unit}?",
    "Give the closest distance between {a} and {b} in {unit}.",
    "In {unit}, how far is {a} from {b} at their closest points?",
    "How many {unit} lie between {a} and {b} at their closest points?",
)
DEPTH_TEMPLATES = (
    "How far is {a} from the camera plane in the first frame, in {unit}?",
    "What is the depth of the nearest point of {a} in the first frame, in {unit}?",
    "Give the distance from the camera plane to {a} in the first frame, in {unit}.",
    "In {unit}, how far from the camera plane is {a} in the first frame?",
    "How many {unit} lie between the camera plane and {a} in the first frame?",
)
COUNT_TEMPLATES = (
    "How many {group} are there in the video?",
    "How many {group} does the video show?",
    "Count the {group} in the video.",
    "What is the number of {group} in the video?",
)
AREA_TEMPLATES = (
    "What ground area does {a} cover, seen from above, in {unit}?",
    "How many {unit} of ground does {a} cover, seen from above?",
    "Give the area of the footprint of {a} in {unit}.",
    "In {unit}, how large is the footprint of {a}?",
    "Estimate the footprint area of {a}, in {unit}.",
)
PART = 0.3  # of an object's silhouette that some frame must show for it to be counted
AREA_SCALES = ("drone", "outdoor")
REGION = 0.005  # share of the first frame that an object must fill for its area to be asked ...
STEEPEST = np.radians(60)  # ... and the largest angle between the view of it and the vertical


def _one(rng: np.random.Generator, candidates: list):
    """One of the candidates, None where there is none."""
    return candidates[rng.integers(len(candidates))] if candidates else None


def _number(view, rng, chosen: tuple[Seen, ...], task: str, templates, unit: str, value: float, body: str = "") -> QA:
    """A question for a length `value` in metres about one or two objects."""
    called, marks = refer.names(view, chosen, rng)
    question = templates[rng.integers(len(templates))].format(**dict(zip("ab", called, strict=False)), unit=units.NAMES[unit])
    return refer.about(
        view, chosen, task, body=body, question=question, answer=units.in_unit(value, unit), answer_type="number",
        unit=unit, answer_si=value, marks=marks,
    )  # fmt: skip


def object_size(view: View, rng: np.random.Generator) -> QA | None:
    """Height of an object whose full height the clip shows."""
    seen = _one(rng, [s for s in view.seen if view.shows_height(s)])
    if seen is None:
        return None
    return _number(view, rng, (seen,), "object_size", HEIGHT_TEMPLATES, units.HEIGHT[view.scene.scale], seen.height)


def absolute_distance(view: View, rng: np.random.Generator) -> QA | None:
    """Closest distance between the solids of two objects."""
    pairs = list(combinations(view.seen, 2))
    unit = units.DISTANCE[view.scene.scale]
    for i in rng.permutation(len(pairs))[:8]:
        pair = pairs[i] if rng.random() < 0.5 else pairs[i][::-1]
        value = view.gap(*pair)
        if value is not None:
            body = f"{units.with_unit(value, unit)} apart"
            return _number(view, rng, pair, "absolute_distance", DISTANCE_TEMPLATES, unit, value, body)
    return None


def depth(view: View, rng: np.random.Generator) -> QA | None:
    """z-depth of an object's nearest point in the first frame, which shows it."""
    seen = _one(rng, [s for s in view.seen if view.shows_front(s)])
    if seen is None:
        return None
    return _number(view, rng, (seen,), "depth", DEPTH_TEMPLATES, units.DISTANCE[view.scene.scale], seen.depth)


def plural(noun: str) -> str:
    """The plural: "mug" -> "mugs", "battery" -> "batteries", "box" -> "boxes"."""
    irregular = {"die": "dice", "bookshelf": "bookshelves", "person": "people", "mouse": "mice"}
    head, _, last = noun.rpartition(" ")
    if last in irregular:
        last = irregular[last]
    elif last.endswith("y") and last[-2] not in "aeiou":
        last = last[:-1] + "ies"
    else:
        last += "es" if last.endswith(("s", "x", "ch", "sh")) else "s"
    return f"{head} {last}" if head else last


def counting(view: View, rng: np.random.Generator) -> QA | None:
    """Number of all objects, or of those of a class or colour, where each is clearly visible in some frame or never visible at all."""
    groups: dict[str, list[int]] = {}
    for index, thing in enumerate(view.scene.objects):
        if view.pixels[:, index].any():
            for name in (*(["objects"] if view.bare else []), plural(thing.name), f"{thing.colour} objects"):
                groups.setdefault(name, []).append(index)
    clear = {name: members for name, members in groups.items() if all(_clear(view, i) for i in members)}
    if not clear:
        return None
    # the count is drawn first, larger ones more often: most groups hold a single object, and a constant answer must not pay
    counts = sorted({len(members) for members in clear.values()})
    count = int(rng.choice(counts, p=np.array(counts) / sum(counts)))
    name = _one(rng, sorted(name for name, members in clear.items() if len(members) == count))
    facts = "; ".join([view.scene.objects[i].phrase for i in clear[name]] + [str(count)])
    question = COUNT_TEMPLATES[rng.integers(len(COUNT_TEMPLATES))].format(group=name)
    return refer.record(
        view, "counting", name, facts, question=question, answer=str(count), answer_type="number", answer_si=float(count),
    )  # fmt: skip


def _clear(view: View, index: int) -> bool:
    """Whether some frame shows the object clearly, and a good part of it."""
    enough = view.pixels[:, index] >= VISIBLE * view.scene.ids[0].size
    return any(view.share(index, frame) >= PART for frame in np.flatnonzero(enough).tolist())


def area_estimation(view: View, rng: np.random.Generator) -> QA | None:
    """Area of the footprint of an object that the clip shows from above, in square metres. Drone and outdoor scenes only."""
    if view.scene.scale not in AREA_SCALES:
        return None
    seen = _one(rng, [s for s in view.seen if _shows_area(view, s)])
    if seen is None:
        return None
    value = geometry.area(geometry.outline(seen.object.solids))
    width, length = map(float, seen.object.size[:2])
    share = round(100 * value / (width * length))
    called, marks = refer.names(view, (seen,), rng, ("box", "mask"))
    return refer.about(
        view, (seen,), "area_estimation", body=f"{share} % of {units.number(width)} m x {units.number(length)} m; {units.number(value)} m2",
        question=AREA_TEMPLATES[rng.integers(len(AREA_TEMPLATES))].format(a=called[0], unit=units.NAMES["m²"]),
        answer=units.number(value), answer_type="number", unit="m²", answer_si=value, marks=marks,
    )  # fmt: skip


def _shows_area(view: View, seen: Seen) -> bool:
    """Whether an object is large enough in the first frame and seen steeply enough, one of its parts fills its convex outline from above,
    so that this is its footprint, and the clip shows that outline within 5 %."""
    if view.pixels[0, seen.index] < REGION * view.scene.ids[0].size:
        return False
    across, up = np.linalg.norm(view.scene.poses[0, :2, 3] - seen.object.center[:2]), view.scene.poses[0, 2, 3] - seen.object.center[2]
    if np.arctan2(across, up) > STEEPEST:
        return False
    whole, *parts = (geometry.area(geometry.outline(solids)) for solids in (seen.object.solids, *((s,) for s in seen.object.solids)))
    return max(parts) >= 0.98 * whole and geometry.area(view.outline(seen.index)) >= 0.95 * whole
