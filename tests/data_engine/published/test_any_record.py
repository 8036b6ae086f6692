"""Whatever stands in a record's fields, an import takes it or says what is wrong: it never fails."""

from __future__ import annotations

import copy

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sv_jax.data.published import FORMATS
from sv_jax.data.published.clips import Clip, place_marks
from sv_jax.data.published.item import BadRecord
from sv_jax.data.published.spacevista import render
from tests.data_engine.published.records import HEIGHT, WIDTH, make_media, spacevista_records
from tests.data_engine.published.test_benchmarks import ROWS

RECORDS = {"spacevista": spacevista_records(), **ROWS}
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-10, 10) | st.floats() | st.sampled_from(["", "A", "[", '["x"]', '{"a": 1}', "3", "depth"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "x1", "coords", "mask_path"]), inner, max_size=3),
    max_leaves=6,
)


def places(value, path=()) -> list[tuple]:
    """Paths to everything inside a record."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, item in inner for place in places(item, (*path, key)))]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return str(make_media(tmp_path_factory.mktemp("media")))


@pytest.mark.parametrize("format", FORMATS)
def test_a_record_with_any_value_anywhere_is_taken_or_refused(format, root):
    @settings(max_examples=400, deadline=None)
    @given(st.data())
    def run(data):
        record = copy.deepcopy(data.draw(st.sampled_from(RECORDS[format])))
        *way, last = data.draw(st.sampled_from(places(record)[1:]))
        inside = record
        for key in way:
            inside = inside[key]
        inside[last] = data.draw(VALUES)
        try:
            item = FORMATS[format].parse(record, None)
            frames = range(len(item.media))
            sizes = dict.fromkeys(frames, (HEIGHT, WIDTH))
            place_marks(item.marks, Clip(np.zeros((1, HEIGHT, WIDTH, 3), np.uint8), 1.0, {i: i for i in frames}, sizes, sizes), root)
        except BadRecord:
            return
        assert item.media and item.qa.question
        if format == "spacevista":
            # what is not a number is not equal to itself
            assert repr(sorted(render(item.qa).items())) == repr(sorted(record.items()))

    run()
