"""A sheet of procedural scenes: a row for each scale, each scene's first and middle frame, and a question about it with its answer.

python scripts/scene_sheet.py docs/scenes.jpg
"""

from __future__ import annotations

import argparse
import textwrap
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from sv_jax.files import replacing
from sv_jax.inputs import marks
from sv_jax.scenes import SCALES, Scene, generate_many
from sv_jax.scenes.draw import KINDS
from sv_jax.tasks import QA, TASKS, ask

SIDE, TEXT, GAP = 224, 60, 6
SCENES = 2  # of a scale


def tile(scene: Scene, qa: QA) -> Image.Image:
    """First and middle frame side by side, the question below."""
    frames = marks.draw(scene.frames, qa.marks)
    page = Image.new("RGB", (2 * SIDE + 2, SIDE + TEXT), "white")
    for i, frame in enumerate((frames[0], frames[len(frames) // 2])):
        page.paste(Image.fromarray(np.asarray(frame)).resize((SIDE, SIDE), Image.LANCZOS), (i * (SIDE + 2), 0))
    options = "" if qa.options is None else "  " + "  ".join(f"{k}. {text}" for k, text in zip("ABCDE", qa.options, strict=False))
    answer = f"{qa.answer} {qa.unit or ''}".strip()
    lines = textwrap.wrap(f"{qa.question}{options}  -> {answer}", 84)[:4]
    font = ImageFont.load_default(11)
    draw = ImageDraw.Draw(page)
    draw.text((2, SIDE + 2), f"{scene.scale} \N{MIDDLE DOT} {qa.task}", fill="#06c", font=font)
    draw.multiline_text((2, SIDE + 16), "\n".join(lines), fill="black", font=font, spacing=1)
    return page


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kind", default="full", help=", ".join(KINDS))
    args = parser.parse_args()
    specs = [(scale, args.seed + i) for scale in SCALES for i in range(SCENES)]
    names, rows = list(TASKS), []
    for n, scene in enumerate(generate_many(specs, kind=args.kind, frames=16, size=(2 * SIDE, 2 * SIDE))):
        turn = n * len(names) // len(specs)  # another task for each scene, as far as it can be asked
        asked = ask(scene, np.random.default_rng(args.seed + n), len(names))
        order = {name: (i - turn) % len(names) for i, name in enumerate(names)}
        rows.append(tile(scene, min(asked, key=lambda qa: order[qa.task])))
    width, height = rows[0].size
    page = Image.new("RGB", (SCENES * (width + GAP), len(SCALES) * (height + GAP)), "white")
    for i, row in enumerate(rows):
        page.paste(row, (i % SCENES * (width + GAP), i // SCENES * (height + GAP)))
    args.out.parent.mkdir(parents=True, exist_ok=True)
    with replacing(args.out) as file:
        page.save(file, "JPEG", quality=85)
    print(args.out)


if __name__ == "__main__":
    main()
