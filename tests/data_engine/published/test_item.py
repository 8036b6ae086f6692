"""Units of questions."""

from __future__ import annotations

import pytest

from sv_jax.data.published.item import UNITS, BadRecord, unit_in
from sv_jax.data.published.licences import NOT_STATED, licence, source_of
from sv_jax.rewards.parsing import UNITS as PARSED
from sv_jax.tasks.units import NAMES


@pytest.mark.parametrize(
    "question, unit",
    [
        ("How tall is the mug (in millimeters)?", "mm"),
        ("How tall (in Centimetres) is it (the red box)?", "cm"),
        ("How large is the room (in square meters)?", "m²"),
        ("How large (unit: m^2)?", "m²"),
        ("How tall (ft)?", "ft"),
        ("How wide, in inches?", "inch"),
        ("How far is the mug in the red box, in metres?", "m"),
        ("By how much does it turn (in degrees)?", "°"),
        ("How far is it (in the first frame)?", None),
        ("How many mugs stand in front?", None),
        ("Which is nearer (A or B)?", None),
    ],
)
def test_the_unit_that_a_question_names(question, unit):
    assert unit_in(question) == unit


@pytest.mark.parametrize("question", ["How far (in furlongs)?", "How far (unit: parsec)?", "How large (in square cubits)?"])
def test_a_unit_that_nobody_knows_is_a_fault(question):
    with pytest.raises(BadRecord, match="is not one of") as error:
        unit_in(question)
    assert error.value.kind == "unknown unit"


def test_rewards_and_scores_know_every_unit():
    assert set(UNITS.values()) <= set(PARSED)
    assert all(UNITS[name.replace(" ", "").removesuffix("s")] == unit for unit, name in NAMES.items())


def test_a_source_is_known_by_its_spellings():
    assert [source_of(name) for name in ("DL3DV_frames/a/0.png", "wildrgbd_frames/x", "scannetpp", "SPAR-7M", "own")] == [
        "DL3DV", "WildRGB-D", "ScanNet", "SPAR-Bench", "own",
    ]  # fmt: skip
    assert licence("DL3DV") == "DL3DV-10K Terms of Use" and licence("own") == NOT_STATED
