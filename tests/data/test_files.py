"""Readers of data files: whole files are read exactly, spoiled ones refused in one line."""

import gzip
import pickle
import struct

import numpy as np
import pytest
import torch

from cofit.core import DataError
from cofit.data import load
from cofit.data.idx import read_idx
from cofit.data.npz import KEYS

IMAGES = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)


def idx_bytes(array, magic=None):
    head = magic or bytes((0, 0, 8, array.ndim))
    return head + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def gzipped(data):
    """``data`` under gzip without the time of day, so that every worker sees the same tests."""
    return gzip.compress(data, mtime=0)


@pytest.mark.parametrize("pack", [bytes, gzipped])
def test_idx_round_trip(tmp_path, pack):
    path = tmp_path / "images"
    path.write_bytes(pack(idx_bytes(IMAGES)))
    assert np.array_equal(read_idx(path, 3), IMAGES)


@pytest.mark.parametrize(
    ("blob", "message"),
    [
        (b"", "starts with nothing, expected 00000803"),
        (idx_bytes(IMAGES)[:9], "not an IDX file"),
        (idx_bytes(IMAGES, b"\0\0\x0d\x03"), "starts with 00000d03"),
        (idx_bytes(IMAGES[0]), "with 3 axes"),
        (idx_bytes(IMAGES)[:-1], "24 bytes, but holds 23"),
        (idx_bytes(IMAGES) + b"x", "24 bytes, but holds 25"),
        (gzipped(idx_bytes(IMAGES))[:-12], "cannot read"),
        (gzipped(idx_bytes(IMAGES))[:20], "cannot read"),
        (b"\x1f\x8b garbage", "cannot read"),
        (gzipped(idx_bytes(IMAGES))[:-6] + b"\0" * 6, "cannot read"),
    ],
)
def test_spoiled_idx_is_refused(tmp_path, blob, message):
    path = tmp_path / "images.gz"
    path.write_bytes(blob)
    with pytest.raises(DataError, match=message):
        read_idx(path, 3)


def test_absent_idx_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"none\.gz"):
        read_idx(tmp_path / "none.gz", 3)


def user_arrays(**changed):
    generator = np.random.default_rng(0)
    arrays = {
        "train_images": generator.integers(0, 256, (40, 6, 5, 3), np.uint8),
        "train_labels": np.arange(40) % 4,
        "test_images": generator.integers(0, 256, (8, 6, 5, 3), np.uint8),
        "test_labels": np.arange(8) % 4,
    }
    return arrays | changed


def save(tmp_path, arrays):
    path = tmp_path / "own.npz"
    np.savez(path, **arrays)
    return str(path)


def test_user_data_uint8_nhwc(tmp_path):
    arrays = user_arrays()
    dataset = load(save(tmp_path, arrays))
    assert dataset.input_shape == (3, 6, 5)
    assert dataset.classes == ("0", "1", "2", "3")
    expected = torch.from_numpy(arrays["test_images"]).permute(0, 3, 1, 2) / 255
    assert torch.equal(dataset.test.inputs, expected)


def test_user_data_grey_and_float(tmp_path):
    grey = user_arrays(
        train_images=np.random.default_rng(1).integers(0, 256, (40, 6, 5), np.uint8),
        test_images=np.full((8, 6, 5), 255, np.uint8),
    )
    assert load(save(tmp_path, grey)).test.inputs.unique().tolist() == [1.0]
    values = np.random.default_rng(1).standard_normal((40, 2, 6, 5)).astype(np.float32)
    floats = user_arrays(train_images=values, test_images=values[:8] + 1)
    assert np.array_equal(load(save(tmp_path, floats)).test.inputs.numpy(), values[:8] + 1)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"train_images": np.zeros((40, 6), np.uint8)}, r"is uint8 of shape \(40, 6\)"),
        ({"train_images": np.zeros((40, 3, 6, 5))}, "train_images is float64"),
        ({"train_images": np.zeros((40, 3, 6, 5), np.uint8)}, "at most 4 channels"),
        ({"test_images": np.zeros((8, 6, 5, 1), np.uint8)}, "they must agree"),
        ({"test_labels": np.full(8, 4)}, "test label 4 is out of range"),
        ({"train_labels": np.arange(40) - 1}, "train label -1 is out of range"),
        ({"train_labels": np.array([2**60] * 40)}, "train label 1152921504606846976 is out"),
        ({"train_labels": np.array(["a"] * 40)}, "labels are <U1"),
        ({"train_labels": np.zeros((40, 1), int)}, "one label per input"),
        ({"train_labels": np.zeros(0, int)}, "one label per input"),
        ({"train_images": np.zeros((0, 6, 5, 3), np.uint8), "train_labels": np.zeros(0, int)},
         "train part is empty"),
        ({"train_images": np.full((40, 3, 6, 5), np.nan, np.float32)}, "contains NaN"),
    ],
)  # fmt: skip
def test_spoiled_user_data_is_refused(tmp_path, changed, message):
    with pytest.raises(DataError, match=message) as caught:
        load(save(tmp_path, user_arrays(**changed)))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("key", KEYS)
def test_missing_key_is_named(tmp_path, key):
    arrays = user_arrays()
    del arrays[key]
    with pytest.raises(DataError, match=f"no array '{key}'; it has: "):
        load(save(tmp_path, arrays))


class Bomb:
    def __reduce__(self):
        return (pytest.fail, ("a pickle was executed",))


def test_pickled_arrays_are_refused_unread(tmp_path):
    path = save(tmp_path, user_arrays(train_labels=np.array([Bomb()] * 40, dtype=object)))
    with pytest.raises(DataError, match="pickled objects, which could run code"):
        load(path)


def test_bare_pickle_is_refused_unread(tmp_path):
    path = tmp_path / "own.npz"
    path.write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(DataError, match=r"not a whole \.npz file"):
        load(str(path))


@pytest.mark.parametrize("keep", [0, 10, 200, -30])
def test_truncated_npz_is_refused(tmp_path, keep):
    path = tmp_path / "own.npz"
    np.savez_compressed(path, **user_arrays())
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DataError, match=r"not a whole \.npz file"):
        load(str(path))


def test_corrupt_npz_is_refused(tmp_path):
    path = tmp_path / "own.npz"
    np.savez_compressed(path, **user_arrays())
    blob = bytearray(path.read_bytes())
    blob[120:160] = bytes(40)
    path.write_bytes(bytes(blob))
    with pytest.raises(DataError, match="cannot read"):
        load(str(path))


def test_absent_npz_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"none\.npz"):
        load(str(tmp_path / "none.npz"))


def test_spoken_digits_with_wrong_offsets_are_refused(tmp_path):
    (tmp_path / "spoken_digits").mkdir()
    np.savez(
        tmp_path / "spoken_digits" / "fsdd.npz",
        audio=np.zeros(100, np.int16), offsets=np.array([0, 50, 101]),
        digit=np.zeros(2, np.uint8), take=np.zeros(2, np.uint8), sample_rate=8000,
    )  # fmt: skip
    with pytest.raises(DataError, match="do not fit together"):
        load("spoken_digits", root=tmp_path)
