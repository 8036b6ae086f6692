"""The TFDS sets of a dataset folder, written row by row as ArrayRecord without TensorFlow."""

from __future__ import annotations

import dataclasses
import json
import zlib
from pathlib import Path

import numpy as np

from sv_jax.data import codec
from sv_jax.errors import UserError, unknown
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


class Writers:
    """Appends to the sets of a dataset folder; a context manager that completes the files when it is left without an error."""

    def __init__(self, folder: Path, splits: list[str], *, geometry: bool):
        self._sets = {name: _writer(folder, name, splits) for name in ("scenes", "qa", *(["geom"] if geometry else []))}

    def __enter__(self) -> Writers:
        return self

    def __exit__(self, kind, *_) -> None:
        if kind is None:
            for writer in self._sets.values():
                writer.close_all()

    def scene(self, split: str, scene: Scene, mp4: bytes) -> None:
        """Append a clip, and its depth and ids if geometry is kept."""
        objects = json.dumps([dataclasses.asdict(thing) for thing in scene.objects], default=_json)
        row = {
            "id": scene.id, "scale": scene.scale, "mp4": mp4, "fps": np.float64(scene.fps), "K": scene.K, "poses": scene.poses,
            "objects": objects,
        }  # fmt: skip
        self._sets["scenes"].add_examples({split: [row]})
        if "geom" in self._sets:
            depth, ids = codec.pack_depth(scene.depth), zlib.compress(scene.ids.tobytes())
            shape = np.array(scene.ids.shape, np.int64)
            self._sets["geom"].add_examples({split: [{"id": scene.id, "depth": depth, "ids": ids, "shape": shape}]})

    def clip(self, split: str, id: str, scale: str, mp4: bytes, fps: float) -> None:
        """Append a clip whose cameras and objects are not known."""
        row = {"id": id, "scale": scale, "mp4": mp4, "fps": np.float64(fps), "K": np.full((3, 3), np.nan), "poses": np.empty((0, 4, 4))}
        self._sets["scenes"].add_examples({split: [row | {"objects": "[]"}]})

    def question(self, split: str, qa: QA, scene_row: int) -> bytes:
        """Append a question; returns its JSON as stored."""
        text = json.dumps(qa.to_dict())
        row = {"id": qa.id, "task": qa.task, "scale": qa.scale, "scene_row": scene_row, "json": text}
        self._sets["qa"].add_examples({split: [row]})
        return text.encode()


def _writer(folder: Path, name: str, splits: list[str]):
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core.dataset_info import DatasetIdentity
    from tensorflow_datasets.core.sequential_writer import SequentialWriter

    path = folder / name / VERSION
    path.mkdir(parents=True)
    identity = DatasetIdentity(name=name, version=tfds.core.Version(VERSION), data_dir=str(path), module_name=__name__)
    info = tfds.core.DatasetInfo(builder=identity, features=_features(name), description=__doc__, disable_shuffling=True)
    writer = SequentialWriter(info, SHARD[name], file_format="array_record")
    writer.initialize_splits(splits)
    return writer


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
        made = "made by `sv-jax data build`, `import` or `annotate`"
        raise UserError(f"data {str(path)!r}: no {name}/{VERSION}/dataset_info.json; expected a folder {made}")
    return tfds.builder_from_directory(folder)
