"""What marks do to pixels, how they are named, and what is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from sv_jax.errors import UserError
from sv_jax.inputs.marks import COLORS, draw, load_mask, mention
from sv_jax.tasks.geometry import run_lengths

GREY = np.full((2, 100, 200, 3), 100, np.uint8)


def colored(frame: np.ndarray, color: str) -> np.ndarray:
    return (frame == COLORS[color]).all(-1)


def test_a_point_is_a_disc_of_radius_8_on_its_frame_only():
    out = draw(GREY, [{"kind": "point", "xy": (50, 40), "frame": 1}])
    rows, cols = np.ogrid[:100, :200]
    np.testing.assert_array_equal(colored(out[1], "red"), (rows - 40) ** 2 + (cols - 50) ** 2 <= 64)
    np.testing.assert_array_equal(out[0], GREY[0])
    assert (GREY == 100).all(), "the caller's frames are left alone"


def test_a_box_is_an_outline_of_two_pixels():
    out = colored(draw(GREY, [{"kind": "box", "xyxy": (10, 20, 60, 80), "color": "blue"}])[0], "blue")
    expected = np.zeros((100, 200), bool)
    expected[20:80, 10:60] = True
    expected[22:78, 12:58] = False
    np.testing.assert_array_equal(out, expected)


def test_a_box_on_the_whole_frame_is_drawn_inside():
    out = colored(draw(GREY, [{"kind": "box", "xyxy": (0, 0, 200, 100)}])[0], "red")
    assert out[[0, -1]].all() and out[:, [0, -1]].all() and not out[2:-2, 2:-2].any()


def test_a_mask_is_blended_at_35_percent(tmp_path):
    mask = np.zeros((50, 100), bool)
    mask[10:20, 30:40] = True
    Image.fromarray(mask.astype(np.uint8) * 255).save(tmp_path / "m.png")
    for given in (mask, tmp_path / "m.png"):
        out = draw(GREY, [{"kind": "mask", "mask": given}])[0]
        expected = GREY[0].copy()
        expected[20:40, 60:80] = np.round(0.65 * 100 + 0.35 * np.array([255, 0, 0]))
        np.testing.assert_array_equal(out, expected)


def test_coordinates_follow_a_resized_frame():
    small = draw(GREY, [{"kind": "point", "xy": (50, 40)}])
    large = draw(GREY, [{"kind": "point", "xy": (500, 400)}], size=(1000, 2000))
    np.testing.assert_array_equal(small, large)


def test_colours_are_taken_in_turn():
    out = draw(GREY, [{"kind": "point", "xy": (20 + 40 * i, 50)} for i in range(4)])[0]
    assert [colored(out, name)[50, 20 + 40 * i] for i, name in enumerate(COLORS)] == [True] * 4


def test_marks_are_named_in_the_text_once():
    marks = [{"kind": "box", "xyxy": (1, 2, 3, 4)}, {"kind": "point", "xy": (1, 1), "frame": 2}]
    assert mention("What is it?", marks[:1]) == "Look at the red box.\nWhat is it?"
    assert mention("Which?", marks, frames=3) == "Look at the red box in frame 1 and the blue point in frame 3.\nWhich?"
    assert mention("What is in the red box?", marks[:1]) == "What is in the red box?"


@pytest.mark.parametrize(
    ("mark", "message"),
    [
        ({"kind": "box", "xyxy": (10, 10, 250, 50)}, "box xyxy 10,10,250,50 is outside the frame, which is 200 x 100 pixels"),
        ({"kind": "box", "xyxy": (-1, 10, 50, 50)}, "box xyxy .* 200 x 100"),
        ({"kind": "box", "xyxy": (60, 10, 50, 50)}, "x1 < x2"),
        ({"kind": "box", "xyxy": (1, 2, 3)}, "box xyxy: expected 4 numbers"),
        ({"kind": "point", "xy": (10, 101)}, "point xy 10,101 is outside the frame"),
        ({"kind": "point", "xy": (float("nan"), 1)}, "point xy nan,1 is outside"),
        ({"kind": "point", "xy": (1, 1), "frame": 2}, "point frame 2: expected 0 to 1"),
        ({"kind": "point", "xy": (1, 1), "color": "rad"}, "did you mean 'red'"),
        ({"kind": "boxx", "xyxy": (1, 2, 3, 4)}, "did you mean 'box'"),
        ({"kind": "box"}, "'xyxy' is missing"),
        ({"kind": "mask", "mask": "nowhere.png"}, "mask 'nowhere.png': No such file"),
        ({"kind": "mask", "mask": np.zeros((2, 2, 2))}, "mask: expected"),
    ],
)
def test_a_bad_mark_is_one_line(mark, message):
    with pytest.raises(UserError, match=message):
        draw(GREY, [mark])


@pytest.mark.parametrize("kind", ["zeros", "ones", "random"])
def test_run_lengths_give_the_mask_back_and_draw_as_it_does(kind):
    mask = {"zeros": np.zeros((5, 7)), "ones": np.ones((5, 7)), "random": np.random.default_rng(0).random((5, 7)) < 0.5}[kind].astype(bool)
    runs = json.loads(json.dumps(run_lengths(mask)))
    assert np.array_equal(load_mask(runs), mask)
    assert sum(runs["counts"]) == 35 and sum(runs["counts"][1::2]) == mask.sum()
    frames = np.zeros((1, 10, 14, 3), np.uint8)
    both = [draw(frames, [{"kind": "mask", "mask": m}]) for m in (mask, runs)]
    assert np.array_equal(*both)


def test_run_lengths_of_another_size_are_refused():
    with pytest.raises(UserError, match="run lengths .* that fill the size"):
        load_mask({"size": [2, 2], "counts": [3]})
