"""Questions about full worlds: their answers follow from the pixels, and nothing hidden, borne or unnamed puts them in doubt."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest

from sv_jax.scenes.scene import Room
from sv_jax.tasks import ask, refer
from sv_jax.tasks.geometry import box_iou
from sv_jax.tasks.plans import _inside
from sv_jax.tasks.view import View
from tests.tasks.recompute import RECOMPUTE, Pixels, Verdict, check, things


@pytest.fixture(scope="module")
def asked(full):
    """(scene, its pixels, question), many of every task but obstacles."""
    tasks = [task for task in RECOMPUTE if task != "obstacles"]
    return [
        (scene, pixels, qa)
        for k, scene in enumerate(full)
        for pixels in [Pixels.of(scene)]
        for qa in ask(scene, np.random.default_rng(k), 30, tasks)
    ]


def test_answers_about_full_worlds_follow_from_the_pixels(asked):
    for _, pixels, qa in asked:
        assert (verdict := check(pixels, qa)).agrees, (verdict, qa)
    assert len(asked) >= 200 and len({qa.task for *_, qa in asked}) >= 11


def test_a_wrong_answer_or_an_unclear_name_disagrees(asked):
    for _, pixels, qa in asked[:60]:
        if qa.answer_type == "choice":
            wrong = replace(qa, answer="B" if qa.answer == "A" else "A")
        elif qa.unit is None:
            wrong = replace(qa, answer=str(int(qa.answer) + 1), answer_si=qa.answer_si + 1)
        else:
            wrong = replace(qa, answer=str(float(qa.answer) * 1.2), answer_si=qa.answer_si * 1.2)
        assert not check(pixels, wrong).agrees, qa
    pixels, qa = next((p, qa) for _, p, qa in asked if qa.task == "depth" and not qa.marks)
    twice = Pixels(pixels.depth, pixels.ids, pixels.K, pixels.poses, [pixels.names[things(pixels, qa)[0]]] * len(pixels.names))
    assert check(twice, qa) == Verdict(False, 1.0, check(twice, qa).found) and "unclear" in check(twice, qa).found


def test_the_object_in_a_box_is_the_only_one_that_fills_it(asked):
    for _, pixels, qa in asked:
        for mark in (m for m in qa.marks if m["kind"] == "box"):
            own = pixels.boxed(mark)
            for k in set(np.unique(pixels.ids[mark["frame"]]).tolist()) - {0, own}:
                boxes = [
                    (u.min(), v.min(), u.max() + 1, v.max() + 1) for v, u in (np.nonzero(pixels.ids[mark["frame"]] == i) for i in (own, k))
                ]
                assert _overlap(*boxes) < 0.5, (qa, k)


def _overlap(a, b) -> float:
    """Intersection over union, counted in pixels."""
    canvas = np.zeros((2, 256, 256), bool)
    for plane, (x0, y0, x1, y1) in zip(canvas, (a, b), strict=True):
        plane[y0:y1, x0:x1] = True
    return float(canvas.all(0).sum() / canvas.any(0).sum())


def test_box_iou_counts_pixels():
    rng = np.random.default_rng(0)
    for _ in range(50):
        low, side = rng.integers(0, 50, (2, 2)), rng.integers(1, 60, (2, 2))
        a, b = (tuple(box) for box in np.hstack([low, low + side]).tolist())
        assert box_iou(a, b) == pytest.approx(_overlap(a, b))


def test_the_same_words_with_the_other_side_have_the_other_answer(asked):
    sides = ("to the left of", "to the right of", "nearer to the camera than", "farther from the camera than")
    polar = [(pixels, qa) for _, pixels, qa in asked if qa.task == "existence" and len(qa.options) == 2]
    for pixels, qa in polar:
        side = next(i for i, text in enumerate(sides) if text in qa.question)
        other = replace(qa, question=qa.question.replace(sides[side], sides[side ^ 1]), answer="AB"[qa.answer == "A"])
        assert (verdict := check(pixels, other)).agrees, (verdict, other)
    assert len(polar) >= 10 and 0.2 < np.mean([qa.options["AB".index(qa.answer)] == "Yes" for _, qa in polar]) < 0.8


def test_depth_is_asked_where_the_first_frame_shows_the_nearest_point(asked):
    """Against points all over the object's parts."""
    grid = np.stack(np.meshgrid(*[np.linspace(-1, 1, 21)] * 3), -1).reshape(-1, 3)
    for scene, pixels, qa in asked:
        if qa.task != "depth":
            continue
        thing, pose = scene.objects[things(pixels, qa)[0] - 1], scene.poses[0]
        inside = {"box": grid[:, 0] < 2, "cylinder": np.hypot(*grid[:, :2].T) <= 1, "ellipsoid": np.linalg.norm(grid, axis=1) <= 1}
        points = np.concatenate([np.array(p.center) + grid[inside[p.kind]] * p.half for p in thing.parts])
        nearest = ((thing.center + points @ thing.rotation.T - pose[:3, 3]) @ pose[:3, 2]).min()
        assert qa.answer_si <= 1.04 * nearest, qa


def test_the_taller_object_also_ends_higher_up(asked):
    compared = [(pixels, qa) for _, pixels, qa in asked if qa.task == "size_comparison"]
    for pixels, qa in compared:
        tops = [pixels.cloud(k)[:, 2].max() for k in things(pixels, qa)]
        assert int(np.argmax(tops)) == "AB".index(qa.answer), qa
    assert len(compared) >= 15


def test_names_seldom_tell_which_of_two_is_taller(asked):
    compared = [qa for *_, qa in asked if qa.task == "size_comparison"]
    told = [qa for qa in compared if not qa.marks and len({option.rsplit(" ", 1)[-1] for option in qa.options}) == 2]
    assert len(told) < 0.4 * len(compared)


def test_all_objects_are_asked_for_only_where_nothing_else_rises_from_the_ground(full, scenes):
    for scene in full:
        background = scene.depth[(scene.ids == 0) & np.isfinite(scene.depth)]
        assert not View(scene).bare or scene.room is None and len(background)
        if not View(scene).bare:
            for qa in ask(scene, np.random.default_rng(0), 12, ["counting", "existence"]):
                assert not re.search(r"\b(the|many|of) objects\b|(an|another) object\b", qa.question), qa
    assert all(View(scene).bare for scene in scenes) and any(not View(scene).bare for scene in full)


def test_five_objects_are_named_by_phrases_that_fit_one_each(full):
    drawn = [(scene, ask(scene, np.random.default_rng(seed), 4, ["relative_distance"])) for scene in full for seed in range(2)]
    named = [(scene, qa) for scene, questions in drawn for qa in questions if len(qa.options) == 4]
    for scene, qa in named:
        phrases = Counter(thing.phrase for thing in scene.objects)
        assert all(phrases[phrase] == 1 for phrase in qa.semantic.split(", ")), qa
    assert len(named) >= 3


def test_left_of_holds_for_hidden_parts_too(full):
    for scene in full:
        for a, b in combinations(View(scene).seen, 2):
            if refer.beside(a, b):
                assert a.box[2] < b.box[0] and a.sides[1] < b.sides[0]
            assert a.sides[0] <= a.box[0] and a.sides[1] >= a.box[2]


def test_routes_do_not_cross_the_walls_of_a_room(scenes):
    """An L: from one leg of it to the other there is a straight way only past the inner corner, (1, 1)."""
    floor = np.array([[0, 0], [3, 0], [3, 1], [1, 1], [1, 3], [0, 3]], float)
    view = View(replace(scenes[0], room=Room(floor, 2.5)))

    def at(x: float, y: float):
        seen = view.seen[0]
        return replace(seen, object=replace(seen.object, center=np.array([x, y, 0.1])))

    assert not _inside(view, at(2.5, 0.8), at(0.8, 2.5))
    assert _inside(view, at(2.5, 0.2), at(0.2, 0.5)) and _inside(view, at(0.2, 0.2), at(0.5, 2.8))
