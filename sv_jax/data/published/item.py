"""What every published format is read into, and what may be wrong with a record."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sv_jax.errors import UserError, unknown
from sv_jax.scenes.scene import SCALES
from sv_jax.tasks.qa import QA
from sv_jax.tasks.units import METRES

_UNITS = {  # the word in a question, in the singular -> unit of a QA
    "mm": "mm millimetre millimeter", "cm": "cm centimetre centimeter", "m": "m metre meter", "km": "km kilometre kilometer",
    "inch": "inch inche", "ft": "ft foot feet", "cm²": "cm² cm2 cm^2 squarecentimetre squarecentimeter",
    "m²": "m² m2 m^2 sqm squaremetre squaremeter", "km²": "km² km2 km^2 squarekilometre squarekilometer", "ha": "ha hectare",
    "cm³": "cm³ cm3 cm^3 cubiccentimetre cubiccentimeter", "m³": "m³ m3 m^3 cubicmetre cubicmeter", "l": "l litre liter",
    "°": "° deg degree", "rad": "rad radian",
}  # fmt: skip
UNITS = {word: unit for unit, words in _UNITS.items() for word in words.split()}


class BadRecord(UserError):
    """A record that cannot be taken; `kind` is what faults are counted by."""

    def __init__(self, kind: str, message: str):
        super().__init__(message)
        self.kind = kind


@dataclass(frozen=True)
class Fault:
    """What is wrong at a line (JSON) or row (parquet, from 1) of a file."""

    file: str
    line: int
    kind: str
    message: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.kind}: {self.message}"


@dataclass(frozen=True)
class Item:
    """One record: its question, still without clip and marks, and where its pictures are."""

    qa: QA
    media: tuple[str | bytes, ...]  # a video file; a folder of frames with a / at its end; or pictures, as files or as bytes
    source: str  # whose pictures: a key of LICENCES, or a name that has none
    views: bool = False  # unordered pictures, not the frames of a film: each is a temporal slice of its own
    marks: tuple[dict, ...] = ()  # "frame" indexes `media`; pixels of the picture; a mask is {"mask_path", "object_ids"}


def optional(record: Mapping[str, Any], name: str, kind: type) -> Any:
    """`record[name]` where it is there and not empty, else None. BadRecord for another type."""
    return field(record, name, kind) if record.get(name) not in (None, "", [], {}) else None


def field(record: Mapping[str, Any], name: str, kind: type | tuple[type, ...] = str) -> Any:
    """`record[name]`, which is there, not empty, and of this type. BadRecord otherwise."""
    value = record.get(name)
    if value is None or value == "" or value == []:
        raise BadRecord("missing field", f"no {name!r}; found {', '.join(map(repr, record))}")
    if not isinstance(value, kind):
        expected = kind.__name__ if isinstance(kind, type) else " or ".join(k.__name__ for k in kind)
        raise BadRecord("wrong type", f"{name!r} is a {type(value).__name__}, expected a {expected}")
    return value


def named(kind: str, name: object, known: Iterable[str]) -> BadRecord:
    """A name that is none of `known`, as a record's fault `unknown KIND`."""
    return BadRecord(f"unknown {kind}", str(unknown(kind, name, known)))


def scale_or(default: str | None, missing: str) -> str:
    """The scale that the user gave for records that name none."""
    if default is None:
        raise BadRecord("missing field", f"no {missing}; give --scale ({', '.join(SCALES)}) for records without it")
    return default


def unit(name: str) -> str:
    """`unit("Centimeters")` -> "cm". BadRecord for a unit that we do not know."""
    found = _unit(name)
    if found is None:
        raise named("unit", name, UNITS)
    return found


def unit_in(question: str) -> str | None:
    """The unit a question asks for: "(in centimeters)", "(unit: m)", "(mm)", or the last "in metres" of its text; None when it names
    none. BadRecord where the parentheses say "in" or "unit" and something else."""
    for inside in re.findall(r"\(([^()]*)\)", question):
        said = re.match(r"(?:in|units?:?)\s+([\w²³^ ]+)$", inside.strip(), re.IGNORECASE)
        if said and len(said.group(1).split()) <= 2:  # "(in the first frame)" is no unit
            return unit(said.group(1))
        if found := _unit(inside):
            return found
    words = re.findall(r"\bin ((?:square |cubic )?\w+)", question, re.IGNORECASE)
    return next((found for word in reversed(words) if (found := _unit(word))), None)


def si(answer: str, answer_type: str, unit: str | None) -> float | None:
    """A number in metres, or a count as it is; None for other units and other answers."""
    return float(answer) * METRES.get(unit, 1.0) if answer_type == "number" and (unit is None or unit in METRES) else None


def _unit(name: str) -> str | None:
    word = re.sub(r"\s+", "", name).lower()
    return UNITS.get(word) or UNITS.get(word.removesuffix("s"))
