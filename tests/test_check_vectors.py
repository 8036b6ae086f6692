"""The checker on a folder in the format of tests/data with fewer cases under other names: it passes, and sees what is wrong."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from scripts.check_vectors import CHECKS, main, run

# a number of each file that is expected of us
EXPECTED = {
    "rope_index.npz": "v4.57.6/other_image_video_image/position_ids",
    "smart_resize.json": "transformers",
    "frame_sampling.json": "transformers",
    "patches.npz": "video_patches",
    "tower.npz": "mrope/other_1/k_out",
    "fusion.npz": "other_cross_1/out",
    "lora_merge.npz": "other_1/merged",
    "xlora.npz": "classifier/2/effective",
    "grpo_losses.npz": "grad_logps",
    "grpo_losses.json": "metrics",
    "advantages.json": "sum_then_normalize/none",
}
DROPPED = ("cross_2", "concat", "gated", "merger_mlp/", "mrope/0", "dinov3/0", *(f"window/{i}" for i in (0, 2, 3, 4, 5)))


def renamed(key: str, depth: int) -> str:
    """ "mrope/0/cos" -> "mrope/other_0/cos" at depth 1."""
    parts = key.split("/")
    return "/".join([*parts[:depth], f"other_{parts[depth]}", *parts[depth + 1 :]])


@pytest.fixture(scope="module")
def folder(data, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("vectors")
    for file in ("smart_resize.json", "frame_sampling.json", "advantages.json"):
        (out / file).write_text(json.dumps(json.loads((data / file).read_text())[1::2]))
    for file in ("patches.npz", "xlora.npz"):
        shutil.copy(data / file, out)
    for file, depth in (("rope_index.npz", 1), ("tower.npz", 1), ("fusion.npz", 0), ("lora_merge.npz", 0)):
        arrays = np.load(data / file)
        np.savez(out / file, **{renamed(key, depth): arrays[key] for key in arrays if not key.startswith(DROPPED)})
    cases = json.loads((data / "fusion.json").read_text())
    kept = [case | {"name": f"other_{case['name']}"} for case in cases if not f"{case['name']}/".startswith(DROPPED)]
    (out / "fusion.json").write_text(json.dumps(kept))
    cases = json.loads((data / "xlora.json").read_text())
    (out / "xlora.json").write_text(json.dumps(cases | {"classifier_cases": cases["classifier_cases"][2::2]}))
    every = slice(3, None, 19)
    (out / "grpo_losses.json").write_text(json.dumps(json.loads((data / "grpo_losses.json").read_text())[every]))
    losses = dict(np.load(data / "grpo_losses.npz"))
    np.savez(out / "grpo_losses.npz", **losses | {key: losses[key][every] for key in ("loss", "grad_logps")})
    return out


def test_every_file_is_within_its_tolerance(folder, capsys):
    assert main(folder) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines] == list(CHECKS) and all(line.startswith("ok ") for line in lines)


@pytest.mark.parametrize("file", CHECKS)
def test_one_wrong_number_is_one_miss(folder, tmp_path, file):
    wrong = Path(shutil.copytree(folder, tmp_path / "wrong"))
    key = EXPECTED[file]
    if file.endswith("npz"):
        arrays = dict(np.load(folder / file))
        arrays[key].flat[0] += 1
        np.savez(wrong / file, **arrays)
    else:
        cases = json.loads((folder / file).read_text())
        answer = cases[0][key]
        answer["clip_ratio/low_mean" if isinstance(answer, dict) else 0] += 1
        (wrong / file).write_text(json.dumps(cases))
    _, worst, missed = run(CHECKS[file], wrong)
    assert len(missed) == 1 and worst == pytest.approx(1, rel=1e-3)


def test_what_is_missing_or_cannot_be_run_is_a_miss(folder, tmp_path, capsys):
    wrong = Path(shutil.copytree(folder, tmp_path / "wrong"))
    cases = json.loads((folder / "fusion.json").read_text())
    (wrong / "fusion.json").write_text(json.dumps([case | {"method": "multiply"} for case in cases]))
    (wrong / "lora_merge.npz").unlink()
    (wrong / "advantages.json").write_text("[]")
    assert main(wrong) == 1
    out = capsys.readouterr().out
    assert "other_cross_1: UserError: fusion method 'multiply' is not one of" in out and "lora_merge.npz'" in out and "no cases" in out
    assert [line.split()[1] for line in out.splitlines() if line.startswith("MISS")] == ["fusion.npz", "lora_merge.npz", "advantages.json"]
