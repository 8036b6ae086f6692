"""VSI-, SPAR-, STI- and MMSI-style files, as parquet and as JSON: what their records become, and what is refused."""

from __future__ import annotations

import io
import json
import shutil

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet

from sv_jax.data.batches import encode_sample
from sv_jax.data.names import MMSI, SPAR, STI, VSI
from sv_jax.data.published import FORMATS, ImportConfig, import_questions
from sv_jax.data.published.benchmarks import SPAR_BOXES
from sv_jax.data.read import open_split
from sv_jax.errors import UserError
from sv_jax.inputs.chat import Processor


def png(seed: int, height: int = 40, width: int = 60) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)).save(buffer, "png")
    return buffer.getvalue()


VSI_ROWS = [
    {
        "id": i, "dataset": "scannet", "scene_name": "film", "question_type": task, "question": f"What about {i}?",
        "options": ["A. left", "B. right", "C. back"] if unit is None and task != "object_counting" else None,
        "ground_truth": "B" if unit is None and task != "object_counting" else "2.5",
    }
    for i, (task, unit) in enumerate(VSI.items())
]  # fmt: skip
SPAR_ROWS = [
    {
        "id": f"s{i}", "img_type": "multi_view", "task": task, "source": "scannetpp",
        "format_type": "fill" if "prediction" in task or task == "view_change_infer" else "select",
        "question": f"How far is it, in meters? ({i})" if "prediction" in task else f"Which? A. x B. y ({i})",
        "answer": "1.5" if "prediction" in task else "move_right:0.5,rotate_up:10" if task == "view_change_infer" else "A",
        "image": [{"bytes": png(i), "path": None}, {"bytes": png(i + 100, 60, 40), "path": None}],
    }
    for i, task in enumerate(SPAR)
]  # fmt: skip
STI_ROWS = [
    {
        "ID": 7, "Video": "scannet/film.mp4", "Source": "ScanNet", "time_start": float(i), "time_end": i + 2.0, "Question": "How fast?",
        "Candidates": dict(zip("ABCDE", ("1 m/s", "2 m/s", "3 m/s", "4 m/s", "5 m/s"), strict=True)), "Answer": "E", "Task": task,
    }
    for i, task in enumerate(STI)
]  # fmt: skip
MMSI_ROWS = [
    {
        "id": i, "images": [png(i), png(i + 50), png(i + 60, 30, 30)], "question_type": task.replace("–", "-") if i % 2 else task,
        "question": "Where is it?\nOptions: A: left, B: right, C: back, D: front", "answer": "D", "thought": "It is in front.",
    }
    for i, task in enumerate(MMSI)
]  # fmt: skip
ROWS = {"vsi": VSI_ROWS, "spar": SPAR_ROWS, "sti": STI_ROWS, "mmsi": MMSI_ROWS}


@pytest.fixture(scope="module")
def root(tmp_path_factory, film):
    root = tmp_path_factory.mktemp("media")
    (root / "scannet").mkdir()
    shutil.copy(film, root / "scannet/film.mp4")
    data = open(film, "rb").read()
    (root / "scannet/half.mp4").write_bytes(data[: len(data) // 2])
    (root / "000012").mkdir()
    for i in (10, 9, 8):  # in the order of their numbers, not of their letters
        (root / f"000012/frame{i}.png").write_bytes(png(i))
    return root


def load(format, rows, root, out, kind="parquet", **options):
    """(manifest, samples) of an import of made-up rows."""
    file = out.with_suffix(f".{kind}")
    if kind == "parquet":
        parquet.write_table(pa.Table.from_pylist(rows), file)
    else:
        file.write_text("\n".join(map(json.dumps, rows)))
    manifest = import_questions(ImportConfig(format, (str(file),), str(root), str(out), frames=4, side=64, **options))
    return manifest, open_split(out, "eval")


@pytest.fixture(scope="module")
def imported(root, tmp_path_factory):
    return {format: load(format, rows, root, tmp_path_factory.mktemp(format) / "set") for format, rows in ROWS.items()}


@pytest.mark.parametrize("format", ROWS)
def test_every_task_of_a_benchmark_is_imported_under_its_own_name(format, imported):
    manifest, samples = imported[format]
    known = {"vsi": VSI, "spar": SPAR, "sti": STI, "mmsi": MMSI}[format]
    assert not manifest["faults"]["lines"] and len(samples) == len(ROWS[format])
    assert set(manifest["splits"]["eval"]["table"]) == set(known)
    assert manifest["licences"][FORMATS[format].dataset]["licence"] in ("Apache-2.0", "CC BY 4.0")


@pytest.mark.parametrize("format", ROWS)
def test_all_fields_but_the_pictures_are_kept(format, imported):
    _, samples = imported[format]
    kept = [samples.qa(i).extra[format] for i in range(len(samples))]
    assert kept == [{k: v for k, v in row.items() if k not in ("image", "images")} for row in ROWS[format]]


@pytest.mark.parametrize("format", ROWS)
def test_an_imported_benchmark_goes_through_the_processor(format, imported, tiny_folder):
    processor = Processor.from_folder(tiny_folder)
    _, samples = imported[format]
    assert encode_sample(processor, samples[0], target=False).is_vision.any()


def test_vsi_has_one_clip_for_a_scene_and_its_units(imported):
    manifest, samples = imported["vsi"]
    assert manifest["splits"]["eval"]["scenes"] == 1 and samples[0]["frames"].shape == (4, 36, 64, 3)
    qas = {samples.qa(i).task: samples.qa(i) for i in range(len(samples))}
    assert qas["route_planning"].options == ("left", "right", "back") and qas["route_planning"].answer == "B"
    assert qas["route_planning"].user_text().endswith("Options:\nA. left\nB. right\nC. back")
    assert {task: qas[task].unit for task in VSI} == VSI
    size = qas["object_size_estimation"]
    assert (size.answer, size.answer_type, size.answer_si) == ("2.5", "number", pytest.approx(0.025))
    assert manifest["licences"]["ScanNet"]["questions"] == len(VSI)


def test_views_are_slices_of_their_own_on_one_canvas(imported):
    _, samples = imported["spar"]
    frames = samples[0]["frames"]
    assert frames.shape == (4, 60, 60, 3)
    assert abs(frames[0].astype(int) - frames[1]).mean() < 4 < abs(frames[1].astype(int) - frames[2]).mean()
    assert frames[0, 44:].min() > 235 and frames[2, :, 44:].min() > 235  # what is left of the canvas is white
    assert imported["mmsi"][1][0]["frames"].shape == (6, 40, 60, 3)


def test_spar_knows_letters_numbers_and_changes_of_view(imported):
    _, samples = imported["spar"]
    qas = {samples.qa(i).task: samples.qa(i) for i in range(len(samples))}
    assert (qas["depth_prediction_oo"].answer_type, qas["depth_prediction_oo"].unit) == ("number", "m")
    assert qas["view_change_infer"].answer_type == "text" and qas["spatial_imagination_oc"].answer_type == "choice"
    assert [task for task, qa in qas.items() if SPAR_BOXES in qa.question] == ["position_matching", "camera_motion_infer"]


def test_sti_tells_the_span_and_has_five_options(imported):
    _, samples = imported["sti"]
    qa = samples.qa(1)
    assert qa.id == "scannet/film.mp4|7|1.0|3.0" and qa.scale == "indoor"
    assert qa.question == "From 1.0 seconds to 3.0 seconds. How fast?" and qa.user_text().endswith("\nE. 5 m/s")


def test_sti_without_a_video_reads_the_folder_of_the_id(root, tmp_path):
    row = {k: v for k, v in STI_ROWS[0].items() if k not in ("Video", "time_start", "time_end")} | {"ID": 12, "Source": "own"}
    _, samples = load("sti", [row], root, tmp_path / "set", "jsonl", scale="tabletop")
    assert samples.qa(0).id == "12" and samples.qa(0).question == "How fast?" and samples.qa(0).scale == "tabletop"
    pictures = np.stack([np.asarray(Image.open(io.BytesIO(png(i)))) for i in (8, 9, 10)]).astype(int)
    assert [abs(pictures - frame).mean((1, 2, 3)).argmin() for frame in samples[0]["frames"]] == [0, 1, 2]


def test_tasks_of_a_benchmark_can_be_chosen(imported, tmp_path, root):
    load("vsi", VSI_ROWS, root, tmp_path / "set")
    assert len(open_split(tmp_path / "set", "eval", tasks=("route_planning", "object_counting"))) == 2
    with pytest.raises(UserError, match="did you mean 'route_planning'"):
        open_split(tmp_path / "set", "eval", tasks=("route_plannin",))


# format, kind of fault, a part of what is said, what is changed in its second row
BAD = {
    "vsi task": ("vsi", "unknown task", "did you mean 'object_counting'", {"question_type": "object_countin"}),
    "vsi id twice": ("vsi", "duplicate id", "'0' stands at", {"id": 0}),
    "vsi no video": ("vsi", "missing media", "scannet/none.mp4", {"scene_name": "none"}),
    "vsi half a video": ("vsi", "broken media", "half.mp4", {"scene_name": "half"}),
    "vsi no options": ("vsi", "missing field", "no 'options'", {"options": None}),
    "vsi letter": ("vsi", "missing field", "'D', expected one of the letters of 3", {"ground_truth": "D"}),
    "vsi no question": ("vsi", "missing field", "no 'question'", {"question": None}),
    "spar task": ("spar", "unknown task", "'depth'", {"task": "depth"}),
    "spar form": ("spar", "unknown format_type", "'filled'", {"format_type": "filled"}),
    "spar unit": ("spar", "unknown unit", "'cubits'", {"question": "How far (in cubits)?"}),
    "spar answer": ("spar", "missing field", "'far' is no number", {"answer": "far"}),
    "spar no pictures": ("spar", "missing field", "no 'image'", {"image": []}),
    "spar broken picture": ("spar", "broken media", "encoded picture: not an image file", {"image": [{"bytes": b"none", "path": None}]}),
    "sti task": ("sti", "unknown task", "'Speed'", {"Task": "Speed"}),
    "sti candidates": ("sti", "missing field", "expected letters from A on", {"Candidates": {"A": "1", "C": "2"}}),
    "sti source": ("sti", "missing field", "give --scale", {"Source": "own"}),
    "sti twice": ("sti", "duplicate id", "stands at", {"time_start": 0.0, "time_end": 2.0}),
    "mmsi task": ("mmsi", "unknown task", "'Motion'", {"question_type": "Motion"}),
    "mmsi answer": ("mmsi", "missing field", "no letter", {"answer": "front"}),
    "mmsi picture": ("mmsi", "missing field", "'images' holds something else", {"images": [None]}),
}


@pytest.mark.parametrize("case", BAD)
def test_a_faulty_row_is_named_and_the_others_are_kept(case, root, tmp_path):
    format, kind, said, changes = BAD[case]
    rows = [ROWS[format][0], ROWS[format][1] | changes, ROWS[format][2]]
    manifest, samples = load(format, rows, root, tmp_path / "set")
    (fault,) = manifest["faults"]["lines"]
    assert fault.startswith(f"{tmp_path / 'set.parquet'}:2: {kind}: ") and said in fault and len(samples) == 2
    with pytest.raises(UserError, match=f"strict.parquet:2: {kind}: "):
        load(format, rows, root, tmp_path / "strict", strict=True)


def test_json_lines_with_paths_are_read_too(root, tmp_path):
    rows = [{**row, "images": ["000012/frame8.png", "000012/frame9.png"]} for row in MMSI_ROWS[:2]]
    manifest, samples = load("mmsi", rows, root, tmp_path / "set", "jsonl")
    assert len(samples) == 2 and manifest["splits"]["eval"]["scenes"] == 1


def test_half_a_parquet_file_is_one_line(root, tmp_path):
    file = tmp_path / "half.parquet"
    parquet.write_table(pa.Table.from_pylist(VSI_ROWS), file)
    file.write_bytes(file.read_bytes()[:500])
    with pytest.raises(UserError, match="half.parquet': not a whole parquet file"):
        import_questions(ImportConfig("vsi", (str(file),), str(root), str(tmp_path / "set")))
