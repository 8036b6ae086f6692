"""A dataset in words: the table of its questions, and the README.md that lies in its folder."""

from __future__ import annotations

from typing import Any

CARD = """# Spatial questions about procedural scenes

Short clips of scenes at {scales} scale ({frames} frames of {height}x{width} pixels), made by sv-jax, and questions about size, distance,
position, number and the camera, with answers computed from the exact geometry. Lengths are in metres.

| split | scenes | questions | seeds | sha256 of the content |
|---|---|---|---|---|
{splits}

## Questions by task and scale

{tables}

## How it was made

Objects, rooms and cameras are drawn at random from a seed, checked for visibility and ray-cast; the clips are H.264. No recording, no
output of a model and no work of others went in. The same config and versions give the same bytes: `sv-jax data build --config FILE --out
FOLDER`, with this FILE:

```yaml
{config}```

Versions: {versions}.

## How to read it

```python
from sv_jax.data import open_split

samples = open_split("FOLDER", "{first}")
sample = samples[0]  # {{"qa": question, answer, reasoning, marks, …; "frames": u8 [F, H, W, 3]; "fps": float}}
```

Each of {sets} is a TFDS dataset of ArrayRecord files:
`tfds.builder_from_directory("FOLDER/scenes/1.0.0").as_data_source("{first}")`. `manifest.json` holds the length and hash of each file.

## Licence

Apache-2.0, as the code that made it.
"""


def card(manifest: dict[str, Any]) -> str:
    """The Markdown of the card."""
    import yaml

    cfg, splits = manifest["config"], manifest["splits"]
    seeds = {split["name"]: f"{split['first_seed']} to {split['first_seed'] + split['scenes'] - 1}" for split in cfg["splits"]}
    rows = [f"| {name} | {s['scenes']} | {s['questions']} | {seeds[name]} | {s['sha256'][:16]}… |" for name, s in splits.items()]
    tables = []
    for name, split in splits.items():
        head, *body = _cells(split["table"])
        lines = [" | ".join(head), "|".join("---" for _ in head), *(" | ".join(row) for row in body)]
        tables.append(f"### {name}\n\n" + "\n".join(f"| {line} |" for line in lines))
    return CARD.format(
        scales=", ".join(cfg["scales"]),
        frames=cfg["frames"],
        height=cfg["size"][0],
        width=cfg["size"][1],
        splits="\n".join(rows),
        tables="\n\n".join(tables),
        config=yaml.safe_dump(cfg, sort_keys=False, allow_unicode=True),
        versions=", ".join(f"{name} {number}" for name, number in manifest["versions"].items()),
        first=next(iter(splits)),
        sets=", ".join(f"`{name}/`" for name in (["scenes", "qa", "geom"] if cfg["geometry"] else ["scenes", "qa"])),
    )


def tables(manifest: dict[str, Any]) -> list[str]:
    """The lines of tasks x scales, a table for each split, for a terminal."""
    lines = []
    for name, split in manifest["splits"].items():
        lines += [f"{name}: {split['scenes']} scenes, {split['questions']} questions"]
        lines += [f"  {row[0]:24}" + "".join(f"{cell:>10}" for cell in row[1:]) for row in _cells(split["table"])]
    return lines


def _cells(table: dict[str, dict[str, int]]) -> list[list[str]]:
    """A head, a row for each task, and the sums."""
    scales = list(next(iter(table.values()), {}))
    rows = [[task, *map(str, counts.values()), str(sum(counts.values()))] for task, counts in table.items()]
    sums = [sum(counts[scale] for counts in table.values()) for scale in scales]
    return [["task", *scales, "all"], *rows, ["all", *map(str, sums), str(sum(sums))]]
