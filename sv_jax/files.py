"""Files that are whole or absent: written to a temporary name, fsynced, renamed."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO


@contextlib.contextmanager
def new_file(path: str | Path) -> Iterator[Path]:
    """A temporary name to write to; the file takes its own only when the block has ended well, what stood there before stays until then."""
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        yield temporary
        sync(temporary)
        os.replace(temporary, path)
        sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def replacing(path: str | Path) -> Iterator[BinaryIO]:
    """`new_file`, open for writing bytes."""
    with new_file(path) as temporary, temporary.open("wb") as f:
        yield f


@contextlib.contextmanager
def new_folder(path: str | Path) -> Iterator[Path]:
    """A folder to fill that takes its name only when the block has ended well; otherwise nothing of it stays."""
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    temporary.mkdir(parents=True)
    try:
        yield temporary
        for file in temporary.rglob("*"):
            if file.is_file():
                sync(file)
        temporary.rename(path)
        sync(path.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_text(path: str | Path, text: str) -> None:
    """Write UTF-8 text; folders are made as needed."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as f:
        f.write(text.encode())


def write_json(path: str | Path, data: object) -> None:
    """Write JSON with an indent of 2."""
    write_text(path, json.dumps(data, indent=2) + "\n")


def sync(path: Path) -> None:
    """Make a file, or the names in a folder, survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
