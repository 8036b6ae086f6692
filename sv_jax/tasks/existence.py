"""existence: whether there is an object of some kind on some side of another one, and which of four kinds of object there is."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import numpy as np

from sv_jax.scenes.scene import Object
from sv_jax.tasks import refer, units
from sv_jax.tasks.qa import LETTERS, QA
from sv_jax.tasks.view import Seen, View

NEARER = 0.10  # relative gap from which depths are compared
THERE_TEMPLATES = (
    "Is there {noun} {relation} {a} in the first frame?",
    "In the first frame, is there {noun} {relation} {a}?",
    "Does the first frame show {noun} {relation} {a}?",
    "In the first frame, can {noun} be seen {relation} {a}?",
)
WHICH_TEMPLATES = (
    "Which of these does the video show?",
    "Which of these exists in the scene?",
    "Only one of these is in the video. Which?",
    "Which object can be seen in the video?",
)


def existence(view: View, rng: np.random.Generator) -> QA | None:
    """One of two kinds of question, the other where the scene does not allow it."""
    kinds = (_there, _which) if rng.random() < 0.7 else (_which, _there)
    return kinds[0](view, rng) or kinds[1](view, rng)


def _beside(a: Seen, b: Seen) -> bool | None:
    """Whether `a` lies left of `b`, and not right of it; None where they overlap sideways or nearly do."""
    return True if refer.beside(a, b) else False if refer.beside(b, a) else None


def _nearer(a: Seen, b: Seen) -> bool | None:
    """Whether `a` is nearer to the camera plane than `b`, and not farther; None within the margin, or where what is hidden could tell."""
    return True if a.depth <= (1 - NEARER) * b.front else False if b.depth <= (1 - NEARER) * a.front else None


SIDES: dict[tuple[str, str], Callable[[Seen, Seen], bool | None]] = {  # by their function's truth and untruth; None is in doubt
    ("to the left of", "to the right of"): _beside,
    ("nearer to the camera than", "farther from the camera than"): _nearer,
}
NOUNS: dict[str, Callable[[Object], str]] = {  # what an object may be called
    "any": lambda thing: "object",
    "colour": lambda thing: f"{thing.colour} object",
    "class": lambda thing: thing.name,
}


def _there(view: View, rng: np.random.Generator) -> QA | None:
    """Yes or no, by a coin, of a side of an object and a kind of noun. All objects that the noun fits stand clearly on the same side: the
    same words with the other side have the other answer, so that no word tells."""
    found = {
        cell: cases for cell in product(SIDES, NOUNS) if (cases := view.once("existence", *cell, lambda cell=cell: _cases(view, *cell)))
    }
    if not found:
        return None
    sides, kind = list(found)[rng.integers(len(found))]
    anchor, noun, holds = found[sides, kind][rng.integers(len(found[sides, kind]))]
    answer = bool(rng.integers(2))
    relation = sides[int(answer != holds)]
    members = [seen for seen in view.seen if seen is not anchor and NOUNS[kind](seen.object) == noun]
    called, marks = refer.names(view, (anchor,), rng, ("box",))
    options = ("Yes", "No")[:: 1 if rng.random() < 0.5 else -1]
    right = "Yes" if answer else "No"
    # "another red object" beside a red mug
    word = f"another {noun}" if NOUNS[kind](anchor.object) == noun else f"a{'n' * (noun[0] in 'aeiou')} {noun}"
    stated = [_stated(view, seen, relation) for seen in (anchor, *members)]
    there = ", ".join(seen.phrase for seen in members) if answer else "none"
    return refer.record(
        view, "existence", anchor.phrase, f"{'; '.join(stated)}; {relation} {anchor.phrase}: {there}; {right}",
        question=THERE_TEMPLATES[rng.integers(len(THERE_TEMPLATES))].format(noun=word, relation=relation, a=called[0]),
        options=options, answer=LETTERS[options.index(right)], answer_type="choice", marks=marks,
    )  # fmt: skip


def _cases(view: View, sides: tuple[str, str], kind: str) -> list[tuple[Seen, str, bool]]:
    """Objects and nouns, and whether all that the noun fits stand on the first of the sides; those on both, or in doubt, are left out."""
    if kind == "any" and not view.bare:
        return []
    cases = []
    members = {noun: _members(view, NOUNS[kind], noun) for noun in sorted({NOUNS[kind](seen.object) for seen in view.seen})}
    for anchor, noun in product(view.seen, members):
        held = {SIDES[sides](seen, anchor) if seen else None for i, seen in members[noun] if i != anchor.index}
        if held in ({True}, {False}):
            cases.append((anchor, noun, *held))
    return cases


def _members(view: View, name: Callable[[Object], str], noun: str) -> list[tuple[int, Seen | None]]:
    """Indices of the objects that the noun fits and that the first frame shows at all, with None for those it does not show clearly."""
    seen = {s.index: s for s in view.seen}
    shown = np.flatnonzero(view.pixels[0])
    return [(int(i), seen.get(int(i))) for i in shown if name(view.scene.objects[i]) == noun]


def _stated(view: View, seen: Seen, relation: str) -> str:
    if "camera" in relation:
        return f"{seen.phrase}: {units.with_unit(seen.depth, units.DISTANCE[view.scene.scale])} away"
    return f"{seen.phrase}: x {seen.x:02d}"


def _which(view: View, rng: np.random.Generator) -> QA | None:
    """Two colours and two classes make four phrases, of which the scene has exactly one; it has all four words, so that none tells."""
    things = {(thing.colour, thing.name) for thing in view.scene.objects}
    grids = [
        (one, (colour, name))
        for one in sorted((seen.object.colour, seen.object.name) for seen in view.seen)
        for colour, name in product(sorted({c for c, _ in things} - {one[0]}), sorted({n for _, n in things} - {one[1]}))
        if not {(colour, name), (one[0], name), (colour, one[1])} & things
    ]
    if not grids:
        return None
    one, other = grids[rng.integers(len(grids))]
    phrases = [f"{colour} {name}" for colour in (one[0], other[0]) for name in (one[1], other[1])]
    options = tuple(phrases[i] for i in rng.permutation(4))
    letter = LETTERS[options.index(phrases[0])]
    facts = "; ".join([*(seen.phrase for seen in view.seen), f"{phrases[0]}: {letter}"])
    return refer.record(
        view, "existence", phrases[0], facts, question=WHICH_TEMPLATES[rng.integers(len(WHICH_TEMPLATES))],
        options=tuple(f"the {phrase}" for phrase in options), answer=letter, answer_type="choice",
    )  # fmt: skip
