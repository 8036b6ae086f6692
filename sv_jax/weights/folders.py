"""Model folders: finding one, reading its small files, and writing one that is whole or absent."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from sv_jax.errors import UserError
from sv_jax.files import new_folder

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
REMOTE_CODE = "modeling_spacevista.py"
ADAPTER_CONFIG = "adapter_config.json"
PROCESSOR_FILES = (
    "tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt", "special_tokens_map.json", "added_tokens.json",
    "preprocessor_config.json", "video_preprocessor_config.json", "processor_config.json", "chat_template.json", "chat_template.jinja",
    "generation_config.json",
)  # fmt: skip
MODEL_FILES = {*PROCESSOR_FILES, "config.json", INDEX, REMOTE_CODE, ADAPTER_CONFIG}


def find_folder(name: str | Path) -> Path:
    """A local folder as it is; any other `owner/name` is fetched from the Hugging Face hub (safetensors and small files only), unless
    `owner` is a folder here: then it is a path with a slip in it."""
    path = Path(name).expanduser()
    if path.is_dir():
        return path
    if path.parent.is_dir() or not re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", str(name)):
        raise UserError(f"model folder {str(name)!r} does not exist; expected a folder or a hub id such as 'Qwen/Qwen2.5-VL-3B-Instruct'")
    import huggingface_hub

    try:
        return Path(huggingface_hub.snapshot_download(str(name), allow_patterns=["*.safetensors", *sorted(MODEL_FILES)]))
    except Exception as error:  # the hub client has one class per way to be offline
        reason = str(error).strip().split("\n")[0]
        raise UserError(f"model {str(name)!r} is no local folder and could not be fetched from the hub: {reason}") from error


def copy_processor_files(source: str | Path, folder: str | Path) -> None:
    """Tokenizer, processor and generation files go along unchanged."""
    for name in PROCESSOR_FILES:
        if (file := Path(source) / name).is_file():
            shutil.copyfile(file, Path(folder) / name)


def read_json(path: str | Path) -> dict:
    """A JSON object; `UserError` when the file is absent, not JSON or not an object."""
    try:
        data = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file") from error
    except ValueError as error:
        raise UserError(f"{path}: not valid JSON: {error}") from error
    if not isinstance(data, dict):
        raise UserError(f"{path}: expected a JSON object, found {type(data).__name__}")
    return data


@contextlib.contextmanager
def model_folder(path: str | Path) -> Iterator[Path]:
    """A folder that appears under its name only when the block has ended well. It takes the place of an empty folder or of an older
    model; a folder that holds anything else is left alone (`UserError`)."""
    path = Path(path)
    if path.exists() and (odd := _no_model_file(path)):
        raise UserError(f"{path}: holds {odd!r}, which is no file of a model; expected a new or an empty folder")
    with new_folder(path) as folder:
        old = folder.with_name(f"{folder.name}.old")
        yield folder
        if path.exists():
            os.replace(path, old)
    shutil.rmtree(old, ignore_errors=True)


def _no_model_file(path: Path) -> str | None:
    if not path.is_dir():
        return path.name
    files = (f for f in path.rglob("*") if not f.is_dir() and f.suffix != ".safetensors" and f.name not in MODEL_FILES)
    return next((str(f.relative_to(path)) for f in files), None)
