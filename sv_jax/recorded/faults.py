"""What is wrong with recordings, by file and kind."""

from __future__ import annotations

from collections import Counter

from sv_jax.errors import UserError


class BadInput(UserError):
    """A frame or a scene that cannot be taken; `kind` is what faults are counted by."""

    def __init__(self, kind: str, file: object, message: str):
        super().__init__(f"{file}: {kind}: {message}")
        self.kind = kind


class Faults:
    """Faults, collected; with `strict` the first is raised."""

    def __init__(self, strict: bool = False):
        self.lines: list[str] = []
        self.counts: Counter[str] = Counter()
        self._strict = strict

    def add(self, fault: BadInput) -> None:
        if self._strict:
            raise fault
        self.lines.append(str(fault))
        self.counts[fault.kind] += 1
