"""Scale experts (Eq. 2): the low-rank branches of all experts as two plain matrix products."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from sv_jax.models.layers import Linear
from sv_jax.models.spacevista.config import PROJECTIONS, ExpertsConfig


def expert_lora(
    x: Float[Array, "*lead D"],
    a: Float[Array, "D E R"],
    b: Float[Array, "E R F"],
    gate: Float[Array, "*lead E"],
    scaling: float,
) -> Float[Array, "*lead F"]:
    """`sum_e gate_e · scaling · B_e A_e x`. The gate acts on the [E, R] axes between the products: no [E, F] per token is made."""
    d, e, r = a.shape
    z = jnp.dot(x, a.reshape(d, e * r).astype(x.dtype), preferred_element_type=jnp.float32)
    z = z.reshape(*x.shape[:-1], e, r) * (scaling * gate.astype(jnp.float32))[..., None]
    z = z.reshape(*x.shape[:-1], e * r).astype(x.dtype)
    return jnp.dot(z, b.reshape(e * r, -1).astype(x.dtype), preferred_element_type=jnp.float32).astype(x.dtype)


class Projection(Linear):
    """A linear layer that carries the experts' low-rank branches when there are experts. A starts normal, B at zero: step 0 is the base.
    `name` is one of PROJECTIONS."""

    def __init__(self, name: str, d_in: int, d_out: int, *, bias: bool, experts: ExpertsConfig | None, rngs: nnx.Rngs):
        super().__init__(d_in, d_out, bias=bias, rngs=rngs)
        self.index = PROJECTIONS.index(name)
        self.scaling = experts.scaling if experts else 0.0
        if experts:
            e, r = experts.num_experts, experts.rank
            self.lora_a = nnx.Param(jax.random.normal(rngs.params(), (d_in, e, r)) * d_in**-0.5)
            self.lora_b = nnx.Param(jnp.zeros((e, r, d_out)))
        else:
            self.lora_a = self.lora_b = None

    def __call__(
        self, x: Float[Array, "*lead D"], gate: Float[Array, "*lead E"] | Float[Array, "*lead 7 E"] | None = None
    ) -> Float[Array, "*lead F"]:
        """The gate is one for all projections, or one for each in the order of PROJECTIONS."""
        y = super().__call__(x)
        if gate is None or self.lora_a is None:
            return y
        if gate.ndim > x.ndim:
            gate = gate[..., self.index, :]
        return y + expert_lora(x, self.lora_a[...], self.lora_b[...], gate, self.scaling)
