"""Units at the edge: one fixed unit per scale and quantity, plain numbers with two significant digits, and scale levels."""

from __future__ import annotations

import math

METRES = {"mm": 1e-3, "cm": 1e-2, "m": 1.0, "km": 1e3}
NAMES = {
    "mm": "millimetres",
    "cm": "centimetres",
    "m": "metres",
    "km": "kilometres",
    "m²": "square metres",
    "m³": "cubic metres",
    "°": "degrees",
}
HEIGHT = {"tiny": "mm", "tabletop": "cm", "indoor": "cm", "outdoor": "m", "drone": "m"}  # unit of heights per scale
DISTANCE = {"tiny": "mm", "tabletop": "cm", "indoor": "m", "outdoor": "m", "drone": "m"}  # unit of distances and depths


def number(value: float) -> str:
    """Two significant digits in plain notation: 9.5, 42, 310, 0.046, 9.0. No exponent, no comma, always a leading zero."""
    if value == 0:
        return "0"
    rounded = float(f"{value:.1e}")
    decimals = max(0, 1 - math.floor(math.log10(abs(rounded))))
    return f"{rounded:.{decimals}f}"


def in_unit(metres: float, unit: str) -> str:
    """`in_unit(0.0953, "cm")` -> "9.5"."""
    return number(metres / METRES[unit])


def with_unit(metres: float, unit: str) -> str:
    """`with_unit(0.0953, "cm")` -> "9.5 cm"."""
    return f"{in_unit(metres, unit)} {unit}"


def level(metres: float) -> str:
    """The power of ten nearest to a length, as a scale anchor: 0.08 -> "10 cm level", 300 -> "100 m level", 0.5 mm -> "1 mm level"."""
    power = max(-3, round(math.log10(metres)))
    unit, base = ("mm", -3) if power < -2 else ("cm", -2) if power < 0 else ("m", 0) if power < 3 else ("km", 3)
    return f"{10 ** (power - base)} {unit} level"
