"""The data sets by name: sizes, ranges, stratification, and no example in two parts."""

import hashlib
import subprocess
import sys

import numpy as np
import pytest
import torch

from cofit.core import DataError, UnknownNameError
from cofit.data import Dataset, known_data, load

SIZES = {  # train + validation, test, of the files as published
    "digits": (1442, 355),
    "fashion_mnist": (59160, 9680),
    "cifar10": (20000, 5000),
    "spoken_digits": (2700, 300),
}


@pytest.fixture(scope="module", params=sorted(SIZES))
def dataset(request) -> Dataset:
    if request.param != "digits":
        request.getfixturevalue("data_dir")
    return load(request.param)


def digests(inputs: torch.Tensor) -> set[bytes]:
    return {hashlib.sha256(row.numpy().tobytes()).digest() for row in inputs}


def test_parts_share_no_example_beyond_the_reported_ones(dataset):
    train, validation = digests(dataset.train.inputs), digests(dataset.validation.inputs)
    assert not train & validation
    known = train | validation
    repeated = [
        row for row in dataset.test.inputs
        if hashlib.sha256(row.numpy().tobytes()).digest() in known
    ]  # fmt: skip
    assert len(repeated) == dataset.test_duplicates == 0


def test_sizes_types_and_range(dataset):
    kept, held_out = len(dataset.train), len(dataset.validation)
    assert (kept + held_out, len(dataset.test)) == SIZES[dataset.name]
    assert min(0.08 * (kept + held_out), 1900) <= held_out <= min(0.1 * (kept + held_out), 2000)
    shapes = {source.name: source.input_shape for source in known_data()}
    for split in (dataset.train, dataset.validation, dataset.test):
        assert split.inputs.dtype == torch.float32
        assert split.targets.dtype == torch.int64
        assert split.inputs.shape == (len(split), *shapes[dataset.name])
        assert split.inputs.is_contiguous()
        if dataset.name != "spoken_digits":
            assert split.inputs.min() == 0 and split.inputs.max() == 1


def test_only_images_without_handedness_are_flipped(dataset):
    assert ("flip" in dataset.augment) == (dataset.name in ("cifar10", "fashion_mnist"))


def test_validation_is_stratified(dataset):
    share = dataset.validation.targets.bincount() / dataset.train.targets.bincount()
    assert share.shape == (len(dataset.classes),)
    assert share.max() / share.min() < 1.15


def test_draws_do_not_depend_on_the_process_or_the_global_seed():
    text = "import cofit.data as d, hashlib; x = d.load('digits'); print(hashlib.sha256("
    text += "x.validation.inputs.numpy().tobytes() + x.test.inputs.numpy().tobytes()).hexdigest())"
    torch.manual_seed(5)
    np.random.seed(5)
    here = load("digits")
    blob = here.validation.inputs.numpy().tobytes() + here.test.inputs.numpy().tobytes()
    there = subprocess.run(
        [sys.executable, "-c", text], capture_output=True, text=True, check=True
    ).stdout.strip()
    assert there == hashlib.sha256(blob).hexdigest()


def test_fashion_pixels_have_the_published_mean(data_dir):
    # README of zalandoresearch/fashion-mnist: 0.2860 over the training part
    dataset = load("fashion_mnist")
    assert dataset.train.inputs.mean().item() == pytest.approx(0.286, abs=1e-3)


def test_cifar_images_are_not_scrambled(data_dir):
    dataset = load("cifar10")
    with np.load(data_dir / "cifar10_subset" / "cifar10_subset.npz") as archive:
        first = archive["test_images"][7]
        label = archive["test_labels"][7]
    assert torch.equal(
        (dataset.test.inputs[7] * 255).round().to(torch.uint8),
        torch.from_numpy(first).permute(2, 0, 1),
    )
    assert dataset.test.targets[7] == label
    assert dataset.train.inputs.mean((0, 2, 3)).tolist() == pytest.approx(
        [0.491, 0.482, 0.446], abs=3e-3
    )


def test_unknown_name_lists_the_table():
    with pytest.raises(UnknownNameError, match=r"did you mean 'cifar10'.*digits"):
        load("cifar")


@pytest.mark.parametrize("name", ["fashion_mnist", "cifar10", "spoken_digits"])
def test_missing_files_say_where_and_how(name, tmp_path, monkeypatch):
    monkeypatch.setenv("COFIT_DATA", str(tmp_path / "empty"))
    monkeypatch.setenv("COFIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match="set COFIT_DATA to the folder that holds") as caught:
        load(name)
    text = str(caught.value)
    assert str(tmp_path / "empty") in text and str(tmp_path / "cache" / "data") in text
    assert "\n" not in text
    assert ("cofit.data.download" in text) == (name == "fashion_mnist")
    assert not next(source for source in known_data() if source.name == name).available()


def test_shared_data_beside_the_current_folder_is_found(tmp_path, monkeypatch, data_dir):
    monkeypatch.delenv("COFIT_DATA")
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / "data").symlink_to(data_dir)
    (tmp_path / "project").mkdir()
    for folder in (tmp_path, tmp_path / "project"):
        monkeypatch.chdir(folder)
        assert {source.name for source in known_data() if source.available()} == set(SIZES)


def test_root_replaces_every_other_place(tmp_path, data_dir):
    with pytest.raises(DataError, match="which is not in") as caught:
        load("cifar10", root=tmp_path)
    assert str(data_dir) not in str(caught.value)
