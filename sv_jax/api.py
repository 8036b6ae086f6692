"""The public Python surface: load a model, ask it, export it.

m = sv_jax.load("folder or hub id")
m.generate([{"role": "user", "content": [{"type": "video", "video": "clip.mp4"}, {"type": "text", "text": "How tall is the mug?"}]}])
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from sv_jax.errors import UserError, unknown
from sv_jax.inputs.chat import Processor, encode
from sv_jax.inputs.layout import bucket, geometric
from sv_jax.inputs.packing import pack_prompts
from sv_jax.models.batch import Batch
from sv_jax.models.spacevista.config import SCALES
from sv_jax.models.spacevista.model import SpaceVista, forward, logits, with_router
from sv_jax.sampling.choose import sampling
from sv_jax.sampling.sampler import SamplerConfig, Samples
from sv_jax.sampling.sampler import stream as decode_steps

LENGTHS = geometric(64, 1 << 17)  # prompt lengths that have a compiled program


@dataclass(frozen=True)
class Generation:
    """One completion. `router` holds the experts' mean gates by scale, per layer ("0", "1", …) and under "mean"; None without experts."""

    text: str
    token_ids: list[int]
    logprobs: list[float]
    router: dict[str, dict[str, float]] | None


@dataclass(frozen=True)
class Model:
    """A loaded model with its processor; `folder` is where it came from."""

    module: SpaceVista
    processor: Processor
    folder: Path
    dtype: str

    def logits(self, messages: Sequence[dict], scale: str = "auto") -> np.ndarray:
        """f32 [T, V]: logits at every position of the prompt, the assistant's turn opened."""
        batch, length = self._prompt(messages, scale)
        return np.asarray(_logits(self._routed(scale), batch, self.dtype))[0, :length]

    def generate(
        self,
        messages: Sequence[dict],
        max_new_tokens: int = 256,
        temperature: float = 0.0,
        scale: str = "auto",
        stream: Callable[[str], None] | None = None,
        *,
        top_p: float = 1.0,
        top_k: int = 0,
        seed: int = 0,
    ) -> Generation:
        """Answer a conversation. `scale`: "auto" lets the model's own router decide, a name of SCALES takes that scale's expert. `stream`
        is called with each piece of text as it is decoded."""
        batch, _ = self._prompt(messages, scale)
        params = sampling(1, stop=self.processor.stop_ids, temperature=temperature, top_p=top_p, top_k=top_k, seed=seed)
        tokens, samples = self._follow(
            decode_steps(self._routed(scale), batch, 1, params, SamplerConfig(max_new_tokens, self.dtype)), stream
        )
        logps = np.asarray(samples.logps)[0, 0, : len(tokens)].tolist()
        return Generation(self.processor.decode(tokens), tokens, logps, self._router(samples.router))

    def export(self, path: str | Path, as_: str = "spacevista", scale: str | None = None) -> None:
        """Write the model as a Hugging Face folder, see `sv_jax.weights.export`."""
        from sv_jax.weights import export

        export(self.folder, path, as_=as_, scale=scale)

    def _prompt(self, messages: Sequence[dict], scale: str) -> tuple[Batch, int]:
        if scale != "auto" and scale not in SCALES:
            raise unknown("scale", scale, ("auto", *SCALES))
        experts = self.module.cfg.experts
        if scale == "auto" and experts is not None and experts.router == "label":
            raise UserError(f"scale 'auto': the model's router is 'label', which decides nothing; expected one of {', '.join(SCALES)}")
        prompt = encode(self.processor, messages, scale=None if scale == "auto" else scale)
        length = bucket(len(prompt.tokens), LENGTHS, "prompt length")
        return pack_prompts([prompt], length, self.processor.cfg.vision)[0], len(prompt.tokens)

    def _routed(self, scale: str) -> SpaceVista:
        return self.module if scale == "auto" else with_router(self.module, "label")

    def _follow(self, steps, show: Callable[[str], None] | None) -> tuple[list[int], Samples]:
        """Run the decoding steps, showing text as soon as it is whole characters, and at the end whatever there is."""
        tokens, shown, samples = [], "", None
        while samples is None:
            try:
                token, live = next(steps)
                tokens += token[live].tolist()
            except StopIteration as end:
                samples = end.value
            text = self.processor.decode(tokens)
            if show is not None and text != shown and (samples is not None or not text.endswith("\ufffd")):
                show(text[len(shown) :])
                shown = text
        return tokens, samples

    def _router(self, gates) -> dict[str, dict[str, float]] | None:
        if gates is None:
            return None
        layers, names = np.asarray(gates)[0, 0], self.module.cfg.experts.names
        rows = {str(i): row for i, row in enumerate(layers)} | {"mean": layers.mean(0)}
        return {key: dict(zip(names, row.tolist(), strict=True)) for key, row in rows.items()}


def load(name: str | Path, mesh: str | None = None, dtype: str = "float32") -> Model:
    """A plain Qwen2.5-VL or a SpaceVista folder, or a hub id. `mesh` ("fsdp=8") spreads the weights over devices."""
    from sv_jax.mesh import leaf_shardings, make_mesh
    from sv_jax.weights import find_folder, load_model

    folder = find_folder(name)
    module = load_model(folder, dtype=dtype, shardings=leaf_shardings(make_mesh(mesh)))
    return Model(module, Processor.from_folder(folder), folder, dtype)


@functools.partial(jax.jit, static_argnums=2)
def _logits(model: SpaceVista, batch: Batch, dtype: str):
    return logits(model, forward(model, batch, jnp.dtype(dtype))[0])
