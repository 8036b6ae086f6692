"""What a completion says: tagged spans, option letters, numbers with units. Total: any text gives a value or None, never an error.

Spellings accepted: `<semantics>` for `<semantic>`, `<\\answer>` for `</answer>`, any case, anchors inside or after `<think>`.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Sequence

_TABLE = (  # dimension, factor to SI, names in the singular
    ("length", 1e-9, "nm nanometre nanometer"),
    ("length", 1e-6, "um µm μm micrometre micrometer micron"),
    ("length", 1e-3, "mm millimetre millimeter"),
    ("length", 1e-2, "cm centimetre centimeter"),
    ("length", 1e-1, "dm decimetre decimeter"),
    ("length", 1.0, "m metre meter"),
    ("length", 1e3, "km kilometre kilometer"),
    ("length", 0.0254, "in inch"),
    ("length", 0.3048, "ft foot feet"),
    ("area", 1e-6, "mm² mm2 mm^2"),
    ("area", 1e-4, "cm² cm2 cm^2"),
    ("area", 1.0, "m² m2 m^2"),
    ("area", 1e4, "ha hectare"),
    ("area", 1e6, "km² km2 km^2"),
    ("volume", 1e-6, "cm³ cm3 cm^3 ml"),
    ("volume", 1e-3, "l litre liter"),
    ("volume", 1.0, "m³ m3 m^3"),
    ("angle", math.pi / 180, "° deg degree"),
    ("angle", 1.0, "rad radian"),
)
UNITS: dict[str, tuple[str, float]] = {name: (dimension, factor) for dimension, factor, names in _TABLE for name in names.split()}
WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_NUMBER = r"(?<!\w)[-+]?(?:\d{1,3}(?:,\d{3})+(?!\d)(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+)(?:e[-+]?\d+)?"
_QUANTITY = re.compile(rf"({_NUMBER})\s*([a-zµμ]+(?:\^?[23]|[²³])?|°)?", re.ASCII | re.IGNORECASE)
_LETTERS = (
    r"^[^a-zA-Z]*([a-zA-Z])[^\w]*$",  # nothing but the letter
    r"^\W*([A-Za-z])\s*[.):\]]",  # a letter as the label of what follows
    r"(?i:\b(?:option|answer|choice)\b\W*(?:is\b)?)\W*([A-Z])\b",
)
_WORD = re.compile(rf"\b({'|'.join(WORDS)})\b", re.IGNORECASE)


@functools.cache
def _span(name: str) -> re.Pattern:
    """Innermost `<name>…</name>`; a second opening tag restarts the span, so that matching stays linear."""
    return re.compile(rf"<\s*{name}\s*>((?:(?!<\s*{name}\s*>).)*?)<\s*[/\\]\s*{name}\s*>", re.DOTALL | re.IGNORECASE)


def tag(text: str, name: str) -> str | None:
    """The stripped inside of the first closed `<name>` ("semantic", "scale", "answer", "think"), or None."""
    found = _span("semantics?" if name == "semantic" else name).search(text)
    return found.group(1).strip() if found else None


def after_think(text: str) -> str:
    """What follows the last `</think>`; the whole text when there is none."""
    return re.split(r"<\s*[/\\]\s*think\s*>", text, flags=re.IGNORECASE)[-1]


def answer_span(text: str, lenient: bool = False) -> str | None:
    """The inside of the first `<answer>` after the reasoning, else of the first anywhere. `lenient` (evaluation) goes on: what follows an
    unclosed `<answer>`, what follows the reasoning, the whole text; without it (rewards) the answer is None."""
    tail = after_think(text)
    found = next((span for part in (tail, text) if (span := tag(part, "answer")) is not None), None)
    if found is not None or not lenient:
        return found
    return re.split(r"<\s*answer\s*>", tail, flags=re.IGNORECASE)[-1].strip() or text.strip()


def quantity(text: str) -> tuple[float, str | None] | None:
    """First finite number and the unit behind it (a key of UNITS, or None): "about 1,250.5 cm" -> (1250.5, "cm"). Reads exponents,
    thousands commas, a Unicode minus and, where there is no digit, the words zero to ten. None when there is no number."""
    text = text.replace("\N{MINUS SIGN}", "-")
    found = _QUANTITY.search(text)
    if found is None:
        word = _WORD.search(text)
        return (float(WORDS.index(word.group(1).lower())), None) if word else None
    value = float(found.group(1).replace(",", ""))
    return (value, _unit(found.group(2))) if math.isfinite(value) else None


def _unit(word: str | None) -> str | None:
    word = (word or "").lower()
    return next((w for w in (word, word.removesuffix("s"), word.removesuffix("es")) if w in UNITS), None)


def number(text: str, unit: str | None = None) -> float | None:
    """The first number of `text`, brought to `unit` when the text names another unit of the same dimension: ("250 cm", "m") -> 2.5."""
    found, wanted = quantity(text), _unit(unit)
    if found is None:
        return None
    value, given = found
    if given and wanted and given != wanted and UNITS[given][0] == UNITS[wanted][0]:
        return value * UNITS[given][1] / UNITS[wanted][1]
    return value


def metres(text: str) -> float | None:
    """A length such as the scale anchor "10 cm level" in metres; None without a positive number followed by a unit of length."""
    found = quantity(text)
    if found is None or found[1] is None or UNITS[found[1]][0] != "length" or found[0] <= 0:
        return None
    return found[0] * UNITS[found[1]][1] or None  # a denormal times a small unit is 0


def letter(text: str, options: Sequence[str] | None = None) -> str | None:
    """The option that `text` names, as a capital letter: "B", "(b)", "B. the mug", "option B", "the answer is B", the option's own
    text, or the only stand-alone capital letter. None when it names none, or a letter beyond the options."""
    letters = [chr(ord("A") + i) for i in range(len(options) if options else 26)]
    plain = text.strip().rstrip(".").casefold()
    for key, option in zip(letters, options or (), strict=False):
        if plain == option.strip().rstrip(".").casefold():
            return key
    for pattern in _LETTERS:
        found = re.search(pattern, text)
        if found:
            return found.group(1).upper() if found.group(1).upper() in letters else None
    alone = {c for c in re.findall(r"\b[A-Z]\b", text) if c in letters}
    return alone.pop() if len(alone) == 1 else None
