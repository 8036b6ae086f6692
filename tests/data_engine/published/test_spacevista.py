"""SpaceVista-1M: in, out and in again without a loss; what a record becomes; marks where they were."""

from __future__ import annotations

import json

import numpy as np
import pytest

from sv_jax.data.batches import encode_sample
from sv_jax.data.published import ImportConfig, export_questions, import_questions, spacevista
from sv_jax.data.read import open_split
from sv_jax.inputs.chat import Processor
from sv_jax.inputs.marks import draw, load_mask
from tests.data_engine.published.records import FRAMES, HEIGHT, SCENES, WIDTH, full, make_media, spacevista_records, write_list

RECORDS = spacevista_records()


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return make_media(tmp_path_factory.mktemp("media"))


def load(root, out, records, **options) -> dict:
    """Import records; returns the manifest."""
    file = write_list(out.with_suffix(".json"), records)
    return import_questions(ImportConfig("spacevista", (file,), str(root), str(out), scale="tabletop", **options))


@pytest.fixture(scope="module")
def imported(root, tmp_path_factory):
    """(folder, manifest, samples by id) of all records."""
    out = tmp_path_factory.mktemp("set") / "one"
    manifest = load(root, out, RECORDS)
    samples = open_split(out, "train")
    return out, manifest, {s["qa"].id: s for s in map(samples.__getitem__, range(len(samples)))}


def test_import_export_import_is_equal(root, imported, tmp_path):
    out, manifest, first = imported
    assert len(RECORDS) >= 30 and manifest["splits"]["train"]["questions"] == len(RECORDS) and not manifest["faults"]["lines"]
    file = tmp_path / "again.json"
    assert export_questions(str(out), "spacevista", str(file), split="train") == len(RECORDS)
    exported = {record["id"]: record for record in json.loads(file.read_text())}
    assert exported == {record["id"]: record for record in RECORDS}
    assert [p.name for p in tmp_path.iterdir()] == ["again.json"]  # its frames are where they were
    again = import_questions(ImportConfig("spacevista", (str(file),), str(root), str(tmp_path / "two"), scale="tabletop"))
    assert again["splits"] == manifest["splits"] and again["licences"] == manifest["licences"]
    samples = open_split(tmp_path / "two", "train")
    for i in range(len(samples)):
        sample, was = samples[i], first[samples.qa(i).id]
        assert sample["qa"] == was["qa"] and np.array_equal(sample["frames"], was["frames"]) and sample["fps"] == was["fps"]


def test_a_record_becomes_a_question_with_task_scale_unit_and_reasoning(imported):
    _, _, got = imported
    qa = got["v2_2"]["qa"]
    assert (qa.task, qa.scale, qa.question) == ("depth", "tabletop", "How far is it (in centimeters)?")
    assert (qa.answer, qa.answer_type, qa.unit, qa.answer_si) == ("41", "number", "cm", pytest.approx(0.41))
    assert qa.reasoning == "The mug is near." and qa.target_text() == "<think>The mug is near.</think><answer>41</answer>"
    assert got["v2_4"]["qa"].answer_type == "choice" and got["v2_5"]["qa"].answer_type == "text"
    assert (got["v2_7"]["qa"].unit, got["v2_8"]["qa"].unit, got["v2_8"]["qa"].answer) == (None, "°", "-30")
    assert [got[f"wild__{i}"]["qa"].scale for i in range(7)] == ["tiny", "tiny", "tabletop", "indoor", "indoor", "outdoor", "drone"]
    assert got["wild__3"]["qa"].unit == "m²" and got["wild__1"]["qa"].unit == "m"


def test_questions_about_the_same_frames_share_a_clip(imported):
    _, manifest, got = imported
    assert manifest["splits"]["train"]["scenes"] == 2 + 5  # two scenes at one scale, one at the five of its categories and the default
    assert got["v2_1"]["qa"].scene_id == SCENES[0] and got["v2_1"]["frames"].shape == (FRAMES, 60, 80, 3) and got["v2_1"]["fps"] == 1.0


def test_marks_take_the_colours_of_the_release_and_move_with_the_pixels(imported):
    _, _, got = imported
    by = 80 / WIDTH
    assert got["v2_2"]["qa"].marks[0] == {"kind": "point", "frame": 3, "color": "red", "xy": [round(70 * by, 2), 12.0]}
    # (6, 5) as [row, column] is row 5, column 6
    assert got["v2_2"]["qa"].marks[1]["xy"] == [round(6 * by, 2), 5.0] and got["v2_2"]["qa"].marks[1]["color"] == "blue"
    for id in ("v2_4", "v2_10"):
        pair = [(m["frame"], m["color"]) for m in got[id]["qa"].marks]
        assert pair == ([(0, "red"), (4, "blue"), (4, "green")] if id == "v2_4" else [(1, "red"), (2, "blue"), (2, "green")])
    assert got["v2_4"]["qa"].marks[0]["xyxy"] == [round(20 * by, 2), 10.0, round(50 * by, 2), 30.0]
    assert [(m["color"], m["frame"]) for m in got["wild__1"]["qa"].marks] == [("green", 2), ("red", 2)]
    assert [m["color"] for m in got["wild__5"]["qa"].marks] == ["green", "red", "blue"]


@pytest.mark.parametrize("id, pixels", [("v2_5", 600), ("v2_6", 100), ("v2_9", 600), ("wild__3", 700), ("wild__6", 700)])
def test_a_mask_file_of_any_kind_becomes_the_chosen_objects(imported, id, pixels):
    _, _, got = imported
    mark = next(m for m in got[id]["qa"].marks if m["kind"] == "mask")
    mask = load_mask(mark["mask"])
    assert mask.shape == (60, 80) and mask.sum() == pytest.approx(pixels, rel=0.05)
    assert (draw(got[id]["frames"], [mark])[mark["frame"]] != got[id]["frames"][mark["frame"]]).any(-1)[mask].mean() > 0.9


def test_frames_with_marks_are_kept_on_top_of_the_evenly_spread_ones(root, tmp_path):
    load(root, tmp_path / "few", [RECORDS[1]], frames=2, side=40)
    sample = open_split(tmp_path / "few", "train")[0]
    assert sample["frames"].shape == (3, 30, 40, 3) and [m["frame"] for m in sample["qa"].marks] == [1, 1]  # frames 0, 3 and 4


def test_an_imported_set_goes_through_the_processor(imported, tiny_folder):
    out, _, _ = imported
    processor = Processor.from_folder(tiny_folder)
    split = open_split(out, "train")
    samples = [split[i] for i in range(len(split))]
    assert {s["qa"].id for s in samples} == {r["id"] for r in RECORDS}
    for sample in samples[:8] + [s for s in samples if s["qa"].id == "v2_5"]:
        arrays = encode_sample(processor, sample)
        assert arrays.weights.sum() > 0 and arrays.is_vision.sum() == np.prod(arrays.grids[0]) // 4
        assert len(encode_sample(processor, sample, target=False).tokens) < len(arrays.tokens)
    assert len(open_split(out, "train", tasks=("existence", "room_size"), scales=("tabletop",))) > 0


def test_flatten_leaves_scalars_alone_and_reads_the_same(root, imported, tmp_path):
    out, _, first = imported
    file = tmp_path / "flat.json"
    export_questions(str(out), "spacevista", str(file), split="train", flatten=True)
    flat = {record["id"]: record for record in json.loads(file.read_text())}
    assert flat["v2_3"]["extra_info"] == {
        "task_type": "DEPTH_all",
        "bbox_image_path": f"{SCENES[0]}/0003.png",
        "bbox_bboxes": json.dumps([{"x1": 20, "y1": 10, "x2": 50, "y2": 30}] * 2),
    }
    assert flat["v2_7"]["extra_info"]["nested"] == '{"deep": [1, {"ä": null}]}'
    for record in flat.values():
        assert not any(isinstance(v, dict | list) for v in record.get("extra_info", {}).values())
        assert (
            spacevista.parse(record, "tabletop").marks
            == spacevista.parse(next(r for r in RECORDS if r["id"] == record["id"]), "tabletop").marks
        )
    assert first["v2_3"]["qa"].marks


def test_a_dataset_of_ours_becomes_records_that_import_as_the_same_questions(tiny_data, tmp_path):
    file = tmp_path / "out" / "ours.json"
    count = export_questions(tiny_data, "spacevista", str(file), split="train")
    manifest = import_questions(ImportConfig("spacevista", (str(file),), str(file.parent), str(tmp_path / "back"), strict=True))
    assert manifest["splits"]["train"]["questions"] == count and manifest["licences"]["sv-jax"]["questions"] == count
    ours, back = open_split(tiny_data, "train"), open_split(tmp_path / "back", "train")
    again = {back.qa(i).id: back[i] for i in range(count)}
    for i in range(count):
        qa, got = ours.qa(i), again[ours.qa(i).id]
        for name in ("task", "scale", "answer", "answer_type", "unit", "semantic", "scale_anchor", "reasoning"):
            assert getattr(got["qa"], name) == getattr(qa, name), name
        assert got["qa"].question == qa.user_text() and len(got["qa"].marks) == len(qa.marks)
        assert abs(got["frames"].astype(int) - ours[i]["frames"]).mean() < 3


def test_points_are_row_and_column_and_swapped_only_where_that_is_outside(root, tmp_path):
    spot = {"image_index": 0, "color": "red"}
    records = [
        full(f"p{i}", SCENES[2], "Where?", "left", "Indoor", "DEPTH", points=[{"coords": coords, **spot}])
        for i, coords in enumerate(([50, 10], [10, 50], [70, 50], [90, 90]))
    ]
    manifest = load(root, tmp_path / "points", records)
    samples = open_split(tmp_path / "points", "train")
    xy = [np.array(samples.qa(i).marks[0]["xy"]) * [WIDTH / 80, HEIGHT / 60] for i in range(3)]
    assert np.allclose(xy, [[10, 50], [50, 10], [70, 50]], atol=0.01)  # stored to 0.01 pixels
    assert manifest["faults"]["counts"] == {"bad mark": 1}
