from __future__ import annotations

import json
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sv_jax.data import BuildConfig, SplitConfig, build, codec, open_split, sets
from sv_jax.errors import UserError
from sv_jax.scenes import generate
from sv_jax.scenes.scene import SCALES
from sv_jax.tasks import TASKS

SPLITS = (SplitConfig("train", 2, 0), SplitConfig("eval", 1, 50))


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    out = tmp_path_factory.mktemp("data") / "set"
    return BuildConfig(str(out), SPLITS, tasks=("description", *TASKS), questions=5, geometry=True)


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
    files = sorted(Path(config.out).rglob("*-0000?"))
    assert len(files) == 6
    for file in files:
        assert file.read_bytes() == (tmp_path / "again" / file.relative_to(config.out)).read_bytes()


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
    scene = generate(SCALES[0], 0)
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


def test_failure_leaves_nothing_behind(config, tmp_path):
    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(replace(config, out=str(tmp_path / "half")), progress=stop)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"size": (112, 111)}, "even sides"),
        ({"frames": 0}, "at least 1 frame"),
        ({"splits": ()}, "at least one split"),
        ({"splits": (SplitConfig("a", 0, 0),)}, "at least 1 scene"),
        ({"splits": (SplitConfig("a", 1, 0), SplitConfig("a", 1, 5))}, "different names"),
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
