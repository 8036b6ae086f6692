from __future__ import annotations

import hashlib
import json
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sv_jax.config import load_config
from sv_jax.data import BuildConfig, SplitConfig, build, codec, open_split, sets
from sv_jax.data.config import units
from sv_jax.errors import UserError
from sv_jax.scenes import generate
from sv_jax.scenes.scene import SCALES
from sv_jax.tasks import TASKS
from sv_jax.tasks.describe import DESCRIPTIONS

SPLITS = (SplitConfig("train", 2, 0, "plain"), SplitConfig("eval", 1, 50, "plain"))


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    out = tmp_path_factory.mktemp("data") / "set"
    return BuildConfig(
        str(out), SPLITS, tasks=("description", *TASKS), questions=5, frames=4, size=(112, 112), geometry=True, shard_scenes=8, workers=1
    )


@pytest.fixture(scope="module")
def manifest(config):
    return build(config)


def test_manifest_counts_what_is_there(config, manifest):
    for split in SPLITS:
        counted = manifest["splits"][split.name]
        samples = open_split(config.out, split.name)
        assert counted["scenes"] == split.scenes * len(SCALES)
        assert counted["questions"] == len(samples) == sum(sum(row.values()) for row in counted["table"].values())
        assert sum(samples.qa(i).task == "description" for i in range(len(samples))) == sum(counted["table"]["description"].values())
    assert manifest == json.loads((Path(config.out) / "manifest.json").read_text())


def test_same_config_gives_the_same_content_and_files(config, manifest, tmp_path):
    again = build(replace(config, out=str(tmp_path / "again")))
    assert again == manifest
    assert contents(tmp_path / "again") == contents(config.out)


def contents(folder: str | Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}


def test_manifest_names_every_file_of_data_with_its_hash(config, manifest):
    files = {path: data for path, data in contents(config.out).items() if "array_record" in path}
    assert len(files) == 3 * (2 + 1)  # 10 scenes of train and 5 of eval, 8 in a shard
    assert manifest["files"].keys() == files.keys()
    for path, data in files.items():
        assert (manifest["files"][path]["bytes"], manifest["files"][path]["sha256"]) == (len(data), hashlib.sha256(data).hexdigest())
    for name in ("scenes", "qa", "geom"):
        records = sum(file["records"] for path, file in manifest["files"].items() if path.startswith(f"{name}/1.0.0/{name}-train."))
        assert records == len(sets.source(config.out, name, "train"))


def test_scene_row_leads_across_shards_to_the_clip_of_the_question(config, manifest):
    scenes, questions = (sets.source(config.out, name, "train") for name in ("scenes", "qa"))
    assert {int(record["scene_row"]) for record in questions} == set(range(10))
    for record in questions:
        assert scenes[int(record["scene_row"])]["id"].decode() == json.loads(record["json"])["scene_id"]


def test_units_cover_the_scenes_of_every_scale_and_seed_in_order(config):
    for size in (1, 4, 7, 100):
        plan = units(replace(config, shard_scenes=size))
        assert [spec for unit in plan for spec in unit.specs(config)] == [
            (scale, seed) for seeds in ((0, 1), (50,)) for scale in SCALES for seed in seeds
        ]


def test_card_says_what_the_manifest_counts_and_how_to_make_it_again(config, manifest, tmp_path):
    text = (Path(config.out) / "README.md").read_text()
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(text.split("```yaml\n")[1].split("```")[0])
    assert load_config(BuildConfig, recipe, ["--out", config.out, "--workers", "1"]) == config
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]
    for split in manifest["splits"].values():
        for task, counts in split["table"].items():
            assert [task, *map(str, counts.values()), str(sum(counts.values()))] in rows


def test_another_seed_asks_other_questions_about_the_same_scenes(config, manifest, tmp_path):
    build(replace(config, out=str(tmp_path / "other"), seed=1, geometry=False))
    first, other = open_split(config.out, "eval"), open_split(tmp_path / "other", "eval")
    assert [first.qa(i).question for i in range(len(first))] != [other.qa(i).question for i in range(len(other))]
    np.testing.assert_array_equal(first[0]["frames"], other[0]["frames"])


def test_splits_share_no_scene(config, manifest):
    seen = [{open_split(config.out, s.name).qa(i).scene_id for i in range(len(open_split(config.out, s.name)))} for s in SPLITS]
    assert not seen[0] & seen[1]
    with pytest.raises(UserError, match="'train' uses seeds up to 9, 'eval' starts at 5: they would share scenes"):
        BuildConfig("x", (SplitConfig("train", 10, 0), SplitConfig("eval", 5, 5)))


def test_stored_scene_is_the_generated_one(config, manifest):
    scene = generate(SCALES[0], 0, kind="plain", frames=4, size=(112, 112))
    row, geometry = sets.source(config.out, "scenes", "train")[0], sets.source(config.out, "geom", "train")[0]
    assert row["id"].decode() == scene.id == geometry["id"].decode()
    np.testing.assert_array_equal(row["K"], scene.K)
    np.testing.assert_array_equal(row["poses"], scene.poses)
    assert [o["name"] for o in json.loads(row["objects"])] == [o.name for o in scene.objects]
    shape = tuple(geometry["shape"].tolist())
    ids = np.frombuffer(zlib.decompress(geometry["ids"]), np.uint8).reshape(shape)
    np.testing.assert_array_equal(ids, scene.ids)
    np.testing.assert_allclose(codec.unpack_depth(geometry["depth"], shape), scene.depth, rtol=1.3e-4)


def test_existing_folder_is_kept_or_refused(config, manifest, tmp_path):
    assert build(config) == manifest
    with pytest.raises(UserError, match="holds a dataset with questions 5, expected 9"):
        build(replace(config, questions=9))
    (tmp_path / "notes").mkdir()
    with pytest.raises(UserError, match="exists and is not a dataset"):
        build(replace(config, out=str(tmp_path / "notes")))


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"size": (112, 111)}, "even sides"),
        ({"frames": 0}, "at least 1 frame"),
        ({"splits": ()}, "at least one split"),
        ({"splits": (SplitConfig("a", 0, 0),)}, "at least 1 scene"),
        ({"splits": (SplitConfig("a", 1, 0), SplitConfig("a", 1, 5))}, "different names"),
        ({"splits": (SplitConfig("a/b", 1, 0),)}, "found the name 'a/b', expected letters"),
        ({"shard_scenes": 0}, "shard_scenes: found 0, expected at least 1"),
        ({"workers": 0}, "workers: found 0, expected at least 1"),
        ({"told": 1.5}, "told 1.5: expected a share"),
        ({"splits": (SplitConfig("a", 1, 0, "ful"),)}, "did you mean .full"),
    ],
)
def test_impossible_configs_are_refused(fields, message):
    with pytest.raises(UserError, match=message):
        BuildConfig("x", **fields)


def test_unknown_scale_and_task_are_named():
    with pytest.raises(UserError, match="scale 'indor'.*did you mean 'indoor'"):
        BuildConfig("x", scales=("indor",))
    with pytest.raises(UserError, match="task 'dept'.*did you mean 'depth'"):
        BuildConfig("x", tasks=("dept",))


def test_small_preset_asks_every_task_at_every_scale():
    cfg = load_config(BuildConfig, None, ["--out", "x"], Path(__file__).parents[2] / "configs" / "data" / "small.yaml")
    assert {*cfg.tasks} == {*TASKS, *DESCRIPTIONS}
    assert {*cfg.scales} == {*SCALES}
