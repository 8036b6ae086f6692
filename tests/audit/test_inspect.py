"""`sv-jax data inspect` and `data stats` on a dataset of rectangles, whose outlines and distances are known by hand."""

from __future__ import annotations

import base64
import io
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from sv_jax import cli
from sv_jax.audit.overlay import COLOURS, WIDTH, overlay, subjects
from sv_jax.audit.samples import clips, pick
from sv_jax.data import sets
from sv_jax.scenes.scene import Object, Scene
from sv_jax.tasks import QA

SIDE, DEPTH, FOCAL = 96, 2.0, 100.0
BOXES = ((8, 10, 24, 40), (60, 30, 80, 60), (30, 70, 50, 90))  # x0, y0, x1, y1 of a red mug, a blue can, another red mug
NASTY = "Which </p><script>alert(1)</script> is taller?"


def made_scene() -> Scene:
    """Two frames of a wall of rectangles, DEPTH metres in front of a camera that looks along the world's z."""
    ids = np.zeros((2, SIDE, SIDE), np.uint8)
    for k, (x0, y0, x1, y1) in enumerate(BOXES):
        ids[:, y0:y1, x0:x1] = k + 1
    names = (("mug", "red"), ("can", "blue"), ("mug", "red"))
    things = tuple(Object(name, colour, np.zeros(3), 0.0, np.ones(3), ()) for name, colour in names)
    frames = np.where(ids[..., None] > 0, 120, 60).astype(np.uint8).repeat(3, -1)
    K = np.array([[FOCAL, 0, SIDE / 2], [0, FOCAL, SIDE / 2], [0, 0, 1]])
    return Scene("wall", "tabletop", frames, np.full(ids.shape, DEPTH, np.float32), ids, K, np.tile(np.eye(4), (2, 1, 1)), 4.0, things)


def qa(task: str, question: str, semantic: str | None, answer: str = "1", **fields) -> QA:
    fields = {"answer_type": "number", "unit": "cm", **fields}
    return QA(f"q-{task}", "wall", task, "tabletop", question, answer, semantic=semantic, **fields)


MARK = {"kind": "point", "frame": 0, "xy": [40, 80], "color": "red"}
QAS = (
    qa("absolute_distance", "How far apart?", "red mug, blue can", "72", marks=({**MARK, "xy": [16, 25]},)),
    qa(
        "object_size",
        "How tall is the blue can?",
        "blue can",
        "60",
        reasoning="<semantic>blue can</semantic> <scale>1 m level</scale> 3 < 4.",
    ),
    qa("counting", "How many red objects?", "red objects", "2", unit=None),
    qa("size_comparison", NASTY, "blue can", "B", answer_type="choice", unit=None, options=("the <b>", "the can")),
    qa("depth", "How far is the object at the red point?", "red mug", "200", marks=(MARK,)),
)


@pytest.fixture(scope="module", params=[True, False], ids=["geometry", "frames alone"])
def folders(request, tmp_path_factory):
    """(dataset folder, whether it keeps geometry)."""
    out = tmp_path_factory.mktemp("audit") / "set"
    from sv_jax.data.codec import encode_clip

    with sets.Writers(out, ["train"], geometry=request.param) as writers:
        scene = made_scene()
        writers.scene("train", scene, encode_clip(scene.frames, scene.fps))
        for question in QAS:
            writers.question("train", question, 0)
    return str(out), request.param


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """A clip with its geometry, as read back."""
    out = tmp_path_factory.mktemp("drawn") / "set"
    from sv_jax.data.codec import encode_clip

    with sets.Writers(out, ["train"], geometry=True) as writers:
        scene = made_scene()
        writers.scene("train", scene, encode_clip(scene.frames, scene.fps))
        writers.question("train", QAS[0], 0)
    return next(clips(out, pick(out, 1)))


@pytest.mark.parametrize(
    "asked, expected", list(zip(QAS, ([0, 1], [1], [0, 2], [1], [2]), strict=True)), ids=lambda x: getattr(x, "task", "")
)
def test_subjects_are_told_by_phrase_group_and_mark(drawn, asked, expected):
    assert subjects(asked, drawn, 0) == expected


def test_the_outline_runs_along_the_edge_of_the_object(drawn):
    pixels = np.asarray(overlay(QAS[3], drawn, 0))
    found = (pixels == (*COLOURS[0], 255)).all(-1)
    x0, y0, x1, y1 = (side * WIDTH // SIDE for side in BOXES[1])
    rows, columns = np.nonzero(found[y0:y1, x0:x1])
    assert (rows.min(), columns.min(), rows.max(), columns.max()) == (0, 0, y1 - y0 - 1, x1 - x0 - 1)
    assert found[y0, x0:x1].all() and found[y0:y1, x1 - 1].all() and not found[y0 + 4 : y1 - 4, x0 + 4 : x1 - 4].any()
    assert not pixels[y1:].any() and not pixels[:, x1 + 60 :].any()


def test_a_distance_is_drawn_between_the_nearest_pixels(drawn):
    """Mug and can overlap in rows 30 to 40: the nearest pixels face each other in columns 23 and 60."""
    white = (np.asarray(overlay(QAS[0], drawn, 0)) == 255).all(-1)
    ends = {
        side: white[int(30 * WIDTH / SIDE) : int(40 * WIDTH / SIDE), int((x + 0.5) * WIDTH / SIDE)].any()
        for side, x in (("a", 23), ("b", 60))
    }
    assert ends == {"a": True, "b": True}
    assert not white[:, : int(20 * WIDTH / SIDE)].any() and not white[:, int(64 * WIDTH / SIDE) :].any()


class Page(HTMLParser):
    """Checks that tags close in order, and keeps what a reader would see."""

    def __init__(self):
        super().__init__()
        self.open, self.ids, self.links, self.images, self.classes, self.text = [], [], [], [], [], ""

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        if tag not in ("img", "meta"):
            self.open.append(tag)
        self.ids += [attrs["id"]] if "id" in attrs else []
        self.links += [attrs[key] for key in ("href", "src") if key in attrs and tag != "img"]
        self.images += [attrs["src"]] if tag == "img" else []
        self.classes.append(attrs.get("class"))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("script", "style"):
            self.text += data


def test_the_page_stands_alone_and_shows_every_question(folders, tmp_path, capsys):
    path, geometry = folders
    out = tmp_path / "new" / "page.html"
    assert cli.main(["data", "inspect", path, "--html", str(out)]) == 0
    assert capsys.readouterr().out.startswith(f"{out}: 5 samples")
    page = Page()
    page.feed(out.read_text())
    assert not page.open and len(page.ids) == len(set(page.ids)) == 5 and "script" not in page.classes
    assert {link.removeprefix("#") for link in page.links} == set(page.ids)
    sizes = [Image.open(io.BytesIO(base64.b64decode(re.fullmatch(r"data:image/\w+;base64,(.*)", src)[1]))).size for src in page.images]
    assert sizes.count((SIDE, SIDE)) == 5 * 3 and sizes.count((WIDTH, WIDTH)) == (5 if geometry else 0)
    assert NASTY in page.text and "the <b>" in page.text and "3 < 4." in page.text and "60 cm" in page.text
    assert page.classes.count("right") == page.classes.count("semantic") == page.classes.count("scale") == page.classes.count("said") == 1
    assert out.read_text().count("<script>") == 1


def test_without_html_the_samples_are_text(folders, capsys):
    assert cli.main(["data", "inspect", folders[0], "--task", "size_comparison,depth"]) == 0
    shown = capsys.readouterr().out
    assert f"{NASTY}\nOptions:\nA. the <b>\nB. the can\nanswer: B. the can" in shown
    assert "mark: red point in frame 1\nanswer: 200 cm" in shown and "blue can?" not in shown


def test_stats_print_every_task_and_json_is_one_object(folders, capsys):
    assert cli.main(["data", "stats", folders[0]]) == 0
    shown = capsys.readouterr().out
    assert all(question.task in shown for question in QAS) and "train: 1 scenes, 5 questions" in shown
    assert cli.main(["data", "stats", folders[0], "--split", "train", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["tasks"]["counting"]["numbers"]["tabletop"]["values"] == {"2": 1.0} and found["blind"] == {}


@pytest.mark.parametrize(
    "argv, said",
    [
        (
            ["inspect", "{}", "--task", "dept"],
            "task 'dept' is not one of absolute_distance, counting, depth, object_size, size_comparison; did",
        ),
        (["inspect", "{}", "--scale", "indoor"], "scale 'indoor' is not one of tabletop"),
        (["inspect", "{}", "--n", "0"], "n 0: expected at least 1"),
        (["inspect", "{}", "--html", "."], "--html '.': is a folder; expected a file to write"),
        (["inspect", "{}", "--html", "WORKSPACE.md/page.html"], "--html 'WORKSPACE.md/page.html': stands in a file, not in a folder"),
        (["inspect", "{}", "--split", "trian"], "split 'trian' is not one of train; did you mean 'train'?"),
        (["stats", "{}", "--split", "trian"], "split 'trian' is not one of train; did you mean 'train'?"),
        (["stats", "nowhere"], "data 'nowhere': no qa/1.0.0/dataset_info.json; expected a folder made by"),
    ],
)
def test_bad_input_is_one_line(folders, argv, said, capsys):
    assert cli.main(["data", *(arg.format(folders[0]) for arg in argv)]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1
