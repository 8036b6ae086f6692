"""Answer every question again from depth, ids and cameras alone, and print a table of tasks and scales; exits 1 on a disagreement.

python scripts/recompute.py --data FOLDER [--split SPLIT]    a dataset folder with geometry
python scripts/recompute.py --scenes N [--kind KIND] [--frames F] [--size S] [--questions Q]    N new scenes of every scale
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import zlib
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")
sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np  # noqa: E402  after the environment is set

from sv_jax.data import codec, sets  # noqa: E402
from sv_jax.errors import UserError  # noqa: E402
from sv_jax.scenes import SCALES, generate_many  # noqa: E402
from sv_jax.tasks import QA, ask  # noqa: E402
from tests.tasks.recompute import RECOMPUTE, Pixels, Verdict, check  # noqa: E402

SEED = 100  # of the first new scene


def stored(folder: Path, split: str) -> Iterator[tuple[Pixels, list[QA]]]:
    """The clips of a dataset folder and their questions. UserError for one without geometry."""
    clips, rows = (sets.source(folder, name, split) for name in ("scenes", "qa"))
    if not (folder / "geom").is_dir():
        raise UserError(f"--data: {folder} has no depth and ids, expected one built with geometry")
    geometry = sets.source(folder, "geom", split)
    asked: dict[int, list[QA]] = defaultdict(list)
    for row in rows:
        asked[int(row["scene_row"])].append(QA.from_dict(json.loads(row["json"])))
    for row, qas in asked.items():
        clip, geom = clips[row], geometry[row]
        shape = tuple(geom["shape"].tolist())
        ids = np.frombuffer(zlib.decompress(geom["ids"]), np.uint8).reshape(shape)
        names = [(thing["colour"], thing["name"]) for thing in json.loads(clip["objects"])]
        yield Pixels(codec.unpack_depth(geom["depth"], shape), ids, clip["K"], clip["poses"], names), qas


def new(args: argparse.Namespace) -> Iterator[tuple[Pixels, list[QA]]]:
    """`args.scenes` new scenes of every scale and their questions."""
    specs = [(scale, SEED + i) for i in range(args.scenes) for scale in SCALES]
    for k, scene in enumerate(generate_many(specs, kind=args.kind, frames=args.frames, size=(args.size, args.size))):
        yield Pixels.of(scene), ask(scene, np.random.default_rng(k), args.questions, list(RECOMPUTE))


def table(verdicts: dict[tuple[str, str], list[Verdict]]) -> str:
    lines = [f"{'task':22}{'scale':10}{'questions':>10}{'agree':>7}  worst error"]
    for (task, scale), cell in sorted(verdicts.items()):
        agree, worst = sum(v.agrees for v in cell), max(v.error for v in cell)
        lines.append(f"{task:22}{scale:10}{len(cell):10}{agree:7}  {worst:.3f}")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--data", type=Path, help="a dataset folder")
    source.add_argument("--scenes", type=int, help="new scenes of every scale")
    parser.add_argument("--split", default="train")
    parser.add_argument("--kind", default="full", help="of new worlds")
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--questions", type=int, default=30, help="about a new scene")
    args = parser.parse_args()
    if args.scenes is not None and args.scenes < 1:
        raise UserError(f"--scenes: found {args.scenes}, expected 1 or more")
    verdicts: dict[tuple[str, str], list[Verdict]] = defaultdict(list)
    skipped: set[str] = set()
    for pixels, qas in new(args) if args.scenes else stored(args.data, args.split):
        for qa in qas:
            if qa.task not in RECOMPUTE:
                skipped.add(qa.task)
                continue
            verdict = check(pixels, qa)
            verdicts[qa.task, qa.scale].append(verdict)
            if not verdict.agrees:
                print(f"{qa.id} {qa.task}: {qa.answer}, from pixels {verdict.found}: {qa.question}")
    print(table(verdicts))
    if skipped:
        print(f"not recomputed: {', '.join(sorted(skipped))}")
    cells = [v for cell in verdicts.values() for v in cell]
    print(f"{sum(v.agrees for v in cells)} of {len(cells)} agree")
    return 0 if cells and all(v.agrees for v in cells) else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except UserError as error:
        sys.exit(f"error: {error}")
