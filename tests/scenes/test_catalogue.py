"""The catalogue's classes: sizes, names, shelves, and bodies that show their colour, by the plain tracer of `oracle.py`."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest

from sv_jax.scenes import SCALES
from sv_jax.scenes.catalogue import BODY, CLASSES
from sv_jax.scenes.worlds import COLOURS, WORLDS, build
from sv_jax.tasks.numbers import plural
from tests.scenes import oracle

LONGEST = {"tiny": (0.005, 0.1), "tabletop": (0.04, 0.5), "indoor": (0.2, 3.0), "outdoor": (0.3, 20.0), "drone": (3.0, 300.0)}  # metres
EVERY = [(scale, name) for scale in SCALES for name in CLASSES[scale]]
PLURALS = {
    "battery": "batteries", "bench": "benches", "bookshelf": "bookshelves", "box": "boxes", "bus": "buses", "church": "churches",
    "die": "dice", "football pitch": "football pitches", "mailbox": "mailboxes", "matchbox": "matchboxes", "mouse": "mice",
    "observatory": "observatories", "person": "people", "trophy": "trophies",
}  # fmt: skip


def standing(scale, name, yaw=0.0):
    model = CLASSES[scale][name]
    return build(name, model, "red", np.array(model.size), np.zeros(2), float(yaw))


def heights(scale, name, x, y):
    """Top of the class above each of the points [n] of its unit box, as shares of its height; 0 where nothing is."""
    thing = standing(scale, name)
    found = []
    for u, v in zip(x, y, strict=True):
        start = np.array([(u - 0.5) * thing.size[0], (v - 0.5) * thing.size[1], 3 * thing.size[2]])
        t = min(oracle.hit(solid, start, np.array([[1e-9, 1e-9, -1.0]]))[0][0] for solid in thing.solids)
        found.append((start[2] - t) / thing.size[2] if np.isfinite(t) else 0.0)
    return np.array(found)


@pytest.mark.parametrize("scale", SCALES)
def test_tiers(scale):
    tiers = [model.tier for model in CLASSES[scale].values()]
    assert tiers[:8] == ["basic"] * 8 and set(tiers[8:]) == {"more", "unseen"}
    assert tiers.count("unseen") == 2 and len(tiers) - 2 >= 18
    assert list(WORLDS[scale].models) == list(CLASSES[scale])[:8]


def test_parts_fill_the_unit_box_and_are_few():
    for scale, name in EVERY:
        parts = CLASSES[scale][name].parts
        for axis in "xyz":
            ends = np.array([getattr(part, axis) for part in parts])
            assert ends.min() == 0 and ends.max() == 1 and (ends[:, 0] < ends[:, 1]).all(), (name, axis)
        assert len(parts) <= 14, name
    assert np.mean([len(CLASSES[scale][name].parts) < 8 for scale, name in EVERY]) > 0.5


def test_sizes_are_of_their_scale():
    for scale, name in EVERY:
        low, high = LONGEST[scale]
        assert low <= max(CLASSES[scale][name].size) <= high, name
        assert min(CLASSES[scale][name].size) >= low / 10, name


def test_no_name_is_part_of_another_of_its_scale_or_of_other_things():
    for scale in SCALES:
        assert not [(a, b) for a, b in permutations(CLASSES[scale], 2) if f" {a} " in f" {b} "]
    names = [name for _, name in EVERY]
    same = {"house", "tree", "car", "bus", "suitcase", "crate", "flowerpot"}  # from the air, or carried to the street
    assert {name for name in names if names.count(name) > 1} == same
    assert not {word for name in names for word in name.split()} & {*COLOURS, "object", "objects"}


def test_plurals():
    names = {name for _, name in EVERY}
    assert set(PLURALS) <= names
    for name in names:
        assert plural(name) == PLURALS.get(name, f"{name}s")
    assert len({plural(name) for name in names}) == len(names)


def test_a_shelf_is_a_top_face_free_above_and_a_hollow_has_walls():
    for scale, name in EVERY:
        shelf = CLASSES[scale][name].shelf
        if shelf is None:
            continue
        (left, right), (front, back) = shelf.x, shelf.y
        assert 0 <= left < right <= 1 and 0 <= front < back <= 1 and 0 < shelf.z <= 1, name
        x, y = (a.ravel() for a in np.meshgrid(np.linspace(left, right, 5), np.linspace(front, back, 5)))
        inward = 1e-3 * np.array([np.sign(0.5 * (left + right) - x), np.sign(0.5 * (front + back) - y)])
        tops = heights(scale, name, x + inward[0], y + inward[1])
        assert tops.max() == pytest.approx(shelf.z, abs=1e-6), name
        assert tops.min() >= shelf.z - 0.031, name  # a strip of tape, a sleeve or pips may stand out
        if shelf.relation == "in":
            rims = heights(scale, name, [left - 0.01, right + 0.01, 0.5 * (left + right)], [0.5 * (front + back)] * 2 + [back + 0.01])
            assert rims.min() > shelf.z + 0.05, name
        else:
            assert shelf.relation == "on", name


@pytest.mark.parametrize("scale", ["tiny", "tabletop", "indoor", "outdoor"])
def test_at_least_three_classes_bear_or_hold_others(scale):
    assert sum(model.shelf is not None and model.tier != "unseen" for model in CLASSES[scale].values()) >= 3


def test_from_usual_views_most_of_a_thing_is_its_body():
    """The share of rays that meet the body, over four views 30 degrees above the horizon."""
    rise = np.radians(30)
    forward, up = np.array([0, np.cos(rise), -np.sin(rise)]), np.array([0, np.sin(rise), np.cos(rise)])
    v, u = np.mgrid[-0.5:0.5:24j, -0.5:0.5:24j].reshape(2, -1, 1)
    for scale, name in EVERY:
        model, met = CLASSES[scale][name], []
        for yaw in np.radians([20, 110, 200, 290]):
            thing = standing(scale, name, yaw=yaw)
            reach = np.linalg.norm(thing.size)
            rays = 4 * forward + u * [1, 0, 0] + v * up
            t = np.stack([oracle.hit(solid, thing.center - 4 * reach * forward, rays)[0] for solid in thing.solids])
            met.extend(t.argmin(0)[np.isfinite(t.min(0))])
        body = np.mean([model.parts[i].paint is BODY for i in met])
        assert body > (0.4 if model.tier == "basic" else 0.5), (name, body)
