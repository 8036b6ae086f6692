"""Answers about a measured scene against the exact ones: each question is answered again from the exact scene that was measured."""

from __future__ import annotations

from collections import defaultdict

import numpy as np

from sv_jax.annotate.annotate import annotate
from sv_jax.annotate.dataset import ASKED
from sv_jax.annotate.oracle import Noise, Oracle
from sv_jax.annotate.specialists import Clip
from sv_jax.scenes.scene import Scene
from sv_jax.tasks import ask, geometry
from sv_jax.tasks.numbers import plural
from sv_jax.tasks.qa import LETTERS, QA
from sv_jax.tasks.view import View


def measured(scene: Scene, noise: Noise, *, turn: np.ndarray | None = None, video: bool = True, strength: float = 10.0) -> Scene:
    """The scene as noisy specialists measure it. The cameras are given in a world that lies elsewhere (`turn`, f64 [4, 4])."""
    oracle = Oracle(scene, noise, seed=int(scene.id[-4:]))
    clip = Clip(scene.id, scene.frames, scene.fps, scene.frames.shape[1:3], scene.K)
    poses = scene.poses if turn is None else turn @ scene.poses
    consistent = oracle.disparity if video else None
    return annotate(clip, oracle.depth, oracle.detect, oracle.track, video_depth=consistent, strength=strength, poses=poses)


def exact_answer(qa: QA, exact: View) -> float | str | None:
    """The answer from the exact scene: a number in metres, a count or a letter; None where it does not show what is asked about."""
    if qa.task == "counting":
        names = {"objects": lambda _: True}
        for thing in exact.scene.objects:
            names[plural(thing.name)] = lambda o, name=thing.name: o.name == name
            names[f"{thing.colour} objects"] = lambda o, colour=thing.colour: o.colour == colour
        return float(sum(map(names[qa.semantic], exact.scene.objects)))
    seen = {s.phrase: s for s in exact.seen}
    if any(phrase not in seen for phrase in qa.semantic.split(", ")):
        return None
    chosen = [seen[phrase] for phrase in qa.semantic.split(", ")]
    if qa.task == "object_size":
        return chosen[0].height
    if qa.task == "depth":
        return chosen[0].depth
    if qa.task == "absolute_distance":
        return geometry.closest_distance(chosen[0].object, chosen[1].object)
    key = (lambda s: s.height) if qa.task == "size_comparison" else (lambda s: s.box[0] + s.box[2])
    first = min if "left" in qa.question else max
    return LETTERS[chosen.index(first(chosen, key=key))]


def compare(scenes: list[Scene], noise: Noise, questions: int = 18, **options) -> dict[str, np.ndarray]:
    """By task, for each question about the measured scenes: the relative error of a number, 0 or 1 for a choice or count that is right or
    wrong."""
    errors = defaultdict(list)
    for number, scene in enumerate(scenes):
        rng = np.random.default_rng(number)
        turn = np.eye(4)
        turn[:3, :3], turn[:3, 3] = np.linalg.qr(rng.normal(size=(3, 3)))[0], rng.normal(size=3)
        turn[:3, 0] *= np.linalg.det(turn[:3, :3])
        exact = View(scene)
        for qa in ask(measured(scene, noise, turn=turn, **options), rng, questions, (*ASKED, "counting")):
            truth = exact_answer(qa, exact)
            if truth is None:
                continue
            wrong = abs(qa.answer_si / truth - 1) if qa.answer_si is not None else float(qa.answer != truth)
            errors[qa.task].append(wrong if qa.task != "counting" else float(wrong > 0))
    return {task: np.array(found) for task, found in errors.items()}


def table(errors: dict[str, np.ndarray]) -> str:
    """A line for each task: questions, then median and 90 % quantile of relative errors, or the share of wrong answers."""
    lines = []
    for task, e in sorted(errors.items()):
        wrong = set(np.unique(e)) <= {0.0, 1.0}
        lines.append(
            f"{task:20} {len(e):4} " + (f"wrong {e.mean():.3f}" if wrong else f"median {np.median(e):.4f} 90% {np.quantile(e, 0.9):.4f}")
        )
    return "\n".join(lines)
