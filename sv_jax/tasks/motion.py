"""Tasks about two frames: view_change and rotation, how the camera moved and turned between them, and object_matching."""

from __future__ import annotations

from itertools import combinations

import numpy as np

from sv_jax.tasks import refer, units
from sv_jax.tasks.numbers import PART
from sv_jax.tasks.qa import LETTERS, QA
from sv_jax.tasks.view import Seen, View

MOVED = 0.1  # median depths that the camera moves, at least
TURNED = np.radians(15)  # of a turn that is asked for by its direction
CLEAR = 2.0  # how far the largest component exceeds the others
TOTAL = np.radians(10), np.radians(170)  # least and most of an angle that is asked for
SHARED = 0.3  # of a frame's points that the other frame shows, too
VIEWPOINT = np.radians(20), np.radians(120)  # between the directions from which two frames see a matched object

AXES = (("left", "right"), ("up", "down"), ("backward", "forward"))  # of the camera: -x and x, -y and y, -z and z
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

    An orbit to the right turns left, so that plain words would be in doubt: movement and turn are asked for apart. The options are the
    two ends of one axis, because the camera's usual motion makes the others easy to rule out."""
    kinds: dict[str, list[tuple]] = {"move": [], "turn": [], "distance": []}
    for pair in _pairs(view):
        rotation, position = relative_pose(view, *pair)
        if np.linalg.norm(position) >= MOVED * view.once("typical depth", pair[0], lambda f=pair[0]: _typical_depth(view, f)):
            kinds["distance"].append((pair,))
            kinds["move"] += [(pair, axis) for axis in _dominant(position)]
        kinds["turn"] += [(pair, axis) for axis in _dominant(turns(rotation)) if abs(turns(rotation)[axis]) >= TURNED]
    found = [kind for kind, cases in kinds.items() if cases]
    if not found:
        return None
    kind = found[rng.integers(len(found))]
    case = kinds[kind][rng.integers(len(kinds[kind]))]
    return {"move": _move, "turn": _turn, "distance": _distance}[kind](view, rng, *case)


def _pairs(view: View) -> list[tuple[int, int]]:
    """Pairs of frames, earlier first, of which the second shows enough of what the first shows."""
    return [pair for pair in combinations(range(len(view.scene.poses)), 2) if view.overlap(*pair) >= SHARED]


def _typical_depth(view: View, frame: int) -> float:
    """Median depth in metres of what a frame shows, the sky left out."""
    depth = view.scene.depth[frame]
    return float(np.median(depth[np.isfinite(depth)]))


def _dominant(values: np.ndarray) -> list[int]:
    """The index of the component [3] that clearly exceeds the others in size, if there is one."""
    first, second, _ = np.argsort(-np.abs(values))
    return [int(first)] if abs(values[first]) >= CLEAR * abs(values[second]) else []


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
    """The total angle in degrees by which the camera's orientation differs between two frames."""
    pairs = [pair for pair in _pairs(view) if TOTAL[0] <= total(relative_pose(view, *pair)[0]) <= TOTAL[1]]
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


def _between(view, rng, pair: tuple[int, int], task: str, templates, facts: str, **fields) -> QA:
    """A question about two frames; it has no anchors, as in the paper."""
    f, g = (frame_name(view, i) for i in pair)
    unit = units.NAMES.get(fields.get("unit"))
    question = templates[rng.integers(len(templates))].format(f=f, g=g, unit=unit)
    return refer.record(view, task, None, f"from {f} to {g}: {facts}", scaled=False, question=question, frames=pair, **fields)


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
