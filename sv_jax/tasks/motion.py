"""Tasks about two frames: view_change and rotation, how the camera moved and the camera or an object turned, and object_matching."""

from __future__ import annotations

from itertools import combinations, permutations

import numpy as np

from sv_jax.tasks import geometry, refer, units
from sv_jax.tasks.numbers import PART
from sv_jax.tasks.qa import LETTERS, QA
from sv_jax.tasks.view import Seen, View

MOVED = 0.1  # median depths that the camera moves, at least
TURNED = np.radians(15)  # of a turn that is asked for by its direction
CLEAR = 2.0  # how far the largest component exceeds the others
TOTAL = np.radians(10), np.radians(170)  # least and most of an angle that is asked for
SHARED = 0.3  # of a frame's points that the other frame shows, too
STEP = np.radians(40)  # of an object's turn from frame to frame, at most, so that the eye can follow it
LONG = 1.25  # ratio of the sides of an object whose turn is asked for, at least
LIKE = np.radians(2)  # within which what a frame shows of it, seen from above, points where it does
WHOLE = 0.9  # share of its silhouette that each frame shows of an object whose turn is asked
VIEWPOINT = np.radians(20), np.radians(120)  # between the directions from which two frames see a matched object

AXES = (("left", "right"), ("up", "down"), ("backward", "forward"))  # of the camera: -x and x, -y and y, -z and z
AHEAD = 2  # index of backward and forward
TURNS = (("left", "right"), ("up", "down"), ("counter-clockwise", "clockwise"))  # yaw, pitch, roll: negative and positive
MOVE_TEMPLATES = (
    "Which way did the camera itself move from {f} to {g}, whatever its turn, seen along the axes of {f}?",
    "From {f} to {g}, in which direction did the camera's position change? Directions are those of {f}.",
    "Seen from {f}, where did the camera go until {g}, turns not counted?",
    "In the axes of {f}, along which direction was the camera carried until {g}?",
)
TURN_TEMPLATES = (
    "Which way did the camera turn from {f} to {g}, whatever way it moved?",
    "From {f} to {g}, in which direction did the camera's view turn?",
    "How did the camera's orientation change between {f} and {g}: which way did it turn?",
    "Leaving its movement aside, which way did the camera turn between {f} and {g}?",
)
DISTANCE_TEMPLATES = (
    "How far is the camera's position in {g} from that in {f}, in {unit}?",
    "By how many {unit} did the camera move between {f} and {g}, in a straight line?",
    "Give the straight distance between the camera's positions in {f} and {g}, in {unit}.",
    "In {unit}, how far apart are the camera's places in {f} and {g}?",
)
ROTATION_TEMPLATES = (
    "By how many degrees did the camera rotate in total between {f} and {g}?",
    "What is the total angle, in degrees, between the camera's orientations in {f} and {g}?",
    "Give the angle in degrees of the rotation that turns the camera of {f} into that of {g}.",
    "In degrees, how much does the camera's orientation differ between {f} and {g}?",
)
OBJECT_TEMPLATES = (
    "By how many degrees did {a} turn about its vertical axis between {f} and {g}?",
    "Through what angle, in degrees, did {a} turn on the spot from {f} to {g}?",
    "Give the angle in degrees by which {a} itself turned, seen from above, between {f} and {g}.",
    "In degrees, how far did {a} rotate on the ground between {f} and {g}, however the camera moved?",
)
SENSE_TEMPLATES = (
    "Seen from above, which way did {a} turn about its vertical axis between {f} and {g}?",
    "Which way did {a} itself turn from {f} to {g}, seen from above?",
    "From {f} to {g}, in which sense did {a} rotate, as one would see it from above?",
    "However the camera moved: which way did {a} turn on the spot between {f} and {g}, seen from above?",
)
SENSES = ("clockwise", "counter-clockwise")
MATCH_TEMPLATES = (
    "Which box in the last frame holds the object in the red box in the first frame?",
    "The red box in the first frame marks an object. Which box in the last frame marks the same object?",
    "Find the object in the first frame's red box again. In which box of the last frame is it?",
    "Which mark in the last frame shows the very object that is in the red box in the first frame?",
)
CANDIDATES = ("blue", "green", "yellow")  # colours of the boxes in the last frame
NONE = "none of them"


def relative_pose(view: View, i: int, j: int) -> tuple[np.ndarray, np.ndarray]:
    """Rotation [3, 3] and position [3] in metres of camera j in the axes of camera i."""
    first, second = view.scene.poses[i], view.scene.poses[j]
    return first[:3, :3].T @ second[:3, :3], first[:3, :3].T @ (second[:3, 3] - first[:3, 3])


def turns(rotation: np.ndarray) -> np.ndarray:
    """Yaw to the right, pitch downward and roll clockwise [3] in radians, applied in this order, of a camera's rotation [3, 3]."""
    x, y, z = rotation[:, 2]
    return np.array([np.arctan2(x, z), np.arctan2(y, np.hypot(x, z)), np.arctan2(rotation[1, 0], rotation[1, 1])])


def total(rotation: np.ndarray) -> float:
    """The angle of a rotation [3, 3] in radians."""
    return float(np.arccos(np.clip((np.trace(rotation) - 1) / 2, -1, 1)))


def view_change(view: View, rng: np.random.Generator) -> QA | None:
    """Which way the camera moved, which way it turned, or how far it moved between two frames.

    An orbit to the right turns left, so that plain words would be in doubt: movement and turn are asked for apart. The options are the two
    ends of one axis, because the camera's usual motion makes the others easy to rule out. Some questions go back in time, and an axis is
    asked about where both its ends could be the answer. As a walk through a room leads toward its middle, forward and backward are asked
    about only where the frames in their order go both ways."""
    kinds: dict[str, dict | list] = {"move": {}, "turn": {}, "distance": []}
    for pair in _pairs(view):
        rotation, position = relative_pose(view, *pair)
        if np.linalg.norm(position) >= MOVED * view.once("typical depth", pair[0], lambda f=pair[0]: _typical_depth(view, f)):
            kinds["distance"] += [pair] if pair[0] < pair[1] else []
            _sort(kinds["move"], pair, position, 0.0)
        _sort(kinds["turn"], pair, turns(rotation), TURNED)
    if view.scene.room is not None and not all(any(i < j for i, j in end) for end in kinds["move"].get(AHEAD, ())):
        del kinds["move"][AHEAD]
    for kind in ("move", "turn"):
        kinds[kind] = {axis: ends for axis, ends in kinds[kind].items() if all(ends)}
    found = [kind for kind, cases in kinds.items() if cases]
    if not found:
        return None
    kind = found[rng.integers(len(found))]
    cases = kinds[kind]
    if kind == "distance":
        return _distance(view, rng, cases[rng.integers(len(cases))])
    axis = list(cases)[rng.integers(len(cases))]
    pairs = cases[axis][rng.integers(2)]
    return {"move": _move, "turn": _turn}[kind](view, rng, pairs[rng.integers(len(pairs))], axis)


def _sort(cases: dict[int, tuple[list, list]], pair: tuple[int, int], values: np.ndarray, least: float) -> None:
    """Put a pair of frames under the axis of the component of `values` [3] that clearly exceeds the others, and `least`, by its sign."""
    first, second, _ = np.argsort(-np.abs(values))
    if abs(values[first]) >= max(least, CLEAR * abs(values[second])):
        cases.setdefault(int(first), ([], []))[int(values[first] > 0)].append(pair)


def _pairs(view: View) -> list[tuple[int, int]]:
    """Pairs of frames, in both orders, each of which shows enough of what the other shows."""
    pairs = permutations(range(len(view.scene.poses)), 2)
    return [(i, j) for i, j in pairs if view.overlap(i, j) >= SHARED <= view.overlap(j, i)]


def _typical_depth(view: View, frame: int) -> float:
    """Median depth in metres of what a frame shows, the sky left out."""
    depth = view.scene.depth[frame]
    return float(np.median(depth[np.isfinite(depth)]))


def _move(view: View, rng: np.random.Generator, pair: tuple[int, int], axis: int) -> QA:
    _, position = relative_pose(view, *pair)
    return _direction(view, rng, pair, axis, MOVE_TEMPLATES, AXES, position, _shifts(view, position))


def _turn(view: View, rng: np.random.Generator, pair: tuple[int, int], axis: int) -> QA:
    angles = turns(relative_pose(view, *pair)[0])
    return _direction(view, rng, pair, axis, TURN_TEMPLATES, TURNS, angles, _angles(angles))


def _direction(view, rng, pair, axis: int, templates, names, values: np.ndarray, stated: str) -> QA:
    """Which end of `axis` the camera went to; `names` are the ends of the three axes."""
    end = names[axis][int(values[axis] > 0)]
    options = names[axis][:: 1 if rng.random() < 0.5 else -1]
    letter = LETTERS[options.index(end)]
    return _between(
        view, rng, pair, "view_change", templates, f"{stated}; {end}: {letter}", options=options, answer=letter, answer_type="choice"
    )


def _shifts(view: View, position: np.ndarray) -> str:
    """ "12 cm left, 1.3 cm up": the components of a movement, those below 2 % of it left out."""
    unit, least = units.DISTANCE[view.scene.scale], 0.02 * np.linalg.norm(position)
    stated = [(float(value), two[int(value > 0)]) for value, two in zip(position, AXES, strict=True) if abs(value) >= least]
    return ", ".join(f"{units.with_unit(abs(value), unit)} {end}" for value, end in stated)


def _angles(angles: np.ndarray) -> str:
    """ "22 deg left, 1 deg up, 13 deg clockwise": yaw, pitch and roll, those that round to zero left out."""
    degrees = [(round(abs(float(np.degrees(a)))), two[int(a > 0)]) for a, two in zip(angles, TURNS, strict=True)]
    return ", ".join(f"{size} deg {end}" for size, end in degrees if size)


def _distance(view: View, rng: np.random.Generator, pair: tuple[int, int]) -> QA:
    _, position = relative_pose(view, *pair)
    unit, value = units.DISTANCE[view.scene.scale], float(np.linalg.norm(position))
    return _between(
        view, rng, pair, "view_change", DISTANCE_TEMPLATES, f"{_shifts(view, position)}; {units.with_unit(value, unit)}", unit=unit,
        answer=units.in_unit(value, unit), answer_type="number", answer_si=value,
    )  # fmt: skip


def rotation(view: View, rng: np.random.Generator) -> QA | None:
    """How an object turned between two frames, or the camera; the other where the scene does not allow it."""
    kinds = (_object_turn, _camera_turn) if rng.random() < 0.5 else (_camera_turn, _object_turn)
    return kinds[0](view, rng) or kinds[1](view, rng)


def _object_turn(view: View, rng: np.random.Generator) -> QA | None:
    """The angle in degrees by which an object turned about its vertical axis between two frames, or which way."""
    cases = view.once("turned", lambda: _turned(view))
    if not cases:
        return None
    seen, pair, angle = cases[rng.integers(len(cases))]
    (called,), marks = refer.names(view, (seen,), rng, ("box",))
    shown = tuple(sorted({*range(pair[0], pair[1] + 1), *([0] if marks else [])}))
    sense, stated = SENSES[int(angle > 0)], f"{np.degrees(abs(angle)):.0f}"
    facts = f"{seen.phrase}: {stated} deg {sense}"
    if rng.random() < 0.5:
        return _between(
            view, rng, pair, "rotation", OBJECT_TEMPLATES, facts, unit="°", answer=stated, answer_type="number",
            answer_si=abs(angle), called=called, frames=shown, marks=marks,
        )  # fmt: skip
    options = SENSES[:: 1 if rng.random() < 0.5 else -1]
    letter = LETTERS[options.index(sense)]
    return _between(
        view, rng, pair, "rotation", SENSE_TEMPLATES, f"{facts}; {sense}: {letter}", options=options, answer=letter,
        answer_type="choice", called=called, frames=shown, marks=marks,
    )  # fmt: skip


def _turned(view: View) -> list[tuple[Seen, tuple[int, int], float]]:
    """Objects, pairs of frames and the angles in radians, counter-clockwise from above, by which they turned: longish objects of which all
    frames between the two show enough to tell where their longer sides point, so that one can follow them, however alike their ends."""
    cases = []
    for seen in view.moving:
        width, depth = seen.object.size[:2]
        if max(width, depth) < LONG * min(width, depth):
            continue
        yaws = np.unwrap(seen.object.motion[:, 3])
        clear = [_points(view, seen.index, frame, yaw + np.pi / 2 * (depth > width)) for frame, yaw in enumerate(yaws)]
        for i, j in combinations(range(len(yaws)), 2):
            angle, steps = yaws[j] - yaws[i], np.abs(np.diff(yaws[i : j + 1]))
            if TOTAL[0] <= abs(angle) <= TOTAL[1] and steps.max() < STEP and all(clear[i : j + 1]):
                cases.append((seen, (i, j), float(angle)))
    return cases


def _points(view: View, index: int, frame: int, angle: float) -> bool:
    """Whether a frame shows nearly all of an object whose points, seen from above, lie along an angle in radians."""
    if view.box(index, frame) is None or view.share(index, frame) < WHOLE:
        return False
    row, column = np.nonzero(view.mask(index, frame))
    points = geometry.points_at(view.scene.depth[frame, row, column], column, row, view.scene.K, view.scene.poses[frame])
    heading, ratio = _heading(geometry.hull(points[:, :2]))
    off = (heading - angle) % np.pi
    return bool(min(off, np.pi - off) <= LIKE and ratio >= LONG)


def _heading(corners: np.ndarray) -> tuple[float, float]:
    """Angle in radians of the longer sides of the smallest rectangle around a convex outline [n, 2], and how much longer they are."""
    edges = np.roll(corners, -1, 0) - corners
    angles = np.arctan2(edges[:, 1], edges[:, 0])
    sides = [np.ptp(corners @ [[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]], axis=0) for a in angles]
    best = int(np.argmin([np.prod(side) for side in sides]))
    return float(angles[best] + np.pi / 2 * (sides[best][1] > sides[best][0])), float(max(sides[best]) / min(sides[best]))


def _camera_turn(view: View, rng: np.random.Generator) -> QA | None:
    """The total angle in degrees by which the camera's orientation differs between two frames."""
    pairs = [pair for pair in _pairs(view) if pair[0] < pair[1] and TOTAL[0] <= total(relative_pose(view, *pair)[0]) <= TOTAL[1]]
    if not pairs:
        return None
    pair = pairs[rng.integers(len(pairs))]
    turn = relative_pose(view, *pair)[0]
    angle = total(turn)
    answer = f"{np.degrees(angle):.0f}"
    return _between(
        view, rng, pair, "rotation", ROTATION_TEMPLATES, f"{_angles(turns(turn))}; {answer} deg", unit="°", answer=answer,
        answer_type="number", answer_si=angle,
    )  # fmt: skip


def _between(view, rng, pair: tuple[int, int], task: str, templates, facts: str, called: str = "", **fields) -> QA:
    """A question about two frames, or about the object `called` in them; it has no anchors, as in the paper."""
    f, g = (frame_name(view, i) for i in pair)
    unit = units.NAMES.get(fields.get("unit"))
    question = templates[rng.integers(len(templates))].format(a=called, f=f, g=g, unit=unit)
    frames = fields.pop("frames", tuple(sorted(pair)))
    return refer.record(view, task, None, f"from {f} to {g}: {facts}", scaled=False, question=question, frames=frames, **fields)


def frame_name(view: View, frame: int) -> str:
    """How questions call a frame: "the first frame", "frame 2", "the last frame"."""
    last = len(view.scene.poses) - 1
    return "the first frame" if frame == 0 else "the last frame" if frame == last else f"frame {frame + 1}"


def object_matching(view: View, rng: np.random.Generator) -> QA | None:
    """Which box in the last frame holds the object that the first frame's red box holds, or none: one of several objects of its class,
    seen from clearly different directions. Every option is right equally often; those of the object's class are marked first."""
    last = len(view.scene.poses) - 1
    boxes = {index: box for index in range(len(view.scene.objects)) if _boxable(view, index, last) and (box := view.box(index, last))}
    classes = [view.scene.objects[index].name for index in boxes]
    targets = [s for s in view.seen if s.index in boxes and classes.count(s.object.name) > 1 and _found_again(view, s, last)]
    if not targets:
        return None
    target = targets[rng.integers(len(targets))]
    others = [index for index in rng.permutation(list(boxes)).tolist() if index != target.index]
    others.sort(key=lambda index: view.scene.objects[index].name != target.object.name)
    count = min(len(CANDIDATES), len(others))
    right = int(rng.integers(count + 1))  # `count` is none of them
    chosen = others[: count if right == count else count - 1]
    chosen = [chosen[i] for i in rng.permutation(len(chosen))]
    if right < count:
        chosen.insert(right, target.index)
    marks = [{"kind": "box", "frame": 0, "xyxy": refer.around(view, target.box), "color": "red"}]
    for index, color in zip(chosen, CANDIDATES, strict=False):
        marks.append({"kind": "box", "frame": last, "xyxy": refer.around(view, boxes[index]), "color": color})
    stated = [f"{mark['color']} box: {view.scene.objects[i].phrase}" for i, mark in zip([target.index, *chosen], marks, strict=True)]
    return refer.record(
        view, "object_matching", target.phrase, f"{'; '.join(stated)}; {target.phrase}: {LETTERS[right]}", scaled=False,
        question=MATCH_TEMPLATES[rng.integers(len(MATCH_TEMPLATES))], options=(*(f"the {mark['color']} box" for mark in marks[1:]), NONE),
        answer=LETTERS[right], answer_type="choice", frames=(0, last), marks=tuple(marks),
    )  # fmt: skip


def _boxable(view: View, index: int, frame: int) -> bool:
    """Whether a box in a frame tells which object it is about: by what is visible of it, and no other object fills it."""
    return view.share(index, frame) >= PART and bool(view.pixels[frame, index]) and view.tells_box(index, frame)


def _found_again(view: View, seen: Seen, frame: int) -> bool:
    """Whether a box tells the object in the first frame, too, which sees it from a clearly, but not too, different direction."""
    if not view.tells_box(seen.index):
        return False
    a, b = (view.scene.poses[f][:3, 3] - seen.object.center for f in (0, frame))
    angle = np.arccos(np.clip(a @ b / np.linalg.norm(a) / np.linalg.norm(b), -1, 1))
    return bool(VIEWPOINT[0] <= angle <= VIEWPOINT[1])
