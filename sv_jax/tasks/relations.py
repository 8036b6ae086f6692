"""spatial_relation: how one object stands to another one, on it, in it, beside it, …, and which object stands on or in one."""

from __future__ import annotations

from itertools import combinations

import numpy as np

from sv_jax.tasks import geometry, refer, units
from sv_jax.tasks.qa import LETTERS, QA
from sv_jax.tasks.view import Seen, View

TOUCH = 0.03  # of an object's longest side, and a pixel more: how far from its bearer the clip may show it
CLOSE = 0.5  # longest sides of the smaller of two objects: the largest gap of objects side by side
FAR = 1.0  # longest sides of the larger one: the smallest gap of objects that stand apart
WORDS = {  # of the first of two objects to the second
    "on": "on it",
    "under": "under it",
    "in": "in it",
    "around": "around it",
    "beside": "right beside it",
    "apart": "at a distance from it",
}
BORNE = {"on": "under", "in": "around"}  # by construction, and seen from the other object
ASIDE = {"beside": -1, "apart": 1}  # the same from both; the sign that puts pairs in doubt first when sorted by their gap
RELATION_TEMPLATES = (
    "Where is {a} in relation to {b}?",
    "How does {a} stand to {b}?",
    "Relative to {b}, where is {a}?",
    "Take {b} as the reference. Where is {a}?",
)
WHICH_TEMPLATES = (
    "Which of these stands {relation} {a}?",
    "Which object is {relation} {a}?",
    "Only one of these is {relation} {a}. Which?",
    "What stands {relation} {a}?",
)
Pair = tuple[Seen, Seen]


def spatial_relation(view: View, rng: np.random.Generator) -> QA | None:
    """One of two kinds of question, the other where the scene does not allow it."""
    kinds = (_how, _which) if rng.random() < 0.7 else (_which, _how)
    return kinds[0](view, rng) or kinds[1](view, rng)


def _how(view: View, rng: np.random.Generator) -> QA | None:
    """Which relation one object has to another one. The options are relations that pairs of the scene have, each right equally often."""
    found = view.once("even relations", lambda: _even(view))
    if len(found) < 2:
        return None
    shown = sorted(found)
    shown = [shown[i] for i in rng.permutation(len(shown))[:4]]
    right = int(rng.integers(len(shown)))
    relation = shown[right]
    a, b = found[relation][rng.integers(len(found[relation]))]
    if relation in ASIDE and rng.random() < 0.5:
        a, b = b, a
    called, marks = refer.names(view, (a, b), rng, refer.ALL_KINDS)
    question = RELATION_TEMPLATES[rng.integers(len(RELATION_TEMPLATES))].format(a=called[0], b=called[1])
    body = f"{_stated(view, a, b, relation)}; {WORDS[relation]}: {LETTERS[right]}"
    return refer.about(
        view, (a, b), "spatial_relation", body=body, question=question, options=tuple(WORDS[r] for r in shown), answer=LETTERS[right],
        answer_type="choice", marks=marks,
    )  # fmt: skip


def _relations(view: View) -> dict[str, list[Pair]]:
    """Pairs by the relation of the first to the second that the clip shows without doubt."""
    found: dict[str, list[Pair]] = {}
    for a, b in combinations(view.seen, 2):
        relation = relation_of(view, a, b) if a.phrase != b.phrase else None
        if relation is not None:
            found.setdefault(relation, []).append((a, b))
            if relation not in ASIDE:
                found.setdefault(relation_of(view, b, a), []).append((b, a))
    return found


def _even(view: View) -> dict[str, list[Pair]]:
    """`_relations` with as many pairs of each. Where an object bears or holds another one, all pairs are about such objects, so that their
    classes do not tell the relation; of pairs aside it takes those in doubt soonest, by their sizes, so that neither do the sizes."""
    found = view.once("relations", lambda: _relations(view))
    stacked = {seen.index for relation in BORNE for pair in found.get(relation, ()) for seen in pair}
    if stacked:
        found = {r: [pair for pair in pairs if stacked & {seen.index for seen in pair}] for r, pairs in found.items()}
    found = {relation: pairs for relation, pairs in found.items() if pairs}
    fewest = min(map(len, found.values()), default=0)
    for relation, sign in ASIDE.items():
        if relation in found:
            side = int(relation == "apart")  # of the two sizes, by which the relation goes
            found[relation] = sorted(found[relation], key=lambda pair, s=side, to=sign: to * view.distance(*pair) / _sizes(*pair)[s])
    return {relation: pairs[:fewest] for relation, pairs in found.items()}


def relation_of(view: View, a: Seen, b: Seen) -> str | None:
    """A key of WORDS: the relation of `a` to `b`, None in doubt."""
    for upper, lower in ((a, b), (b, a)):
        if upper.object.parent == lower.index:
            relation = upper.object.relation
            if relation not in BORNE or not _shown(view, upper, lower):
                return None
            return relation if upper is a else BORNE[relation]
    return view.once("aside", frozenset((a.index, b.index)), lambda: _aside(view, a, b))


def _shown(view: View, upper: Seen, lower: Seen) -> bool:
    """Whether the clip shows that an object stands on another one: its base, and the surface around at this height; or in it: within its
    outline, from below its rim on."""
    low, rim = view.span(upper.index)[0][2], view.span(lower.index)[1][2]
    if upper.object.relation == "in":
        return bool(low < rim) and _within(view.outline(upper.index), view.outline(lower.index))
    base, slack = _base(upper), TOUCH * max(upper.object.size) + view.pixel(upper)
    around = view.cloud(lower.index)
    around = around[np.linalg.norm(around[:, :2] - upper.object.center[:2], axis=1) <= np.hypot(*upper.object.size[:2])]
    return bool(low - base <= slack and len(around) and np.abs(around[:, 2] - base).min() <= slack)


def _within(inner: np.ndarray, outer: np.ndarray) -> bool:
    """Whether a polygon's corners [n, 2] all lie in a convex polygon [m, 2], counter-clockwise."""
    edges = np.roll(outer, -1, 0) - outer
    normals = np.stack([edges[:, 1], -edges[:, 0]], -1)
    return bool((inner @ normals.T <= (outer * normals).sum(1)).all())


def _base(seen: Seen) -> float:
    """Height in metres of an object's lowest point above the ground."""
    return float(seen.object.center[2] - seen.height / 2)


def _aside(view: View, a: Seen, b: Seen) -> str | None:
    """The relation of two objects neither of which bears the other, by their closest points. Side by side are those that stand on the same
    thing, level with each other; the clip shows how long both are."""
    small, large = _sizes(a, b)
    if view.distance(a, b) >= FAR * large:
        return "apart"
    level = max(_base(a), _base(b)) < min(seen.object.center[2] + seen.height / 2 for seen in (a, b))
    if a.object.parent != b.object.parent or not level or not (view.shows_longest(a) and view.shows_longest(b)):
        return None
    outlines = (geometry.outline(seen.object.solids) for seen in (a, b))
    near = geometry.separation(*outlines) > 0 and geometry.approach(view.thin(a.index), view.thin(b.index)) <= CLOSE * small
    return "beside" if near else None


def _sizes(a: Seen, b: Seen) -> list[float]:
    """The longest side of the smaller and of the larger one."""
    return sorted(max(seen.object.size) for seen in (a, b))


def _stated(view: View, a: Seen, b: Seen, relation: str) -> str:
    """What leads to the relation of `a` to `b`."""
    scale = view.scene.scale
    if relation in ASIDE:
        return f"{units.with_unit(view.distance(a, b), units.DISTANCE[scale])} apart"
    upper, lower = (a, b) if relation in BORNE else (b, a)
    return f"{upper.phrase}: {units.with_unit(_base(upper), units.HEIGHT[scale])} up, within the outline of {lower.phrase}"


def _which(view: View, rng: np.random.Generator) -> QA | None:
    """Which of two or three objects stands on or in another one, which bears nothing else."""
    pairs = view.once("relations", lambda: _relations(view))
    parents = [thing.parent for thing in view.scene.objects]
    cases = [(r, *pair) for r in BORNE for pair in pairs.get(r, ()) if parents.count(pair[1].index) == 1]
    drawn = ((*cases[i], _elsewhere(view, *cases[i][1:])) for i in rng.permutation(len(cases)))
    relation, right, bearer, others = next((case for case in drawn if case[3]), (None,) * 4)
    if relation is None:
        return None
    others = [others[i] for i in rng.permutation(len(others))[: rng.integers(1, 3)]]
    place = int(rng.integers(len(others) + 1))
    options = (*others[:place], right, *others[place:])
    called, marks = refer.names(view, (bearer, *options), rng, refer.ALL_KINDS)
    stated = [f"{s.phrase} ({key}): {relation if s is right else 'not ' + relation} it" for s, key in zip(options, LETTERS, strict=False)]
    return refer.record(
        view, "spatial_relation", ", ".join(seen.phrase for seen in (bearer, *options)),
        f"{_stated(view, right, bearer, relation)}; {'; '.join(stated)}; {LETTERS[place]}",
        question=WHICH_TEMPLATES[rng.integers(len(WHICH_TEMPLATES))].format(relation=relation, a=called[0]), options=called[1:],
        answer=LETTERS[place], answer_type="choice", marks=marks,
    )  # fmt: skip


def _elsewhere(view: View, right: Seen, bearer: Seen) -> list[Seen]:
    """Objects that clearly do not stand on the bearer, nor it on them; of other phrases than `right`."""
    others = [seen for seen in view.seen if seen.phrase not in (right.phrase, bearer.phrase)]
    return [seen for seen in others if relation_of(view, seen, bearer) in ASIDE]
