"""The TFDS sets of a dataset folder, written row by row as ArrayRecord without TensorFlow."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from sv_jax.data import codec
from sv_jax.errors import UserError, unknown
from sv_jax.files import new_file
from sv_jax.scenes.scene import Scene
from sv_jax.tasks import QA

VERSION = "1.0.0"
SHARD = {"scenes": 4096, "qa": 65536, "geom": 1024}  # records per file


def _features(name: str):
    """The TFDS features of a set. Bytes go into Text, which keeps any bytes; float64 needs an encoding to stay exact."""
    import tensorflow_datasets as tfds

    text = tfds.features.Text()

    def exact(*shape):
        return tfds.features.Tensor(shape=shape, dtype=np.float64, encoding="zlib")

    columns = {
        "scenes": {
            "id": text, "scale": text, "mp4": text, "fps": exact(), "K": exact(3, 3), "poses": exact(None, 4, 4), "objects": text,
        },
        "qa": {"id": text, "task": text, "scale": text, "scene_row": np.int64, "json": text},
        "geom": {"id": text, "depth": text, "ids": text, "shape": tfds.features.Tensor(shape=(3,), dtype=np.int64)},
    }  # fmt: skip
    return tfds.features.FeaturesDict(columns[name])


def scene_rows(scene: Scene, mp4: bytes) -> dict[str, dict]:
    """The records of a scene in the sets `scenes` and `geom`."""
    objects = json.dumps([dataclasses.asdict(thing) for thing in scene.objects], default=_json)
    clip = {"id": scene.id, "scale": scene.scale, "mp4": mp4, "fps": np.float64(scene.fps), "K": scene.K, "poses": scene.poses}
    depth, ids = codec.pack_depth(scene.depth), zlib.compress(scene.ids.tobytes())
    shape = np.array(scene.ids.shape, np.int64)
    return {"scenes": clip | {"objects": objects}, "geom": {"id": scene.id, "depth": depth, "ids": ids, "shape": shape}}


def question_row(qa: QA, scene_row: int) -> dict:
    """The record of a question in the set `qa`."""
    return {"id": qa.id, "task": qa.task, "scale": qa.scale, "scene_row": scene_row, "json": json.dumps(qa.to_dict())}


class Writers:
    """Appends to the sets of a dataset folder; a context manager that completes the files when it is left without an error."""

    def __init__(self, folder: Path, splits: list[str], *, geometry: bool):
        self._clips, self._table = Counter(), Counter()  # split -> clips; (split, task, scale) -> questions
        self._digests = {split: hashlib.sha256() for split in splits}
        self._sets = {name: _writer(folder, name, splits) for name in ("scenes", "qa", *(["geom"] if geometry else []))}

    def __enter__(self) -> Writers:
        return self

    def __exit__(self, kind, *_) -> None:
        if kind is None:
            for writer in self._sets.values():
                writer.close_all()

    def scene(self, split: str, scene: Scene, mp4: bytes) -> None:
        """Append a clip, and its depth and ids if geometry is kept."""
        self._count(split, mp4)
        for name, row in scene_rows(scene, mp4).items():
            if name in self._sets:
                self._sets[name].add_examples({split: [row]})

    def clip(self, split: str, id: str, scale: str, mp4: bytes, fps: float) -> None:
        """Append a clip whose cameras and objects are not known."""
        self._count(split, mp4)
        row = {"id": id, "scale": scale, "mp4": mp4, "fps": np.float64(fps), "K": np.full((3, 3), np.nan), "poses": np.empty((0, 4, 4))}
        self._sets["scenes"].add_examples({split: [row | {"objects": "[]"}]})

    def question(self, split: str, qa: QA, scene_row: int) -> None:
        """Append a question."""
        row = question_row(qa, scene_row)
        self._sets["qa"].add_examples({split: [row]})
        self._digests[split].update(row["json"].encode())
        self._table[split, qa.task, qa.scale] += 1

    def _count(self, split: str, mp4: bytes) -> None:
        self._clips[split] += 1
        self._digests[split].update(mp4)

    def report(self, split: str) -> dict:
        """What a manifest says of a split: counts of scenes and questions, `table[task][scale]`, and a hash of the content."""
        table: dict[str, dict[str, int]] = {}
        for (_, task, scale), n in sorted((key, n) for key, n in self._table.items() if key[0] == split):
            table.setdefault(task, {})[scale] = n
        questions = sum(sum(row.values()) for row in table.values())
        return {"scenes": self._clips[split], "questions": questions, "table": table, "sha256": self._digests[split].hexdigest()}


def _writer(folder: Path, name: str, splits: list[str]):
    from tensorflow_datasets.core.sequential_writer import SequentialWriter

    (folder / name / VERSION).mkdir(parents=True)
    writer = SequentialWriter(_info(folder, name), SHARD[name], file_format="array_record")
    writer.initialize_splits(splits)
    return writer


def _info(folder: Path, name: str):
    """The TFDS description of a set, without its splits."""
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core.dataset_info import DatasetIdentity

    path = str(folder / name / VERSION)
    identity = DatasetIdentity(name=name, version=tfds.core.Version(VERSION), data_dir=path, module_name=__name__)
    return tfds.core.DatasetInfo(builder=identity, features=_features(name), description=__doc__, disable_shuffling=True)


class Shard:
    """One file of a set, `length` records so far."""

    def __init__(self, path: Path, name: str):
        from array_record.python.array_record_module import ArrayRecordWriter
        from tensorflow_datasets.core.example_serializer import ExampleSerializer

        self._features = _features(name)
        self._serializer = ExampleSerializer(self._features.get_serialized_info())
        self._writer = ArrayRecordWriter(str(path), "group_size:1")  # what random access wants
        self.length = 0

    def add(self, row: dict) -> None:
        example = self._serializer.get_tf_example(self._features.encode_example(row))
        self._writer.write(example.SerializeToString(deterministic=True))  # otherwise the order of the columns changes from run to run
        self.length += 1

    def close(self) -> None:
        self._writer.close()


@contextlib.contextmanager
def new_shard(path: Path, name: str) -> Iterator[Shard]:
    """A shard of the set `name` that is whole or absent."""
    with new_file(path) as temporary, contextlib.closing(Shard(temporary, name)) as shard:
        yield shard


def describe(folder: Path, name: str, splits: dict[str, tuple[list[int], int]]) -> None:
    """Write the TFDS description of a set whose shards are there: records of each shard, and bytes of all, by split."""
    from tensorflow_datasets.core.naming import ShardedFileTemplate
    from tensorflow_datasets.core.splits import SplitDict, SplitInfo

    path, info = folder / name / VERSION, _info(folder, name)
    info.set_file_format("array_record")
    infos = []
    for split, (lengths, size) in splits.items():
        template = ShardedFileTemplate(data_dir=path, dataset_name=name, split=split, filetype_suffix="array_record")
        infos.append(SplitInfo(name=split, shard_lengths=lengths, num_bytes=size, filename_template=template))
    info.set_splits(SplitDict(infos))
    info.write_to_directory(str(path))


def _json(value: object) -> object:
    """numpy to JSON."""
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else vars(value)


def source(path: str | Path, name: str, split: str):
    """The TFDS data source (random access) of one set of a dataset folder."""
    builder = _builder(path, name)
    if split not in builder.info.splits:
        raise unknown(f"data {str(path)!r}: split", split, builder.info.splits)
    return builder.as_data_source(split)


def splits(path: str | Path) -> list[str]:
    """Names of the splits of a dataset folder."""
    return list(_builder(path, "qa").info.splits)


def _builder(path: str | Path, name: str):
    import tensorflow_datasets as tfds

    folder = Path(path) / name / VERSION
    if not (folder / "dataset_info.json").is_file():
        made = "made by `sv-jax data build`, `import`, `load` or `annotate`"
        raise UserError(f"data {str(path)!r}: no {name}/{VERSION}/dataset_info.json; expected a folder {made}")
    return tfds.builder_from_directory(folder)
