"""Who may import what: the map of WORKSPACE.md, held by a test."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "sv_jax"

# Lowest first. A file imports from its own unit and from lower levels only, wherever in the file the import stands.
LEVELS = [
    ("errors",),
    ("config", "files", "mesh", "compiles", "progress"),
    ("models", "scenes"),
    ("weights", "inputs", "tasks"),
    ("sampling", "rewards", "data"),
    ("train", "annotate"),
    ("recorded",),
    ("evals", "bench", "audit"),
    ("api",),
    ("demo",),
    ("verbs",),
    ("cli",),
]
LEVEL = {unit: level for level, units in enumerate(LEVELS) for unit in units}
LIGHT = ("models", "sampling", "train")  # import with jax, flax, optax, numpy (and jaxtyping) alone
HEAVY = ("av", "array_record", "grain", "matplotlib", "orbax", "peft", "PIL", "sentence_transformers")
HEAVY += ("tensorboard", "tensorflow", "tensorflow_datasets", "tokenizers", "torch", "transformers")


def unit_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """(line, unit of sv_jax) of every import in a file."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            yield node.lineno, "a relative import"
        elif isinstance(node, ast.ImportFrom) and node.module == "sv_jax":
            yield from ((node.lineno, alias.name) for alias in node.names if not alias.name.startswith("__"))
        elif isinstance(node, ast.ImportFrom):
            yield from ((node.lineno, name) for name in units(node.module))
        elif isinstance(node, ast.Import):
            yield from ((node.lineno, name) for alias in node.names for name in units(alias.name))


def units(module: str) -> list[str]:
    return module.split(".")[1:2] if module.startswith("sv_jax.") else []


def test_imports_point_downward_only():
    wrong = []
    for path in sorted(PACKAGE.rglob("*.py")):
        unit = unit_of(path)
        if unit == "__init__" or "remote" in path.parts:  # the package's lazy `load`; torch code that travels with exported models
            continue
        assert unit in LEVEL, f"{path}: give {unit!r} its place in LEVELS"
        for line, used in imports(path):
            if used != unit and LEVEL.get(used, len(LEVELS)) >= LEVEL[unit]:
                wrong.append(f"{path.relative_to(ROOT)}:{line}: {unit} imports {used}")
    assert not wrong, "\n".join(wrong)


def loaded_after(code: str) -> set[str]:
    """Names in sys.modules of a fresh interpreter that ran `code`."""
    code += "\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(json.loads(run.stdout))


def test_model_sampling_and_training_code_imports_with_jax_flax_optax_and_numpy_alone():
    files = [path for unit in LIGHT for path in sorted((PACKAGE / unit).rglob("*.py"))]
    names = [".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in files]
    assert len(names) > 15
    loaded = loaded_after("\n".join(f"import {name}" for name in names))
    assert set(names) <= loaded
    assert loaded.isdisjoint(HEAVY), sorted(loaded.intersection(HEAVY))


def test_the_package_and_the_overview_of_verbs_bring_nothing_heavy():
    loaded = loaded_after("import sv_jax, sv_jax.cli\nsv_jax.cli.overview()")
    unwanted = {*HEAVY, "jax", "flax", "numpy", "rich"}
    assert loaded.isdisjoint(unwanted), sorted(loaded & unwanted)
