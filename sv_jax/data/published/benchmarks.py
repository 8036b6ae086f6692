"""Question files of VSI-, SPAR-, STI- and MMSI-Bench, as their parquet files have them, or as JSON with the same fields.

Fields and media: PeiwenSun2000/SpaceVista: eval/evaluate.py; EvolvingLMMs-Lab/lmms-eval: lmms_eval/tasks/{vsibench,sparbench,mmsi_bench};
MINT-SJTU/STI-Bench: openai_test.py. Where a picture's scale is not said it is indoor, as Table B9 of the SpaceVista paper has it.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection

from sv_jax.data.names import MMSI, SPAR, STI, VSI
from sv_jax.data.published.item import BadRecord, Item, field, named, optional, scale_or, si, unit_in
from sv_jax.data.published.licences import source_of
from sv_jax.data.published.spacevista import type_of
from sv_jax.tasks.qa import LETTERS, QA

STI_SCALE = {"scannet": "indoor", "waymo": "outdoor", "omni6dpose": "tabletop"}  # by the start of its `Source`
# The boxes in the text of these tasks mean nothing without it (lmms-eval: sparbench/utils.py)
SPAR_BOXES = (
    "The values represent the bounding box coordinates normalized to a 0-1000 scale, with the top-left corner as the origin of the image."
)
_PICTURES = ("image", "images")  # not kept among the fields: they are the clip


def vsi(record: dict, scale: str | None) -> Item:
    """`dataset`/`scene_name`.mp4; `options` are "A. …", or null where the answer is a number."""
    task = _task(record, "question_type", VSI)
    media = f"{field(record, 'dataset')}/{field(record, 'scene_name')}.mp4"
    options = optional(record, "options", list)
    texts = None if options is None else [re.sub(rf"^{letter}\.\s*", "", str(o)) for letter, o in zip(LETTERS, options, strict=False)]
    qa = _qa("vsi", record, "id", task, scale or "indoor", field(record, "question"), "ground_truth", texts, VSI[task])
    if options is None and qa.answer_type != "number":
        raise BadRecord("missing field", f"no 'options' for the answer {qa.answer!r}, which is no number")
    return Item(qa, (media,), source_of(record["dataset"]))


def spar(record: dict, scale: str | None) -> Item:
    """Unordered pictures; options stand in the question; `format_type` is select (a letter) or fill (a number, or a change of view)."""
    task, form = _task(record, "task", SPAR), field(record, "format_type")
    if form not in ("select", "fill"):
        raise named("format_type", form, ("select", "fill"))
    question = field(record, "question")
    shown = f"{question}\n{SPAR_BOXES}" if task in ("position_matching", "camera_motion_infer") else question
    unit = unit_in(question) if form == "fill" and task != "view_change_infer" else None
    qa = _qa("spar", record, "id", task, scale or "indoor", shown, "answer", None, unit)
    expected = "choice" if form == "select" else "text" if task == "view_change_infer" else "number"
    if qa.answer_type != expected:
        raise BadRecord("missing field", f"the answer {qa.answer!r} is no {expected}, which {form} and {task} ask for")
    return Item(qa, _pictures(record, "image"), source_of(optional(record, "source", str) or "spar"), views=True)


def mmsi(record: dict, scale: str | None) -> Item:
    """Unordered pictures; the question ends with its options; a letter."""
    # both spellings are about: PeiwenSun2000/SpaceVista and lmms-eval bring hyphens to the en dash
    task = _task({**record, "question_type": str(field(record, "question_type")).replace("-", "–")}, "question_type", MMSI)
    qa = _qa("mmsi", record, "id", task, scale or "indoor", field(record, "question"), "answer", None, None)
    if qa.answer_type != "choice":
        raise BadRecord("missing field", f"the answer {qa.answer!r} is no letter")
    return Item(qa, _pictures(record, "images"), "MMSI-Bench", views=True)


def sti(record: dict, scale: str | None) -> Item:
    """The file `Video`, or without that field the frames in the folder of the `ID`, six digits; `Candidates` is {"A": …}; the question is
    about a span of time, which it is told as upstream tells it."""
    task, source = _task(record, "Task", STI), optional(record, "Source", str) or ""
    number, question = field(record, "ID", (str, int)), field(record, "Question")
    candidates = {k: v for k, v in field(record, "Candidates", dict).items() if v is not None}
    if sorted(candidates) != list(LETTERS[: len(candidates)]):
        raise BadRecord("missing field", f"'Candidates' are {', '.join(candidates)}, expected letters from A on")
    span = [record.get("time_start"), record.get("time_end")]
    if None not in span:
        question = f"From {span[0]} seconds to {span[1]} seconds. {question}"
    video = optional(record, "Video", str)
    where = next((known for name, known in STI_SCALE.items() if source.lower().startswith(name)), None)
    options = [str(candidates[letter]) for letter in sorted(candidates)]
    qa = _qa("sti", record, "ID", task, where or scale_or(scale, "Source that we know"), question, "Answer", options, None)
    # upstream's own key: an ID comes once for each span
    id = "|".join(map(str, (video, number, *span))) if video else str(number)
    return Item(dataclasses.replace(qa, id=id), (video or f"{str(number).zfill(6)}/",), source_of(source or "sti"))


def _task(record: dict, name: str, known: Collection[str]) -> str:
    task = field(record, name)
    if task not in known:
        raise named("task", task, known)
    return task


def _qa(format: str, record: dict, id: str, task: str, scale: str, question: str, answer: str, options: list[str] | None, unit) -> QA:
    said = str(field(record, answer, (str, int, float))).strip()
    kind = type_of(said)
    if options is not None and (kind != "choice" or said not in LETTERS[: len(options)]):
        raise BadRecord("missing field", f"{answer!r} is {said!r}, expected one of the letters of {len(options)} options")
    unit = unit if kind == "number" else None
    return QA(
        str(field(record, id, (str, int))), "", task, scale, question, said, kind, options=None if options is None else tuple(options),
        unit=unit, answer_si=si(said, kind, unit), extra={format: {key: v for key, v in record.items() if key not in _PICTURES}},
    )  # fmt: skip


def _pictures(record: dict, name: str) -> tuple[str | bytes, ...]:
    """Paths, encoded bytes, or {"bytes", "path"}, as `datasets` stores images."""
    pictures = [p.get("bytes") or p.get("path") if isinstance(p, dict) else p for p in field(record, name, list)]
    if not all(isinstance(p, str | bytes) and p for p in pictures):
        raise BadRecord("missing field", f"{name!r} holds something else than paths and encoded pictures")
    return tuple(pictures)
