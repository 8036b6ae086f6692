"""Configs: frozen dataclasses, built strictly from YAML and dotted overrides, written back, hashed.

    cfg = load_config(SFTConfig, "configs/demo/stage1.yaml", ["--optim.learning_rate", "1e-4", "--stages.0.steps=20"])

A field is a bool, int, float, str, Literal, another dataclass, `X | None`, `tuple[X, ...]`, `tuple[X, Y]` or `dict[str, X]`. An unknown
key is an error with its dotted path and the nearest right one. Keys that are left out keep the default, at every depth: a mapping for a
dataclass field changes the field's own default, not the class's.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import types
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml

from sv_jax.errors import UserError, unknown

T = TypeVar("T")
NAMES = {bool: "true or false", int: "an integer", float: "a number", str: "text"}
MISSING = dataclasses.MISSING


class Raw(str):
    """The text of an override: what it means depends on the field's type."""


def load_config(cls: type[T], path: str | Path | None = None, overrides: Sequence[str] = (), preset: str | Path | None = None) -> T:
    """Build `cls` from a YAML file (None: from defaults) and overrides `["--a.b", "value", "--c=value"]`, which win. Keys of the file stand
    in place of those of `preset`, another one. Raises UserError."""
    data = (read_yaml(preset) if preset is not None else {}) | (read_yaml(path) if path is not None else {})
    for key, value in parse_overrides(overrides).items():
        _put(data, key.split("."), value)
    return build(cls, data)


def read_yaml(path: str | Path) -> dict:
    """The mapping in a YAML file."""
    path = Path(path)
    if not path.is_file():
        here = [str(p) for p in path.parent.glob("*.yaml")] if path.parent.is_dir() else []
        raise unknown("config file", str(path), here) if here else UserError(f"config file {str(path)!r} does not exist")
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        raise UserError(f"{path}{where}: not valid YAML: {getattr(error, 'problem', None) or error}") from error
    if data is not None and not isinstance(data, dict):
        raise UserError(f"{path}: expected a mapping of config keys, found {type(data).__name__}")
    return data or {}


def parse_overrides(args: Sequence[str]) -> dict[str, Raw]:
    """`["--a.b", "1", "--c=2"]` -> {"a.b": "1", "c": "2"}."""
    found, rest = {}, list(args)
    while rest:
        key, equals, value = rest.pop(0).partition("=")
        if not key.startswith("--") or key == "--":
            raise UserError(f"unexpected argument {key!r}: config fields are set by '--name value'")
        if not equals and (not rest or rest[0].startswith("--")):
            raise UserError(f"{key}: a value is missing; expected '{key} value'")
        found[key[2:].replace("-", "_")] = Raw(value if equals else rest.pop(0))
    return found


def build(cls: type[T], data: dict, default: T | None = None, path: str = "") -> T:
    """`cls` from plain values; keys that are absent come from `default`, or from the class. `path` is the dotted name of `data`."""
    hints = typing.get_type_hints(cls)
    fields = {f.name: f for f in dataclasses.fields(cls) if f.init}
    for key in data:
        if key not in fields:
            raise unknown("config key", f"{path}{key}", [f"{path}{name}" for name in fields])
    values = {}
    for name, field in fields.items():
        fallback = getattr(default, name) if default is not None else _default(field)
        if name in data:
            values[name] = _convert(hints[name], data[name], None if fallback is MISSING else fallback, f"{path}{name}")
        elif fallback is MISSING:
            raise UserError(f"config key '{path}{name}' is missing; expected {_describe(hints[name])}")
        else:
            values[name] = fallback
    return cls(**values)


def to_plain(cfg: Any) -> Any:
    """Config to YAML and JSON values: dataclasses become mappings, tuples lists."""
    if dataclasses.is_dataclass(cfg):
        return {f.name: to_plain(getattr(cfg, f.name)) for f in dataclasses.fields(cfg)}
    if isinstance(cfg, tuple | list):
        return [to_plain(x) for x in cfg]
    return {key: to_plain(x) for key, x in cfg.items()} if isinstance(cfg, dict) else cfg


def dump_config(cfg: Any) -> str:
    """YAML that `load_config` reads back to an equal config."""
    return yaml.safe_dump(to_plain(cfg), sort_keys=False, allow_unicode=True, width=120)


def config_hash(cfg: Any) -> str:
    """12 hex digits that are equal for equal configs, whatever file or override a value came from."""
    return hashlib.sha256(json.dumps(to_plain(cfg), sort_keys=True).encode()).hexdigest()[:12]


def describe_fields(cls: type, default: Any = None, path: str = "") -> str:
    """A line for each field of a config, nested ones by their dotted names: type and default."""
    hints, lines = typing.get_type_hints(cls), []
    for field in dataclasses.fields(cls):
        value = getattr(default, field.name) if default is not None else _default(field)
        inner = [t for t in (hints[field.name], *typing.get_args(hints[field.name])) if dataclasses.is_dataclass(t)]
        if not dataclasses.is_dataclass(value):
            shown = "required" if value is MISSING else json.dumps(to_plain(value), ensure_ascii=False)
            lines.append(f"  {path}{field.name}: {_describe(hints[field.name])} [{shown}]")
        if inner and typing.get_origin(hints[field.name]) is not tuple:
            nested = value if dataclasses.is_dataclass(value) else None
            lines.append(describe_fields(inner[0], nested, f"{path}{field.name}."))
    return "\n".join(lines)


def _default(field: dataclasses.Field) -> Any:
    return field.default_factory() if field.default_factory is not MISSING else field.default


def _put(data: dict | list, keys: list[str], value: Raw, path: str = "") -> None:
    """Set a nested key in what the YAML file gave."""
    key = keys[0]
    if isinstance(data, list):
        if not key.isdigit() or int(key) >= len(data):
            raise unknown("config key", f"{path}{key}", [f"{path}{i}" for i in range(len(data))])
        key = int(key)
    if len(keys) == 1:
        data[key] = value
        return
    inner = data[key] if isinstance(data, list) else data.get(key)
    if inner is None:
        inner = data[key] = {}
    if not isinstance(inner, dict | list):
        raise UserError(f"config key '{path}{'.'.join(keys)}': '{path}{key}' is {inner!r} and has no fields")
    _put(inner, keys[1:], value, f"{path}{key}.")


def _convert(hint: Any, value: Any, default: Any, path: str) -> Any:
    """A plain value as the type `hint`; `default` is what the field holds otherwise, or None."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        none, inner = type(None) in args, [a for a in args if a is not type(None)]
        if none and (value is None or (isinstance(value, Raw) and value.lower() in ("none", "null"))):
            return None
        return _convert(inner[0], value, default, path)
    if isinstance(value, Raw):
        value = _parse(value, hint, path)
    if dataclasses.is_dataclass(hint) and isinstance(value, dict):
        return build(hint, value, default, f"{path}.")
    if origin is tuple and isinstance(value, list | dict):
        return _items(args, value, default or (), path)
    if origin is dict and isinstance(value, dict):
        return {key: _convert(args[1], item, None, f"{path}.{key}") for key, item in value.items()}
    if origin is typing.Literal and value in args:
        return value
    if origin is typing.Literal and isinstance(value, str):
        raise unknown(f"config key {path!r}:", value, map(str, args))
    if hint is float and type(value) in (int, str):
        with contextlib.suppress(ValueError):
            return float(value)  # YAML reads 1e-5 as text
    if isinstance(hint, type) and type(value) is hint:
        return value
    raise UserError(f"config key {path!r}: expected {_describe(hint)}, found {value!r}")


def _parse(value: Raw, hint: Any, path: str) -> Any:
    """The text of an override as a plain value. Text stays text; `a,b` is a list where one is expected; the rest is YAML."""
    origin = typing.get_origin(hint)
    if hint is str or (origin is typing.Literal and value in typing.get_args(hint)):
        return str(value)
    if origin is tuple and not value.startswith("["):
        return [Raw(item.strip()) for item in value.split(",") if item.strip()]
    try:
        return yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise UserError(f"config key {path!r}: expected {_describe(hint)}, found {str(value)!r}") from error


def _items(args: tuple, value: list | dict, default: tuple, path: str) -> tuple:
    """A tuple from a list, or from {index: item} over the items of `default`."""
    endless = args[-1] is Ellipsis
    if isinstance(value, list):
        if not endless and len(value) != len(args):
            raise UserError(f"config key {path!r}: expected {len(args)} values, found {len(value)}: {value!r}")
        value, default = {str(i): item for i, item in enumerate(value)}, ()
    indices = [str(i) for i in range(max(len(default), len(value)))]
    for key in value:
        if key not in indices:
            raise unknown("config key", f"{path}.{key}", [f"{path}.{i}" for i in indices])
    items = []
    for i, key in enumerate(indices):
        old = default[i] if i < len(default) else None
        items.append(_convert(args[0] if endless else args[i], value[key], old, f"{path}.{key}") if key in value else old)
    return tuple(items)


def _describe(hint: Any) -> str:
    """A type in a user's words."""
    args = typing.get_args(hint)
    if args and typing.get_origin(hint) in (typing.Union, types.UnionType):
        return " or ".join("null" if a is type(None) else _describe(a) for a in args)
    if typing.get_origin(hint) is tuple:
        return f"a list of {_describe(args[0])}" if args[-1] is Ellipsis else f"a list of {len(args)} values"
    if typing.get_origin(hint) is typing.Literal:
        return f"one of {', '.join(map(str, args))}"
    return NAMES.get(hint, f"a mapping ({getattr(hint, '__name__', hint)})")
