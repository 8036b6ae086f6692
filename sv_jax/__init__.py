"""sv-jax: SpaceVista, all-scale visual spatial reasoning, in JAX. `sv_jax.load("folder or hub id")` is the whole public surface."""

from __future__ import annotations

__version__ = "0.1.0"
__all__ = ["load"]


def __getattr__(name: str):
    """`load` is imported when it is asked for: `import sv_jax` alone brings neither jax nor transformers."""
    if name == "load":
        from sv_jax.api import load

        return load
    raise AttributeError(f"module 'sv_jax' has no attribute {name!r}")
