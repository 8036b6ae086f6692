"""Object classes of every scale: real sizes and recognisable shapes. A new class is one new entry in its scale's file."""

from sv_jax.scenes.catalogue.drone import DRONE
from sv_jax.scenes.catalogue.indoor import INDOOR
from sv_jax.scenes.catalogue.outdoor import OUTDOOR
from sv_jax.scenes.catalogue.parts import BODY, Model, Part, Rgb, Shelf
from sv_jax.scenes.catalogue.tabletop import TABLETOP
from sv_jax.scenes.catalogue.tiny import TINY

__all__ = ["BODY", "CLASSES", "Model", "Part", "Rgb", "Shelf"]

CLASSES: dict[str, dict[str, Model]] = {"tiny": TINY, "tabletop": TABLETOP, "indoor": INDOOR, "outdoor": OUTDOOR, "drone": DRONE}
