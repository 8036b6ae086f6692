"""Procedural worlds at five scales, ray-cast with exact depth and instance ids, in metres."""

from sv_jax.scenes.generate import generate, generate_many
from sv_jax.scenes.scene import SCALES, Object, Primitive, Scene, Solid

__all__ = ["SCALES", "Object", "Primitive", "Scene", "Solid", "generate", "generate_many"]
