"""Question files record by record, each with its line: a JSON list, JSON lines, or parquet."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

from sv_jax.data.published.item import Fault
from sv_jax.errors import UserError

_SPACE = re.compile(r"[\s,]*")
_NEXT = re.compile(r"\n\s*(?=\{)")  # where a record may begin after a broken one


def read_rows(path: str) -> Iterator[tuple[int, dict] | Fault]:
    """(line, record) of each record of a file; a Fault for what is no JSON object. UserError for a file that cannot be read."""
    if not Path(path).is_file():
        raise UserError(f"questions {path!r}: no such file")
    try:
        yield from _parquet(path) if path.endswith(".parquet") else _json(path)
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"questions {path!r}: cannot be read ({error})") from None


def _parquet(path: str) -> Iterator[tuple[int, dict]]:
    import pyarrow
    from pyarrow import parquet

    row = 0
    try:
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=64):
                for record in batch.to_pylist():
                    row += 1
                    yield row, record
    except pyarrow.ArrowException as error:
        raise UserError(f"questions {path!r}: not a whole parquet file ({str(error).splitlines()[0]})") from None


def _json(path: str) -> Iterator[tuple[int, dict] | Fault]:
    """A list and lines alike: objects with white space and commas between. After a broken one it goes on at the next line that opens an
    object, so that one bad line costs one record."""
    text = Path(path).read_text(encoding="utf-8-sig")
    decoder = json.JSONDecoder()
    at = _SPACE.match(text, text.find("[") + 1 if text.lstrip().startswith("[") else 0).end()
    line, counted = 1, 0
    while at < len(text) and text[at] != "]":
        line, counted = line + text.count("\n", counted, at), at
        try:
            record, at = decoder.raw_decode(text, at)
        except (ValueError, RecursionError) as error:  # also a number of thousands of digits, and brackets a thousand deep
            yield Fault(path, line, "invalid JSON", getattr(error, "msg", str(error)))
            following = _NEXT.search(text, at)
            if following is None:
                return
            at = following.end()
            continue
        yield (line, record) if isinstance(record, dict) else Fault(path, line, "invalid JSON", f"found a {type(record).__name__}")
        at = _SPACE.match(text, at).end()
