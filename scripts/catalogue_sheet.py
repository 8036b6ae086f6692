"""Draw every object class once, one labelled PNG per scale, to see whether it is recognised.

python scripts/catalogue_sheet.py OUT [--scale SCALE] [--colour COLOUR]
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")
sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np  # noqa: E402  after the environment is set
from PIL import Image, ImageDraw  # noqa: E402

from sv_jax.errors import UserError, unknown  # noqa: E402
from sv_jax.files import replacing  # noqa: E402
from sv_jax.scenes import SCALES, camera  # noqa: E402
from sv_jax.scenes.catalogue import CLASSES, Model  # noqa: E402
from sv_jax.scenes.generate import render  # noqa: E402
from sv_jax.scenes.layout import SUN, Lamp, Layout, upward  # noqa: E402
from sv_jax.scenes.scene import Texture  # noqa: E402
from sv_jax.scenes.worlds import COLOURS, ROOM, build  # noqa: E402

SIDE, LABEL, COLUMNS, BATCH = 160, 14, 7, 8
AZIMUTH, RISE = np.radians(-58), np.radians(28)  # of the camera: the front is y = 0
GROUND = (0.62, 0.60, 0.56)


def layout(name: str, model: Model, colour: str) -> Layout:
    """The class of its usual size in the middle of plain ground, just filling the frame."""
    thing = build(name, model, colour, np.array(model.size), np.zeros(2), 0.0)
    corners = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]) * thing.size / 2
    outward = upward(AZIMUTH, RISE)
    pose = np.eye(4)
    pose[:3, :3] = camera.look_along(-outward[None], np.zeros(1))[0]
    x, y, z = (corners @ pose[:3, :3]).T
    distance = (np.maximum(abs(x), abs(y)) / np.tan(camera.FOV / 2) * 1.1 - z).max()
    pose[:3, 3] = thing.center + distance * outward
    sun = Lamp(SUN * distance * upward(np.radians(-100), np.radians(55)), np.full(3, 0.58))
    return Layout((thing,), pose[None], (sun,), np.full(3, 0.5), (np.array(GROUND), Texture()), np.zeros(2), ROOM, 25 * distance)


def sheet(scale: str, colour: str) -> Image.Image:
    models = CLASSES[scale]
    rows = -(-len(models) // COLUMNS)
    page = Image.new("RGB", (COLUMNS * SIDE, rows * (SIDE + LABEL)), "white")
    layouts = [layout(name, model, colour) for name, model in models.items()]
    for start in range(0, len(layouts), BATCH):
        views = render(layouts[start : start + BATCH], (SIDE, SIDE), BATCH)
        for i, (name, model) in enumerate(list(models.items())[start : start + BATCH], start):
            row, column = divmod(i, COLUMNS)
            corner = (column * SIDE, row * (SIDE + LABEL))
            page.paste(Image.fromarray(views.rgb[i - start, 0]), corner)
            label = f"{name} ({model.tier})"
            ImageDraw.Draw(page).text((corner[0] + 2, corner[1] + SIDE + 1), label, fill="black")
    return page


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--scale", help=f"one of {', '.join(SCALES)}; all without it")
    parser.add_argument("--colour", default="red", help=", ".join(COLOURS))
    args = parser.parse_args()
    if args.scale is not None and args.scale not in SCALES:
        raise unknown("--scale", args.scale, SCALES)
    if args.colour not in COLOURS:
        raise unknown("--colour", args.colour, COLOURS)
    if args.out.is_file():
        raise UserError(f"OUT: {args.out} is a file, expected a folder")
    args.out.mkdir(parents=True, exist_ok=True)
    for scale in [args.scale] if args.scale else SCALES:
        path = args.out / f"{scale}.png"
        with replacing(path) as file:
            sheet(scale, args.colour).save(file, "PNG")
        print(path)


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
