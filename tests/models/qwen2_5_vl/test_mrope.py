"""Positions against transformers' `get_rope_index`: 4.50.3 for rule `max`, 5.23.0 for rule `spatial`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sv_jax.errors import UserError
from sv_jax.models.qwen2_5_vl.config import QwenConfig, VisionConfig
from sv_jax.models.qwen2_5_vl.mrope import position_ids

VECTORS = np.load(Path(__file__).parents[2] / "data" / "rope_index.npz")
CASES = sorted({key.split("/")[1] for key in VECTORS if key.startswith("in/")})
VISION_START, IMAGE, VIDEO = 90, 91, 92


def config(rule: str, tokens_per_second: int = 2) -> QwenConfig:
    vision = VisionConfig(tokens_per_second=tokens_per_second)
    return QwenConfig(image_token_id=IMAGE, video_token_id=VIDEO, vision_start_token_id=VISION_START, vision=vision, mrope=rule)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize(("rule", "version"), [("max", "v4.50.3"), ("spatial", "v5.23.0")])
def test_positions_equal_transformers(name, rule, version):
    case = {key.split("/")[2]: VECTORS[key] for key in VECTORS if key.startswith(f"in/{name}/")}
    images, videos, seconds = (iter(case[k].tolist()) for k in ("image_grid_thw", "video_grid_thw", "second_per_grid_ts"))
    cfg = config(rule, int(case["tokens_per_second"]))
    for row, mask, expected in zip(
        case["input_ids"], case["attention_mask"].astype(bool), VECTORS[f"{version}/{name}/position_ids"].swapaxes(0, 1), strict=True
    ):
        tokens = row[mask]
        media = [tokens[i + 1] for i in np.flatnonzero(tokens == VISION_START)]
        grids = [tuple(next(images if m == IMAGE else videos)) for m in media]
        times = [None if m == IMAGE else next(seconds) for m in media]
        np.testing.assert_array_equal(position_ids(tokens, grids, times, cfg), expected[:, mask])


def test_the_rules_differ_after_a_long_video_and_agree_after_an_image():
    long_video = np.array([VISION_START, *[VIDEO] * 8, 1])
    last = {rule: position_ids(long_video, [(8, 2, 2)], [1.0], config(rule))[:, -1].tolist() for rule in ("max", "spatial")}
    assert last == {"max": [16] * 3, "spatial": [2] * 3}
    image = np.array([VISION_START, *[IMAGE] * 6, 1])
    assert position_ids(image, [(1, 4, 6)], [None], config("max"))[:, -1].tolist() == [4] * 3


@pytest.mark.parametrize("placeholders", [3, 5])
def test_placeholders_that_do_not_match_the_grid_are_refused(placeholders):
    with pytest.raises(UserError, match="placeholders"):
        position_ids(np.array([1, *[IMAGE] * placeholders, 1]), [(1, 4, 4)], [None], config("max"))
