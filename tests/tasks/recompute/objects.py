"""Sizes, distances, places, counts and matches of objects, from pixels."""

from __future__ import annotations

import re

import numpy as np
from scipy.spatial import ConvexHull

from sv_jax.tasks import QA
from sv_jax.tasks.numbers import plural
from tests.tasks.recompute.pixels import Pixels, Unclear, only, things

SHOWN = 0.002  # share of a frame's pixels from which an object can be told


def object_size(pixels: Pixels, qa: QA) -> float:
    return pixels.height(*things(pixels, qa, 1))


def depth(pixels: Pixels, qa: QA) -> float:
    return pixels.nearest(*things(pixels, qa, 1))


def absolute_distance(pixels: Pixels, qa: QA) -> float:
    return pixels.gap(*things(pixels, qa, 2))


def area_estimation(pixels: Pixels, qa: QA) -> float:
    """Area of the convex hull of what shows, from above."""
    return ConvexHull(pixels.outline(*things(pixels, qa, 1))).volume


def size_comparison(pixels: Pixels, qa: QA) -> str:
    return "AB"[int(np.argmax([pixels.height(k) for k in things(pixels, qa, 2)]))]


def position_comparison(pixels: Pixels, qa: QA) -> str:
    middles = [pixels.middle(k) for k in things(pixels, qa, 2)]
    return "AB"[int(np.argmin(middles) if "left" in qa.question else np.argmax(middles))]


def relative_distance(pixels: Pixels, qa: QA) -> str:
    anchor, *options = things(pixels, qa)
    return "ABCD"[int(np.argmin([pixels.gap(anchor, k) for k in options]))]


def counting(pixels: Pixels, qa: QA) -> float:
    """How many ids of the group some frame shows; unclear where one is seen only in slivers."""
    group = re.search(r"(?:many|the|of) ((?:\w+ )*?\w+) (?:are there in|does|in) the video", qa.question)[1].removeprefix("number of ")
    members = [k for k, (colour, name) in pixels.names.items() if group in ("objects", f"{colour} objects", plural(name))]
    most = pixels.counts[:, members].max(0)
    if ((most > 0) & (most < SHOWN * pixels.ids[0].size)).any():
        raise Unclear(f"{group}: slivers of {min(most[most > 0])} pixels")
    return float((most > 0).sum())


def object_matching(pixels: Pixels, qa: QA) -> str:
    target, *candidates = (pixels.boxed(mark) for mark in qa.marks)
    return "ABCD"[[*candidates, target].index(target)]


def existence(pixels: Pixels, qa: QA) -> str:
    """By the means of columns and the smallest depths of the first frame; of four phrases, the one that an id carries."""
    if len(qa.options) == 4:
        shown = ["the {} {}".format(*pixels.names[k]) for k in pixels.shown]
        return only([letter for letter, option in zip("ABCD", qa.options, strict=True) if option in shown], "phrases that the clip shows")
    sides = "to the left of|to the right of|nearer to the camera than|farther from the camera than"
    noun, side, anchor = re.search(
        rf"\b(?:an?|another) ([\w ]+?)(?: be seen)? ({sides}) (the [\w ]+?)(?: in the first frame)?\?", qa.question
    ).groups()
    anchor = pixels.find(anchor, qa)
    names = {k: ("object", f"{colour} object", name) for k, (colour, name) in pixels.names.items()}
    members = [k for k in names if noun in names[k] and k != anchor and pixels.counts[0, k]]
    sign = 1 if "left" in side or "nearer" in side else -1

    def place(k):
        return sign * (pixels.nearest(k) if "camera" in side else pixels.middle(k))

    if ("another" in qa.question) != (noun in names[anchor]) or not members:
        raise Unclear(f"{noun}: {len(members)} besides {anchor}")
    return "AB"[qa.options.index("Yes" if any(place(k) < place(anchor) for k in members) else "No")]


def appearance_order(pixels: Pixels, qa: QA) -> str:
    """By the first frame in which each id has SHOWN of the pixels."""
    shown = pixels.counts >= SHOWN * pixels.ids[0].size
    times = {"{} {}".format(*pixels.names[k]): int(shown[:, k].argmax()) for k in pixels.names if shown[:, k].any()}
    whole = "," in qa.options[0]
    named = qa.options[0].split(", ") if whole else [option.removeprefix("the ") for option in qa.options]
    order = sorted(named, key=times.get)
    if len({times[name] for name in named}) != len(named):
        raise Unclear("two appear at once")
    if whole:
        return "ABCD"[[option.split(", ") for option in qa.options].index(order)]
    (nth,) = re.findall(r"\b(first|second|third|fourth|last)\b(?= to appear|[?,])", qa.question)
    place = -1 if nth == "last" else ("first", "second", "third", "fourth").index(nth)
    return "ABCD"[named.index(order[place])]
