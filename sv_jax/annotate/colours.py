"""The colour of a measured object, in a word."""

from __future__ import annotations

import numpy as np

HUES = (
    ("red", 15),
    ("orange", 40),
    ("yellow", 70),
    ("green", 165),
    ("blue", 255),
    ("purple", 300),
    ("pink", 340),
    ("red", 360),
)  # up to degrees
GREYS = (("black", 0.2), ("grey", 0.7), ("white", 1.0))  # up to brightness
NAMES = tuple(dict.fromkeys([name for name, _ in HUES] + [name for name, _ in GREYS] + ["brown"]))


def split_phrase(phrase: str, colours: np.ndarray) -> tuple[str, str]:
    """Colour and noun: those of "red mug", or the colour of most of the pixels u8 [n, 3] where the phrase names none."""
    first, _, rest = phrase.strip().partition(" ")
    return (first, rest) if rest and first in NAMES else (named(colours), phrase.strip())


def named(colours: np.ndarray) -> str:
    """The name that most of the pixels u8 [n, 3] have, by hue, saturation and brightness."""
    rgb = colours.reshape(-1, 3).astype(np.float64) / 255
    value, chroma = rgb.max(1), np.ptp(rgb, axis=1)
    r, g, b = rgb.T
    safe = np.where(chroma > 0, chroma, 1.0)
    hue = np.select([value == r, value == g], [(g - b) / safe % 6, (b - r) / safe + 2], (r - g) / safe + 4) * 60
    by_hue = np.array([name for name, _ in HUES], object)[np.searchsorted([top for _, top in HUES], hue)]
    by_value = np.array([name for name, _ in GREYS], object)[np.searchsorted([top for _, top in GREYS], value)]
    names = np.where((value < 0.15) | (chroma < 0.2 * value), by_value, by_hue)
    names[(names == "orange") & (value < 0.6)] = "brown"
    found, counts = np.unique(names.astype(str), return_counts=True)
    return str(found[counts.argmax()])
