"""Errors a user causes. The command line prints them as one line and exits with code 2."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """Bad input: the message names the field, file or tensor, what was found and what was expected, in one line."""


def unknown(what: str, found: object, known: Iterable[str]) -> UserError:
    """`unknown("scale", "indor", SCALES)` -> "scale 'indor' is not one of tiny, …; did you mean 'indoor'?"."""
    known = sorted(known)
    near = difflib.get_close_matches(str(found), known, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return UserError(f"{what} {found!r} is not one of {', '.join(known)}{hint}")
