"""`sv-jax data export`: a dataset folder's questions as records of SpaceVista-1M."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from sv_jax.data.published import spacevista
from sv_jax.data.read import open_split
from sv_jax.errors import UserError, unknown
from sv_jax.files import new_folder, replacing
from sv_jax.inputs.marks import load_mask
from sv_jax.progress import progress
from sv_jax.tasks import QA

FORMATS = ("spacevista",)


def export_questions(data: str, format: str, out: str, *, split: str, flatten: bool = False) -> int:
    """Write one JSON list, a record a line, with a bar that counts them; returns how many.

    Records that were imported from SpaceVista-1M come back as they were, with the frames where they were. The others get frames (PNG) and
    masks (npy) in a folder beside the file, named after it; their paths are relative to the file's folder. `flatten`: only scalars in
    extra_info. UserError where the file or that folder exists already.
    """
    if format not in FORMATS:
        raise unknown("--as", format, FORMATS)
    path = Path(out)
    media = path.with_name(f"{path.stem}_frames")
    for taken in (path, media):
        if taken.exists():
            raise UserError(f"--out {out!r}: {str(taken)!r} exists; expected a new file and a new folder of frames beside it")
    samples = open_split(data, split)
    path.parent.mkdir(parents=True, exist_ok=True)
    written: set[str] = set()
    with replacing(path) as file, new_folder(media) as folder, progress("questions", len(samples)) as bar:
        file.write(b"[\n")
        for i in range(len(samples)):
            qa = samples.qa(i)
            record = spacevista.render(qa) if _published(qa) else _own(qa, samples, i, folder, media.name, written)
            record = spacevista.flatten(record) if flatten else record
            file.write((",\n" if i else "").encode() + json.dumps(record).encode())
            bar.advance(i + 1)
        file.write(b"\n]\n")
    if not written:
        media.rmdir()
    return len(samples)


def _published(qa: QA) -> bool:
    return "spacevista" in (qa.extra or {})


def _own(qa: QA, samples, i: int, folder: Path, name: str, written: set[str]) -> dict:
    """The record of a question that is not from SpaceVista-1M; its frames are written when their scene comes for the first time."""
    from PIL import Image

    frames = samples[i]["frames"]
    scene = "".join(c if c.isalnum() or c in "-_." else "_" for c in qa.scene_id)
    names = [f"{scene}/{n:05d}.png" for n in range(len(frames))]
    if scene not in written:
        (folder / scene).mkdir()
        for file, frame in zip(names, frames, strict=True):
            Image.fromarray(frame).save(folder / file)
        written.add(scene)
    masks = []
    for n, mark in enumerate(qa.marks):
        if mark["kind"] == "mask":
            masks.append(f"{scene}/{qa.id.replace('/', '_')}-{n}.npy")
            np.save(folder / masks[-1], load_mask(mark["mask"]))
    return spacevista.record_of(qa, [f"{name}/{file}" for file in names], [f"{name}/{file}" for file in masks])
