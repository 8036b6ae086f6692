"""What experts cost, by the compiler's own count of one layer at the widths of the 7B model. No array is made."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from flax import nnx

from sv_jax.models.batch import Batch
from sv_jax.models.qwen2_5_vl.config import QwenConfig, TextConfig, VisionConfig
from sv_jax.models.spacevista.config import ExpertsConfig, SpaceVistaConfig
from sv_jax.models.spacevista.model import SpaceVista, forward

QWEN_7B = QwenConfig(TextConfig(1024, 3584, 18944, 1, 28, 4), VisionConfig(depth=1, fullatt_block_indexes=(0,), out_hidden_size=3584))


def flops(experts: ExpertsConfig | None, tokens: int = 256) -> float:
    model = nnx.eval_shape(lambda: SpaceVista(SpaceVistaConfig(QWEN_7B, experts=experts), nnx.Rngs(0)))
    row = jax.ShapeDtypeStruct((1, tokens), np.int32)
    weights, positions = (jax.ShapeDtypeStruct(shape, dtype) for shape, dtype in (((1, tokens), np.float32), ((3, 1, tokens), np.int32)))
    batch = Batch(row, positions, row, row, row, row, row, weights, None)
    return jax.jit(forward).lower(model, batch).cost_analysis()["flops"]


@pytest.fixture(scope="module")
def plain() -> float:
    return flops(None)


def test_the_count_is_that_of_the_formula(plain):
    d, f, heads = 3584, 18944, 28 + 2 * 4
    products = 2 * 256 * (d * heads * 128 + d * d + 3 * d * f)
    assert products < plain < 1.02 * products


@pytest.mark.parametrize("router", ["label", "layer", "prompt", "uniform"])
def test_four_experts_of_rank_8_cost_at_most_3_percent(plain, router):
    extra = flops(ExpertsConfig(num_experts=4, rank=8, router=router)) / plain - 1
    assert 0.01 < extra < 0.03  # the low-rank products alone are 1.2 %


def test_no_experts_cost_nothing(plain):
    assert flops(ExpertsConfig(num_experts=0)) == plain
