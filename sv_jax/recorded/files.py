"""Reading of what layouts share: numbered files, pictures, 16-bit planes, matrices, JSON, frames of a video."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sv_jax.errors import UserError
from sv_jax.inputs.media import load_image
from sv_jax.recorded.faults import BadInput, Faults

SUFFIXES = (".png", ".jpg", ".jpeg")


def numbered(folder: Path, faults: Faults, suffixes: Sequence[str] = SUFFIXES) -> dict[int, Path]:
    """Files by the last number in their names, in the order of the numbers. BadInput where there are none."""
    found: dict[int, Path] = {}
    for path in sorted(folder.glob("*")):
        digits = re.findall(r"\d+", path.stem)
        if path.suffix.lower() not in suffixes or not digits:
            continue
        number = int(digits[-1])
        if number in found:
            faults.add(BadInput("duplicate id", path, f"frame {number} is {found[number].name} already"))
        else:
            found[number] = path
    if not found:
        raise BadInput("missing file", folder, f"no numbered files {' '.join(suffixes)}")
    return dict(sorted(found.items()))


def picture(path: Path) -> np.ndarray:
    """u8 [H, W, 3]."""
    return _opened(path, "broken picture", lambda: load_image(path))


def pictures(paths: Sequence[Path]) -> Callable[[Sequence[int]], list[np.ndarray | BadInput]]:
    """`Recording.rgb` of picture files."""

    def read(chosen: Sequence[int]) -> list[np.ndarray | BadInput]:
        out: list[np.ndarray | BadInput] = []
        for i in chosen:
            try:
                out.append(picture(paths[i]))
            except BadInput as fault:
                out.append(fault)
        return out

    return read


def plane(path: Path, missing: str) -> np.ndarray:
    """Integers [h, w] of an 8- or 16-bit PNG, as depth and masks are stored; `missing` is the kind of fault where there is no file."""
    from PIL import Image

    if not path.is_file():
        raise BadInput(missing, path, "no such file")
    found = _opened(path, missing.replace("missing", "broken"), lambda: np.asarray(Image.open(path)))
    if found.ndim == 3 and (found[..., :1] == found[..., :3]).all():
        found = found[..., 0]
    if found.ndim != 2:
        raise BadInput(missing.replace("missing", "broken"), path, f"found {list(found.shape)}, expected one channel")
    return found.astype(np.int32)


def size_of(path: Path) -> tuple[int, int]:
    """(H, W) of a picture, from its header."""
    from PIL import Image

    return _opened(path, "broken picture", lambda: Image.open(path).size[::-1])


def millimetres(path: Path) -> np.ndarray:
    """Depth f32 [h, w] in metres of a 16-bit PNG in millimetres, 0 where unknown."""
    return plane(path, "missing depth").astype(np.float32) / 1000


def matrix(path: Path, kind: str) -> np.ndarray:
    """Numbers [n, m] of a text file; `kind` of fault otherwise. NaN and inf are numbers."""
    if not path.is_file():
        raise BadInput("missing file", path, "no such file")
    try:
        return np.loadtxt(path, dtype=np.float64, ndmin=2)
    except (ValueError, OSError) as error:
        raise BadInput(kind, path, f"not a table of numbers ({str(error).splitlines()[0]})") from None


def numbered_poses(path: Path, faults: Faults) -> dict[int, np.ndarray]:
    """Poses f64 [4, 4] of a text file with a frame's number and 16 numbers, row by row, in each line."""
    table, found = matrix(path, "bad pose"), {}
    if table.shape[1] != 17:
        raise BadInput("bad pose", path, f"{table.shape[1]} numbers in a line, expected a frame's number and 16")
    for number, pose in zip(table[:, 0], table[:, 1:].reshape(-1, 4, 4), strict=True):
        if number in found:
            faults.add(BadInput("duplicate id", path, f"frame {number:g} has two poses; the first is taken"))
        else:
            found[int(number)] = pose
    return found


def read_json(path: Path):
    if not path.is_file():
        raise BadInput("missing file", path, "no such file")
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise BadInput("broken file", path, f"not JSON ({error})") from None


def entry(record: dict, name: str, path: Path):
    """`record[name]`; BadInput where it is not there."""
    if not isinstance(record, dict) or name not in record:
        raise BadInput("broken file", path, f"no {name!r}; found {', '.join(map(repr, record)) or 'nothing'}")
    return record[name]


def video_frames(path: Path, numbers: Sequence[int]) -> list[np.ndarray]:
    """u8 [H, W, 3] of the frames with these numbers (from 0, rising). BadInput where the video ends or breaks before the last."""
    import av

    if not path.is_file():
        raise BadInput("missing file", path, "no such file")
    wanted, found = set(numbers), []
    reason = "it ends there"
    try:
        with av.open(str(path)) as container:
            for i, frame in enumerate(container.decode(video=0)):
                if i in wanted:
                    found.append(frame.to_ndarray(format="rgb24"))
                if i >= max(wanted):
                    break
    except (av.FFmpegError, IndexError) as error:
        reason = str(error)
    if len(found) < len(wanted):
        raise BadInput("broken video", path, f"frame {sorted(wanted)[len(found)]} cannot be decoded: {reason}")
    return found


def video_rate(path: Path) -> float:
    """Frames per second that a video says it has."""
    import av

    if not path.is_file():
        raise BadInput("missing file", path, "no such file")
    try:
        with av.open(str(path)) as container:
            return float(container.streams.video[0].average_rate)
    except (av.FFmpegError, IndexError, TypeError) as error:
        raise BadInput("broken video", path, f"cannot be opened: {error}") from None


def _opened(path: Path, kind: str, read: Callable[[], Any]) -> Any:
    from PIL import Image

    try:
        return read()
    except (UserError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise BadInput(kind, path, f"cannot be read ({error})") from None
