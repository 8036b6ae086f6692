"""Datasets on disk: building them from procedural scenes, and reading them for training and evaluation."""

from sv_jax.data.build import BuildConfig, SplitConfig, build
from sv_jax.data.read import open_split

__all__ = ["BuildConfig", "SplitConfig", "build", "open_split"]
