from __future__ import annotations

import json
import os

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
from safetensors import safe_open

from sv_jax.errors import UserError
from sv_jax.weights.folders import model_folder
from sv_jax.weights.safetensors_io import (
    DTYPES,
    Tensor,
    blocks,
    is_finite,
    open_file,
    open_folder,
    read_part,
    scan_folder,
    write_file,
    write_folder,
)


def lazy(arrays: dict[str, np.ndarray]) -> dict[str, Tensor]:
    return {name: Tensor(a.shape, a.dtype, lambda a=a: a) for name, a in arrays.items()}


def arrays(seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    out = {name: (100 * rng.standard_normal((3, 5))).astype(dtype) for name, dtype in DTYPES.items()}
    return out | {"scalar": np.float32(7).reshape(()), "empty": np.zeros((0, 4), np.float32), "turned": np.arange(6.0).reshape(2, 3).T}


def test_what_is_written_is_what_the_safetensors_library_reads(tmp_path):
    write_file(tmp_path / "a.safetensors", lazy(arrays()))
    theirs = safetensors.numpy.load_file(tmp_path / "a.safetensors")
    assert set(theirs) == set(arrays())
    for name, array in arrays().items():
        assert theirs[name].dtype == array.dtype
        np.testing.assert_array_equal(theirs[name], array)
    with safe_open(tmp_path / "a.safetensors", "np") as f:
        assert f.metadata() == {"format": "pt"}


def test_what_the_safetensors_library_writes_is_read_back(tmp_path):
    contiguous = {name: np.ascontiguousarray(a) for name, a in arrays().items() if a.ndim}
    safetensors.numpy.save_file(contiguous, tmp_path / "a.safetensors")
    for name, tensor in open_file(tmp_path / "a.safetensors").items():
        assert (tensor.shape, tensor.dtype) == (contiguous[name].shape, contiguous[name].dtype)
        np.testing.assert_array_equal(tensor.read(), contiguous[name])


def test_shards_hold_every_tensor_once_and_stay_below_the_limit(tmp_path):
    data = {f"t{i}": np.full((i + 1, 8), i, ml_dtypes.bfloat16) for i in range(9)}
    write_folder(tmp_path, lazy(data), max_shard_bytes=200)
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    files = set(index["weight_map"].values())
    assert len(files) > 2 and index["metadata"]["total_size"] == sum(a.nbytes for a in data.values())
    assert all(sum(t.nbytes for t in open_file(tmp_path / f).values()) <= 200 for f in files)
    found = open_folder(tmp_path)
    assert set(found) == set(data)
    for name, array in data.items():
        np.testing.assert_array_equal(found[name].read(), array)


def test_tensors_are_made_one_at_a_time_while_writing(tmp_path):
    alive, most = 0, 0

    class Counted(np.ndarray):
        def __del__(self):
            nonlocal alive
            alive -= 1

    def make():
        nonlocal alive, most
        alive += 1
        most = max(most, alive)
        return np.zeros(100, np.float32).view(Counted)

    write_folder(tmp_path, {f"t{i}": Tensor((100,), np.dtype(np.float32), make) for i in range(6)}, max_shard_bytes=900)
    assert most <= 2


@pytest.mark.parametrize("keep", [0, 5, 40, -1])
def test_a_truncated_file_is_named(tmp_path, keep):
    path = tmp_path / "model.safetensors"
    write_file(path, lazy(arrays()))
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(UserError, match=r"model\.safetensors: truncated") as error:
        open_folder(tmp_path)
    assert "\n" not in str(error.value)


def header(**item) -> bytes:
    text = json.dumps({"x": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]} | item}).encode()
    return len(text).to_bytes(8, "little") + text + b"\0" * 8


@pytest.mark.parametrize(
    "content, message",
    [
        (b"\x05\0\0\0\0\0\0\0hello", "no table of tensors"),
        (header(dtype="F4"), "'x' has dtype F4"),
        (header(shape=[3]), r"'x' of shape \[3\]"),
        (header(data_offsets=[-8, 0]), "cannot hold"),
        (header(data_offsets=[0]), "no table of tensors"),
        (header(shape=None), "no table of tensors"),
    ],
)
def test_a_file_that_is_not_safetensors_is_named(tmp_path, content, message):
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(UserError, match=message) as error:
        open_folder(tmp_path)
    assert "model.safetensors" in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    "weight_map, message",
    [
        ({"a": "model-1.safetensors", "b": "gone.safetensors"}, "names the file 'gone.safetensors'"),
        ({"a": "../model-1.safetensors"}, "must be a plain file name"),
        ({"a": "/etc/passwd"}, "must be a plain file name"),
        ({n: "model-1.safetensors" for n in "abc"}, "tensor 'c' is named by"),
        ({"a": "model-1.safetensors"}, "tensor 'b' is not named by"),
        ([], "weight_map"),
        (None, "weight_map"),
        ({"a": 3}, "must be a plain file name"),
    ],
)
def test_an_index_that_does_not_fit_its_files_is_refused(tmp_path, weight_map, message):
    write_file(tmp_path / "model-1.safetensors", lazy({"a": np.zeros(2, np.float32), "b": np.zeros(3, np.float32)}))
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    with pytest.raises(UserError, match=message):
        open_folder(tmp_path)


def test_all_faults_of_an_index_and_its_files_come_at_once(tmp_path):
    zeros = lambda names: lazy({name: np.zeros(4, np.float32) for name in names})  # noqa: E731
    write_file(tmp_path / "one.safetensors", zeros("abc"))
    write_file(tmp_path / "two.safetensors", zeros("cde"))
    os.truncate(tmp_path / "two.safetensors", (tmp_path / "two.safetensors").stat().st_size - 20)
    text = json.dumps({"f": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}})
    text = f"{text[:-1]}, {text[1:]}".encode()  # the same name twice in one header
    (tmp_path / "three.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + b"\0" * 4)
    (tmp_path / "four.safetensors").write_bytes(header(dtype="F8_E4M3"))
    where = dict.fromkeys("ab", "one") | dict.fromkeys("cde", "two") | {"f": "three", "x": "four", "g": "gone", "h": "../up"}
    weight_map = {name: f"{file}.safetensors" for name, file in where.items()}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    with pytest.raises(UserError) as error:
        open_folder(tmp_path)
    for fault in (
        "one.safetensors: tensor 'c' is in this file and, by model.safetensors.index.json, in 'two.safetensors': stored twice",
        "two.safetensors: truncated: tensor 'd' ends at byte",
        "(and 1 more like it)",
        "three.safetensors: 'f' is there twice in the header",
        "four.safetensors: tensor 'x' has dtype F8_E4M3; expected one of",
        "names the file 'gone.safetensors', which is not in the folder",
        "shard '../up.safetensors' must be a plain file name",
    ):
        assert fault in str(error.value)
    assert str(error.value).count("; ") == 6 and "\n" not in str(error.value)  # six faults, and the dtype has a semicolon of its own
    assert set(scan_folder(tmp_path).tensors) == set("abcf") and scan_folder(tmp_path).lost == set("dexgh")


@pytest.mark.parametrize("name", ["F16", "BF16", "F32", "F64"])
def test_nan_and_infinity_are_found_wherever_they_stand(name):
    values = np.linspace(-60000, 60000, 200_001).astype(DTYPES[name])
    values[0] = np.finfo(np.float32).tiny if name != "F16" else 0
    assert is_finite(values)
    for at, odd in ((0, np.nan), (70_000, np.inf), (200_000, -np.inf)):
        bad = values.copy()
        bad[at] = odd
        assert not is_finite(bad)


def test_a_part_of_a_tensor_is_read_from_its_bytes_alone(tmp_path):
    data = np.arange(60, dtype=np.float32).reshape(5, 4, 3)
    write_file(tmp_path / "a.safetensors", lazy({"b": np.ones(7, np.float32), "a": data}))
    tensor = open_file(tmp_path / "a.safetensors")["a"]
    np.testing.assert_array_equal(read_part(tensor, 12, slice(1, 3), slice(0, 12)), data.reshape(5, 12)[1:3])
    np.testing.assert_array_equal(read_part(tensor, 12, slice(1, 5), slice(3, 6)), data.reshape(5, 12)[1:5, 3:6])
    np.testing.assert_array_equal(np.concatenate([*blocks(tensor)]).ravel(), data.ravel())


def test_a_folder_without_weights_is_named(tmp_path):
    with pytest.raises(UserError, match="neither model.safetensors nor"):
        open_folder(tmp_path)


def test_a_write_that_fails_leaves_neither_file_nor_folder(tmp_path):
    def fail():
        raise RuntimeError

    broken = {"a": Tensor((2,), np.dtype(np.float32), lambda: np.zeros(2, np.float32)), "b": Tensor((2,), np.dtype(np.float32), fail)}
    with pytest.raises(RuntimeError):
        write_file(tmp_path / "a.safetensors", broken)
    with pytest.raises(RuntimeError), model_folder(tmp_path / "out") as folder:
        write_folder(folder, broken)
    assert list(tmp_path.iterdir()) == []


def test_a_new_folder_replaces_a_model_and_leaves_anything_else_alone(tmp_path):
    for text in ("one", "two"):
        with model_folder(tmp_path / "model") as folder:
            (folder / "config.json").write_text(text)
    assert [p.name for p in tmp_path.iterdir()] == ["model"]
    assert (tmp_path / "model" / "config.json").read_text() == "two"
    (tmp_path / "model" / "thesis.txt").write_text("precious")
    with pytest.raises(UserError, match=r"thesis\.txt"), model_folder(tmp_path / "model"):
        pass
    assert (tmp_path / "model" / "thesis.txt").exists()
