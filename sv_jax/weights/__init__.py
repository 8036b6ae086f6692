"""Hugging Face folders in and out: `load_model`, `save_model`, `init_model`, `export`."""

from sv_jax.weights.exports import export
from sv_jax.weights.folders import find_folder
from sv_jax.weights.load import init_model, load_model, random_dino, save_model

__all__ = ["export", "find_folder", "init_model", "load_model", "random_dino", "save_model"]
