"""The maker of data sets: duplicates, tiny classes, refused arrays."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cofit.core import DataError
from cofit.data.dataset import build_dataset


def arrays(count, classes=2, seed=0):
    generator = np.random.default_rng(seed)
    inputs = generator.integers(0, 256, (count, 1, 4, 4), np.uint8)
    return inputs, np.arange(count) % classes


def rows(split):
    return [row.numpy().tobytes() for row in split.inputs]


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 60), st.integers(1, 4), st.integers(0, 40))
def test_repeated_training_examples_never_reach_validation(distinct, classes, repeats):
    inputs, labels = arrays(distinct * classes, classes)
    chosen = np.random.default_rng(1).integers(0, len(inputs), repeats)
    inputs = np.concatenate([inputs, inputs[chosen]])
    labels = np.concatenate([labels, labels[chosen]])
    names = tuple(map(str, range(classes)))
    try:
        dataset = build_dataset("x", (inputs, labels), arrays(5, classes, 9), names)
    except DataError:
        assert len(set(chosen)) >= (distinct - 1) * classes  # nearly everything is repeated
        return
    assert not set(rows(dataset.train)) & set(rows(dataset.validation))
    assert len(dataset.train) + len(dataset.validation) == len(inputs)
    assert set(dataset.train.targets.tolist()) == set(range(classes))


def test_test_examples_seen_in_training_are_counted_and_kept():
    train, test = arrays(40), arrays(10, seed=3)
    test[0][[2, 5]] = train[0][[11, 30]]
    dataset = build_dataset("x", train, test, ("a", "b"))
    assert dataset.test_duplicates == 2
    assert len(dataset.test) == 10


def test_examples_keep_their_labels():
    inputs, labels = arrays(200)
    inputs[:, 0, 0, 0] = labels  # the label is written into the first pixel
    dataset = build_dataset("x", (inputs, labels), (inputs[:1], labels[:1]), ("a", "b"))
    for split in (dataset.train, dataset.validation):
        assert ((split.inputs[:, 0, 0, 0] * 255).round().long() == split.targets).all()


def nan_in_train(train, test):
    train[0] = train[0].astype(np.float32)
    train[0][3, 0, 1, 1] = np.nan


def infinite_test(train, test):
    test[0] = test[0].astype(np.float32)
    test[0][0, 0, 0, 0] = np.inf


def no_test(train, test):
    test[:] = [test[0][:0], test[1][:0]]


def label_too_high(train, test):
    test[1][0] = 2


def label_negative(train, test):
    train[1][0] = -1


def float_labels(train, test):
    train[1] = train[1].astype(np.float64)


def too_few_labels(train, test):
    train[1] = train[1][:-1]


def missing_class(train, test):
    train[1][:] = 1
    test[1][:] = 1


def other_shape(train, test):
    test[0] = test[0][..., :3]


def all_the_same(train, test):
    train[0][:] = 7


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (nan_in_train, "train input 3 contains NaN"),
        (infinite_test, "test input 0 contains NaN or infinity"),
        (no_test, "test part is empty"),
        (label_too_high, "test label 2 is out of range; there are 2 classes"),
        (label_negative, "train label -1 is out of range"),
        (float_labels, "labels are float64; give integers"),
        (too_few_labels, "40 train inputs but labels of shape"),
        (missing_class, "class 0 has no training example"),
        (other_shape, "they must agree"),
        (all_the_same, "no class has two distinct"),
    ],
)
def test_bad_arrays_are_refused_in_one_line(spoil, message):
    train, test = list(arrays(40)), list(arrays(10, seed=3))
    spoil(train, test)
    with pytest.raises(DataError, match=message) as caught:
        build_dataset("x", tuple(train), tuple(test), ("a", "b"))
    assert "\n" not in str(caught.value)
