from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sv_jax.tasks import units


@pytest.mark.parametrize(
    "value, text",
    [(9.53, "9.5"), (42.4, "42"), (314.0, "310"), (0.0456, "0.046"), (9.0, "9.0"), (9.97, "10"), (0.996, "1.0"), (1234.0, "1200"),
     (0.0, "0")],
)  # fmt: skip
def test_two_significant_digits_in_plain_notation(value, text):
    assert units.number(value) == text


@given(st.floats(1e-4, 1e5))
def test_number_is_plain_and_within_half_a_digit(value):
    text = units.number(value)
    assert set(text) <= set("0123456789.") and text[0] != "."
    assert abs(float(text) - value) <= 0.5 * 10 ** (math.floor(math.log10(value)) - 1) * (1 + 1e-9)


@pytest.mark.parametrize(
    "metres, text",
    [(0.0004, "1 mm level"), (0.0012, "1 mm level"), (0.009, "1 cm level"), (0.08, "10 cm level"), (0.9, "1 m level"), (12.0, "10 m level"),
     (200.0, "100 m level"), (900.0, "1 km level")],
)  # fmt: skip
def test_level_is_the_nearest_power_of_ten(metres, text):
    assert units.level(metres) == text


def test_every_scale_has_units():
    assert set(units.HEIGHT) == set(units.DISTANCE) == {"tiny", "tabletop", "indoor", "outdoor", "drone"}
    assert units.with_unit(0.0953, units.HEIGHT["tabletop"]) == "9.5 cm"
