"""SpaceVista-1M: its records as items, and questions as its records.

Both forms are read: the preview's `extra_info`, nested or flattened (ShiqiangLang/SpaceVista: dataset/readme.md, dataset/flatten.py), and
the full release's `annotations` and `metadata` (the card of SpaceVista/SpaceVista-Full; PeiwenSun2000/SpaceVista: eval/evaluate_api.py).
Texts: PeiwenSun2000/SpaceVista: sft/README.md.
"""

from __future__ import annotations

import json
import math
import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sv_jax.data.names import SPACEVISTA
from sv_jax.data.published.item import BadRecord, Item, field, named, optional, scale_or, si, unit, unit_in
from sv_jax.data.published.licences import source_of
from sv_jax.inputs.marks import COLORS
from sv_jax.tasks.qa import QA

TASK_FIELDS = ("original_type", "task_type", "TaskType", "task", "question_type", "type")  # the release's keys are not uniform
SCALE_OF = {
    "tiny": "tiny", "tinytabletop": "tiny", "tabletop": "tabletop", "indoor": "indoor", "wildindoor": "indoor", "outdoor": "outdoor",
    "drone": "drone",
}  # fmt: skip
CATEGORY = {"tiny": "TinyTabletop", "tabletop": "Tabletop", "indoor": "Indoor", "outdoor": "Outdoor", "drone": "Drone"}
SCALE_UNIT = {"tiny": "mm", "tabletop": "cm", "indoor": "m", "outdoor": "<km", "drone": "<km"}
PREFIXES = {"input_bbox": "bbox_", "input_point": "point_", "input_mask": "mask_"}
COLOR_ORDER = tuple(COLORS)

OPENING = "Please think about this question as if you were a human pondering deeply.\n<video>\nQuestion: "
CLOSING = "\nPlease provide the thinking process within the <think> </think> tags.\n{} within the <answer> </answer> tags."
ASKED = {
    "choice": "Please provide only the single option letter (e.g., A, B, C, D, etc.)",
    "number": "Please provide the numerical value (e.g., 42 or 3.14)",
    "text": "Please provide the answer",
}
_USER = re.compile(r"\A((?:.*?<video>\s*)?(?:Question:\s*)?)(.*?)((?:\s*\n[^\n]*<(?:think|answer)>.*)?)\Z", re.DOTALL)
_ASSISTANT = re.compile(r"(?:<think>(.*?)</think>.*?)?<answer>(.*?)</answer>", re.DOTALL)


def parse(record: dict, scale: str | None) -> Item:
    """One record of `meta.json` or `all.json`. BadRecord says what is wrong with it."""
    id, messages, videos = field(record, "id"), field(record, "messages", list), field(record, "videos", list)
    if len(videos) != 1 or not isinstance(videos[0], list) or not all(isinstance(frame, str) for frame in videos[0]) or not videos[0]:
        raise BadRecord("missing field", f"'videos' holds {len(videos)} entries, expected one list of frame paths")
    info, metadata, annotations = (optional(record, key, dict) or {} for key in ("extra_info", "metadata", "annotations"))
    before, question, after, reasoning, answer = _texts(messages)
    task = _task(metadata, info)
    answer_type = type_of(answer)
    if metadata.get("scale"):
        unit(str(metadata["scale"]).removeprefix("<"))
    asked = None
    if answer_type == "number" and task != "counting":
        stated = optional(metadata, "unit", str)
        asked = unit(stated) if stated else unit_in(question)
    frames = list(map(sys.intern, videos[0]))  # a path stands in the records of all questions about its clip, tens of times
    extra = {"fields": {key: value for key, value in record.items() if key not in ("id", "messages")} | {"videos": [frames]}}
    qa = QA(
        id, "", task, _scale(metadata, scale), question, answer, answer_type, unit=asked, answer_si=si(answer, answer_type, asked),
        semantic=optional(metadata, "semantic", str),
        scale_anchor=optional(metadata, "scale_anchor", str), reasoning=reasoning, extra={"spacevista": extra},
    )  # fmt: skip
    # texts of another shape than the usual are kept as they are
    extra |= {"prompt": [before, after]} if _messages(qa, before, after) == messages else {"messages": messages}
    source = source_of(str(metadata.get("scene_source") or frames[0]))
    return Item(qa, tuple(frames), source, marks=tuple(_marks(annotations, info, frames)))


def render(qa: QA) -> dict:
    """The record that a question was imported from."""
    extra = qa.extra["spacevista"]
    messages = extra["messages"] if "messages" in extra else _messages(qa, *extra["prompt"])
    return {"id": qa.id, "messages": messages, **extra["fields"]}


def record_of(qa: QA, frames: Sequence[str], masks: Sequence[str]) -> dict:
    """A record of the full release for a question of ours. `masks`: the file of each mask among its marks, in their order.

    `extra_info` says the same, flattened, for the released training code, which reads no annotations; it holds one frame's marks of a
    kind in the order of their colours, so it leaves out what is not like that."""
    files = iter(masks)
    kinds: dict[str, list[dict]] = {"points": [], "bboxes": [], "masks": []}
    for mark in qa.marks:
        here = {"image_index": mark["frame"], "color": mark["color"]}
        if mark["kind"] == "point":
            kinds["points"].append({"coords": [mark["xy"][1], mark["xy"][0]], **here})
        elif mark["kind"] == "box":
            kinds["bboxes"].append({"coords": list(mark["xyxy"]), **here})
        else:
            kinds["masks"].append({"image_path": frames[mark["frame"]], "mask_path": next(files), "object_ids": None, **here})
    present = "_".join(name for name, kind in (("point", "points"), ("bbox", "bboxes"), ("mask", "masks")) if kinds[kind])
    anchors = {key: getattr(qa, key) for key in ("semantic", "scale_anchor", "unit") if getattr(qa, key) is not None}
    return {
        "id": qa.id,
        "input_type": f"image_{present}_text" if present else "image_text",
        "messages": _messages(qa, OPENING, CLOSING.format(ASKED[qa.answer_type])),
        "videos": [list(frames)],
        "annotations": {kind: marks or None for kind, marks in kinds.items()} | {"dual_bbox": None},
        "metadata": {
            "scene_source": "sv-jax", "original_id": qa.scene_id, "category": CATEGORY[qa.scale], "scale": SCALE_UNIT[qa.scale],
            "original_type": qa.task, **anchors,
        },
        "extra_info": {"task_type": qa.task, **_flat_marks(kinds, frames)},
    }  # fmt: skip


def flatten(record: dict) -> dict:
    """The record with scalars alone in its extra_info, as Arrow and the released loader want it (dataset/flatten.py)."""
    info = dict(record.get("extra_info") or {})
    for key, prefix in PREFIXES.items():
        if isinstance(info.get(key), dict):
            info |= {f"{prefix}{name}": value for name, value in info.pop(key).items()}
    return {**record, "extra_info": {k: json.dumps(v, ensure_ascii=False) if isinstance(v, dict | list) else v for k, v in info.items()}}


def type_of(answer: str) -> str:
    """A letter A to E, a finite number, else text (eval/evaluate_api.py, which also takes NaN and infinity for numbers)."""
    if answer in ("A", "B", "C", "D", "E"):
        return "choice"
    try:
        return "number" if math.isfinite(float(answer)) else "text"
    except ValueError:
        return "text"


def _texts(messages: list) -> tuple[str, str, str, str, str]:
    """(before, question, after) of the first user's turn, (reasoning, answer) of the last assistant's."""
    try:
        user = next(m["content"] for m in messages if m["role"] == "user")
        said = next(m["content"] for m in reversed(messages) if m["role"] == "assistant")
        (before, question, after), found = _USER.match(user).groups(), _ASSISTANT.search(said)
    except (StopIteration, KeyError, TypeError):
        raise BadRecord("missing field", "'messages' without the text of a user's and an assistant's turn") from None
    if found is None or not found.group(2).strip():
        raise BadRecord("missing field", "no <answer>…</answer> in the assistant's turn")
    if not question.strip():
        raise BadRecord("missing field", "no question in the user's turn")
    return before, question, after, found.group(1) or "", found.group(2).strip()


def _messages(qa: QA, before: str, after: str) -> list[dict]:
    said = f"<think>{qa.reasoning}</think><answer>{qa.answer}</answer>"
    return [{"role": "user", "content": f"{before}{qa.user_text()}{after}"}, {"role": "assistant", "content": said}]


def _task(*places: Mapping[str, Any]) -> str:
    said = next((place[key] for place in places for key in TASK_FIELDS if isinstance(place.get(key), str)), None)
    if said is None:
        raise BadRecord("missing field", f"no task: none of {', '.join(TASK_FIELDS)} in metadata or extra_info")
    name = re.sub(r"\W+", "_", said.strip().lower())
    if name not in SPACEVISTA:
        raise named("task", name, SPACEVISTA)
    return SPACEVISTA[name]


def _scale(metadata: Mapping[str, Any], default: str | None) -> str:
    if "category" not in metadata:
        return scale_or(default, "metadata.category")
    name = re.sub(r"[\s_-]", "", str(metadata["category"])).lower()
    if name not in SCALE_OF:
        raise named("scale", metadata["category"], CATEGORY.values())
    return SCALE_OF[name]


def _marks(annotations: Mapping[str, Any], info: Mapping[str, Any], frames: Sequence[str]) -> Iterable[dict]:
    """Marks by frame, each with its colour: in their order, and of a pair of frames red for the reference, blue, green, yellow, red for
    the candidates. PeiwenSun2000/SpaceVista: sft/src/llamafactory/data/mm_plugin.py draws so, but for its slips."""
    try:
        given = list(_annotated(annotations, frames))
        yield from given or _informed(info, frames)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise BadRecord("bad mark", f"annotations that cannot be read ({type(error).__name__}: {error})") from None


def _annotated(annotations: Mapping[str, Any], frames: Sequence[str]) -> Iterable[dict]:
    for key, kind in (("points", "point"), ("bboxes", "box"), ("masks", "mask")):
        for i, one in enumerate(annotations.get(key) or ()):
            frame = one["image_index"] if "image_index" in one else _frame(one["image_path"], frames)
            if not 0 <= frame < len(frames):
                raise BadRecord("bad mark", f"image_index {frame}, expected 0 to {len(frames) - 1}")
            yield _mark(kind, frame, one.get("color") or COLOR_ORDER[i % 4], one if kind == "mask" else one["coords"])
    if pair := annotations.get("dual_bbox"):
        yield from _pair(pair["source_image"], pair["source_bbox"], pair["target_image"], pair["target_bboxes"], frames)


def _informed(info: Mapping[str, Any], frames: Sequence[str]) -> Iterable[dict]:
    flat = {key: _parsed(value) for key, value in flatten({"extra_info": info})["extra_info"].items()}
    if points := flat.get("point_points"):
        at = _frame(flat["point_image_path"], frames)
        points = [points] if isinstance(points[0], int | float) else points
        yield from (_mark("point", at, COLOR_ORDER[i % 4], point) for i, point in enumerate(points))
    if boxes := flat.get("bbox_bboxes"):
        at = _frame(flat["bbox_image_path"], frames)
        yield from (_mark("box", at, COLOR_ORDER[i % 4], box) for i, box in enumerate(_boxes(boxes)))
    if flat.get("bbox_bbox_1"):
        yield from _pair(*(flat[f"bbox_{key}"] for key in ("image_path_1", "bbox_1", "image_path_2", "bboxes_2")), frames)
    if paths := flat.get("mask_mask_path"):
        at = _frame(flat["mask_image_path"], frames)
        for i, path in enumerate(paths if isinstance(paths, list) else [paths]):
            yield _mark("mask", at, COLOR_ORDER[i % 4], {"mask_path": path, "object_ids": flat.get("mask_object_ids")})


def _pair(first: str, box: Any, second: str, boxes: Any, frames: Sequence[str]) -> Iterable[dict]:
    yield _mark("box", _frame(first, frames), "red", _boxes(box)[0])
    yield from (_mark("box", _frame(second, frames), COLOR_ORDER[(i + 1) % 4], one) for i, one in enumerate(_boxes(boxes)))


def _mark(kind: str, frame: int, color: str, what: Any) -> dict:
    mark = {"kind": kind, "frame": frame, "color": color}
    if kind == "point":
        y, x = map(float, what[0] if isinstance(what[0], list) else what)
        return mark | {"yx": (y, x)}
    if kind == "box":
        return mark | {"xyxy": _xyxy(what)}
    inside = what["mask_path"] if isinstance(what["mask_path"], dict) else what  # a form that only the video client reads
    return mark | {"mask_path": str(inside["mask_path"]), "object_ids": inside.get("object_ids")}


def _boxes(boxes: Any) -> list:
    """A list of boxes, also where a single one is given without its list."""
    single = isinstance(boxes, dict) or isinstance(boxes[0], int | float)
    return [boxes] if single else boxes


def _xyxy(box: Any) -> tuple[float, ...]:
    """{x1, y1, x2, y2}, {x, y, w, h} or four numbers, in order."""
    if isinstance(box, dict) and "w" in box:
        box = [box["x"], box["y"], box["x"] + box["w"], box["y"] + box["h"]]
    x1, y1, x2, y2 = map(float, (box[k] for k in ("x1", "y1", "x2", "y2")) if isinstance(box, dict) else box)
    return min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)


def _frame(path: str, frames: Sequence[str]) -> int:
    """Which frame an image is: by its path, by that of DL3DV's smaller copies, by its name alone where only one has it."""
    for name in (path, path.replace("/images/", "/images_8/"), path.replace("/images_8/", "/images/")):
        if name in frames:
            return frames.index(name)
    same = [i for i, frame in enumerate(frames) if os.path.basename(frame) == os.path.basename(path)]
    if len(same) != 1:
        raise BadRecord("bad mark", f"image {path!r} is not among the record's frames")
    return same[0]


def _parsed(value: Any) -> Any:
    """A JSON string of a list or dict as that; else the value itself."""
    if isinstance(value, str) and value[:1] in ("[", "{"):
        try:
            return json.loads(value)
        except json.JSONDecodeError:
            return value
    return value


def _flat_marks(kinds: Mapping[str, list[dict]], frames: Sequence[str]) -> dict:
    flat = {}
    for kind, to in (("points", "point"), ("bboxes", "bbox")):
        marks = kinds[kind]
        if marks and len({m["image_index"] for m in marks}) == 1 and [m["color"] for m in marks] == list(COLOR_ORDER[: len(marks)]):
            coords = [m["coords"] if kind == "points" else dict(zip(("x1", "y1", "x2", "y2"), m["coords"], strict=True)) for m in marks]
            flat |= {f"{to}_image_path": frames[marks[0]["image_index"]], f"{to}_{kind}": json.dumps(coords)}
    return flat
