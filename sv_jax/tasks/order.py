"""appearance_order: in which order objects first appear in the clip."""

from __future__ import annotations

from itertools import combinations, permutations

import numpy as np

from sv_jax.tasks import refer
from sv_jax.tasks.motion import frame_name
from sv_jax.tasks.qa import LETTERS, QA
from sv_jax.tasks.view import VISIBLE, View

HINT = 0.5  # share of the pixels of an appearance from which an object may be noticed
LONG = 16  # frames of a clip from which GAP grows from one frame to two
AMONG = 8  # objects from which sets are chosen
ORDINALS = ("first", "second", "third", "fourth")
ORDER_TEMPLATES = (
    "In which order do these first appear in the video: {things}?",
    "In what order does the video first show {things}?",
    "Put {things} in the order of their first appearance in the video.",
    "When the video is played, in which order do {things} come into view?",
)
NTH_TEMPLATES = (
    "Which of these is the {nth} to appear in the video?",
    "Of these objects, which comes into view {nth}?",
    "Which of these does the video show {nth}, by first appearances?",
    "By order of first appearance, which of these is {nth}?",
)
Times = tuple[tuple[int, int], ...]  # of objects, each its index and the frame in which it appears, in order of appearance


def appearance_order(view: View, rng: np.random.Generator) -> QA | None:
    """The order in which three or four objects appear, or which is the first, second, …, last; both equally often."""
    found = _orders(view, rng)
    if not found:
        return None
    count = int(rng.choice(sorted({len(times) for times in found})))
    found = [times for times in found if len(times) == count]
    times = found[rng.integers(len(found))]
    phrases = [view.scene.objects[index].phrase for index, _ in times]
    asked = [int(i) for i in rng.permutation(count)]  # the order in which the question names them
    shown = [f"{phrases[i]}: {frame_name(view, times[i][1])}" for i in asked]
    body, fields = (_whole if rng.random() < 0.5 else _nth)(rng, phrases, asked)
    return refer.record(
        view, "appearance_order", ", ".join(phrases[i] for i in asked), f"{'; '.join(shown)}; {', '.join(phrases)}; {body}", scaled=False,
        answer_type="choice", **fields,
    )  # fmt: skip


def _orders(view: View, rng: np.random.Generator) -> list[Times]:
    """Sets of three and four objects with a phrase of their own that appear one after the other, without doubt whichever share of an
    object's pixels, from half an appearance's up, one takes for one. At most one of a set is in the first frame."""
    least = VISIBLE * view.scene.ids[0].size
    phrases = [thing.phrase for thing in view.scene.objects]
    spans = []
    for index, pixels in enumerate(view.pixels.T):
        if pixels.max() >= least and phrases.count(phrases[index]) == 1:
            spans.append((int(np.argmax(pixels >= least)), int(np.argmax(pixels >= HINT * least)), index))
    spans = sorted(spans[i] for i in rng.permutation(len(spans))[:AMONG])
    gap = 1 if len(view.pixels) < LONG else 2
    return [
        tuple((index, appears) for appears, _, index in chosen)
        for count in (3, 4)
        for chosen in combinations(spans, count)
        if all(noticed - appears >= gap for (appears, *_), (_, noticed, _) in zip(chosen, chosen[1:], strict=False))
    ]


def _whole(rng: np.random.Generator, phrases: list[str], asked: list[int]) -> tuple[str, dict]:
    """Which of four orders is right. They are two pairs of orders that differ by one swap of neighbours, so that none stands out."""
    right = tuple(range(len(phrases)))
    pairs = [(order, swapped) for order in permutations(right) for swapped in _swaps(order) if order < swapped]
    first = [pair for pair in pairs if right in pair]
    first = first[rng.integers(len(first))]
    second = [pair for pair in pairs if not set(pair) & set(first)]
    orders = [*first, *second[rng.integers(len(second))]]
    orders = [orders[i] for i in rng.permutation(4)]
    letter = LETTERS[orders.index(right)]
    *most, last = (f"the {phrases[i]}" for i in asked)
    question = ORDER_TEMPLATES[rng.integers(len(ORDER_TEMPLATES))].format(things=f"{', '.join(most)} and {last}")
    return letter, {"question": question, "options": tuple(", ".join(phrases[i] for i in order) for order in orders), "answer": letter}


def _swaps(order: tuple[int, ...]) -> list[tuple[int, ...]]:
    """The orders that differ from one by a swap of two neighbours."""
    return [(*order[:i], order[i + 1], order[i], *order[i + 2 :]) for i in range(len(order) - 1)]


def _nth(rng: np.random.Generator, phrases: list[str], asked: list[int]) -> tuple[str, dict]:
    """Which object is the first, second, … or last one."""
    place = int(rng.integers(len(phrases)))
    nth = "last" if place == len(phrases) - 1 else ORDINALS[place]
    letter = LETTERS[asked.index(place)]
    question = NTH_TEMPLATES[rng.integers(len(NTH_TEMPLATES))].format(nth=nth)
    return f"{nth}: {letter}", {"question": question, "options": tuple(f"the {phrases[i]}" for i in asked), "answer": letter}
