"""Classes of millimetres to centimetres."""

from __future__ import annotations

from sv_jax.scenes.catalogue.parts import (
    BROWN,
    DARK,
    DIMPLES,
    FULL,
    GREY,
    PALE,
    PEEL,
    STEEL,
    THREAD,
    TOP,
    Model,
    Shelf,
    ball,
    box,
    centred,
    tube,
)

TINY = {
    "coin": Model((0.024, 0.024, 0.0026), (centred(0, (0, 0.8), GREY), centred(0.1, (0.5, 1))), shelf=Shelf((0.22, 0.78), (0.22, 0.78), 1)),
    "die": Model(
        (0.016, 0.016, 0.016),
        (
            box((0.03, 0.97), (0.03, 0.97), (0, 0.97)),
            *(ball((x - 0.11, x + 0.11), (y - 0.11, y + 0.11), (0.9, 1), DARK) for x, y in ((0.27, 0.27), (0.5, 0.5), (0.73, 0.73))),
            *(ball(x, (0.36, 0.64), (0.36, 0.64), DARK) for x in ((0, 0.1), (0.9, 1))),
            *(ball((0.36, 0.64), y, (0.36, 0.64), DARK) for y in ((0, 0.1), (0.9, 1))),
        ),
    ),
    "marble": Model((0.020, 0.020, 0.020), (centred(0, FULL, part=ball),)),
    "battery": Model((0.0145, 0.0145, 0.045), (centred(0.02, (0, 0.3), DARK), centred(0, (0.3, 0.95)), centred(0.3, (0.9, 1), GREY))),
    "screw": Model(
        (0.015, 0.015, 0.036),
        (centred(0, (0, 0.16)), centred(0.25, (0.16, 0.4), GREY), centred(0.22, (0.4, 0.9)), centred(0.34, (0.9, 1), GREY)),
    ),
    "eraser": Model(
        (0.022, 0.045, 0.014),
        (box((0.03, 0.97), FULL, (0, 0.97)), box(FULL, (0, 0.42), FULL, GREY)),
        shelf=Shelf((0.03, 0.97), FULL, 1),
    ),
    "pawn": Model(
        (0.018, 0.018, 0.036),
        (centred(0, (0, 0.18)), centred(0.18, (0.05, 0.55), part=ball), centred(0.32, (0.3, 0.7)), centred(0.2, (0.6, 1), part=ball)),
    ),
    "brick": Model(
        (0.030, 0.016, 0.0115),
        (
            box(FULL, FULL, (0, 0.83)),
            *(tube(x, y, (0.8, 1)) for x in ((0.09, 0.41), (0.59, 0.91)) for y in ((0.06, 0.45), (0.55, 0.94))),
        ),
    ),
    "nut": Model(
        (0.015, 0.013, 0.0065),
        (
            tube((0.067, 0.933), FULL, (0, 0.94)),  # a hexagon is no part: its inner circle, and boxes that reach into the six corners
            box((0.26, 0.74), FULL, (0, 0.93)),
            box((0.12, 0.88), (0.26, 0.74), (0, 0.92)),
            box(FULL, (0.46, 0.54), (0, 0.93)),
            centred(0.2, (0.9, 0.97), STEEL),
            centred(0.25, (0.95, 1), DARK),
        ),
        "more",
    ),
    "washer": Model((0.024, 0.024, 0.002), (centred(0, (0, 0.9)), centred(0.27, (0.5, 1), DARK)), "more"),
    "button": Model(
        (0.022, 0.022, 0.0038),
        (
            centred(0, (0, 0.85)),
            centred(0.1, (0.8, 0.9), GREY),
            centred(0.15, (0.8, 0.95)),
            *(tube((x - 0.07, x + 0.07), (y - 0.07, y + 0.07), (0.9, 1), DARK) for x in (0.38, 0.62) for y in (0.38, 0.62)),
        ),
        "more",
    ),
    "key": Model(
        (0.055, 0.024, 0.003),
        (
            tube((0, 0.44), FULL, (0, 0.92)),
            tube((0.08, 0.2), (0.36, 0.64), (0.5, 1), DARK),
            box((0.4, 1), (0.38, 0.62), (0.1, 0.9)),
            *(box((x, x + 0.06), (0.1, 0.45), (0.1, 0.9)) for x in (0.66, 0.78, 0.92)),
        ),
        "more",
    ),
    "paper clip": Model(
        (0.050, 0.013, 0.0016),
        (
            box((0.03, 0.80), (0, 0.13), FULL),
            box((0, 0.035), (0.03, 0.97), FULL),
            box((0.03, 0.97), (0.87, 1), FULL),
            box((0.965, 1), (0.27, 0.97), FULL),
            box((0.2, 0.97), (0.24, 0.37), FULL),
            box((0.17, 0.205), (0.27, 0.73), FULL),
            box((0.2, 0.82), (0.63, 0.76), FULL),
        ),
        "more",
    ),
    "push pin": Model(
        (0.012, 0.012, 0.024),
        (centred(0.45, (0, 0.42), STEEL), centred(0.06, (0.38, 0.47)), centred(0.26, (0.46, 0.86)), centred(0, (0.86, 1))),
        "more",
    ),
    "memory stick": Model(
        (0.058, 0.019, 0.009),
        (
            box((0.04, 0.74), FULL, FULL),
            ball((0, 0.1), (0.05, 0.95), (0.05, 0.95)),
            box((0.74, 1), (0.15, 0.85), (0.22, 0.78), STEEL),
            *(box((0.86, 0.92), (y, y + 0.16), (0.7, 0.8), DARK) for y in (0.26, 0.58)),
        ),
        "more",
    ),
    "memory card": Model(
        (0.024, 0.032, 0.0025),
        (
            box(FULL, (0, 0.86), (0, 0.94)),
            box((0, 0.82), (0.85, 1), (0, 0.94)),
            box((0.12, 0.88), (0.12, 0.5), (0.5, 1), PALE),
            *(box((x, x + 0.08), (0.78, 0.96), (0.5, 1), BROWN) for x in (0.1, 0.24, 0.38, 0.52, 0.66)),
        ),
        "more",
    ),
    "capsule": Model(
        (0.020, 0.0075, 0.0075), (ball((0, 0.68), FULL, FULL), ball((0.24, 0.8), FULL, FULL), ball((0.46, 1), FULL, FULL, PALE)), "more"
    ),
    "bean": Model(
        (0.016, 0.010, 0.008),
        (
            ball((0, 0.68), (0.04, 0.9), FULL, texture=PEEL),
            ball((0.32, 1), (0.04, 0.9), FULL, texture=PEEL),
            ball((0.1, 0.9), (0.2, 1), (0.01, 0.99), texture=PEEL),
            ball((0.42, 0.58), (0, 0.4), (0.38, 0.82), PALE),
        ),
        "more",
    ),
    "matchbox": Model(
        (0.082, 0.038, 0.017),
        (
            box((0, 0.62), (0.01, 0.99), FULL),
            box((0.04, 0.58), FULL, (0.25, 0.75), BROWN),
            box((0.6, 0.98), (0.07, 0.93), (0.06, 0.14), PALE),
            box((0.97, 1), (0.05, 0.95), (0.05, 0.9)),
            *(box((0.6, 0.97), y, (0.05, 0.9)) for y in ((0.05, 0.1), (0.9, 0.95))),
        ),
        "more",
        Shelf((0.62, 0.97), (0.1, 0.9), 0.14, "in"),
    ),
    "thimble": Model(
        (0.018, 0.018, 0.024),
        (centred(0, (0, 0.12)), centred(0.06, (0.1, 0.72), texture=DIMPLES), centred(0.06, (0.42, 1), part=ball, texture=DIMPLES)),
        "more",
    ),
    "spool": Model(
        (0.030, 0.030, 0.042),
        (
            centred(0, (0, 0.09), BROWN),
            centred(0.07, (0.05, 0.95), texture=THREAD),
            centred(0, (0.92, 0.99), BROWN),
            centred(0.36, (0.9, 1), DARK),
        ),
        "more",
    ),
    "domino": Model(
        (0.048, 0.024, 0.008),
        (
            box(FULL, FULL, (0, 0.97)),
            box((0.485, 0.515), (0.08, 0.92), (0.5, 1), DARK),
            *(
                tube((x - 0.045, x + 0.045), (y - 0.09, y + 0.09), (0.5, 1), DARK)
                for x, y in ((0.1, 0.2), (0.25, 0.5), (0.4, 0.8), (0.62, 0.2), (0.62, 0.8), (0.88, 0.2), (0.88, 0.8))
            ),
        ),
        "more",
        TOP,
    ),
    "acorn": Model(
        (0.018, 0.018, 0.026),
        (centred(0.05, (0, 0.9), part=ball), centred(0, (0.62, 0.96), BROWN, ball), centred(0.44, (0.9, 1), BROWN)),
        "unseen",
    ),
    "rook": Model(
        (0.020, 0.020, 0.036),
        (
            centred(0, (0, 0.16)),
            centred(0.12, (0.14, 0.26)),
            centred(0.22, (0.2, 0.75)),
            centred(0.1, (0.72, 0.88)),
            *(
                box(x, y, (0.84, 1))
                for x, y in (
                    ((0.12, 0.36), (0.36, 0.64)),
                    ((0.64, 0.88), (0.36, 0.64)),
                    ((0.36, 0.64), (0.12, 0.36)),
                    ((0.36, 0.64), (0.64, 0.88)),
                )
            ),
            centred(0.3, (0.85, 0.89), DARK),
        ),
        "unseen",
    ),
}
