"""Data sets in memory, and the one way to make them: checked, and split without leaks."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from cofit.core import DataError, numpy_generator

VALIDATION_FRACTION = 0.1
VALIDATION_CAP = 2000
"""Examples; a validation pass is run very often, and 2,000 give a standard error below 1 %."""


@dataclass(frozen=True, eq=False)
class Split:
    """Inputs `(N, C, H, W)` float32, images in [0, 1], and targets `(N,)` int64 (class numbers)."""

    inputs: torch.Tensor
    targets: torch.Tensor

    def __len__(self) -> int:
        return len(self.targets)


@dataclass(frozen=True, eq=False)
class Dataset:
    """Three parts that share no example.

    Attributes:
        name: name or path it was loaded by.
        train: for training.
        validation: drawn from the training part, for every decision made along the way.
        test: for the last number only.
        classes: class names; targets index them.
        test_duplicates: test examples that occur bit for bit in the training part as published.
            They stay in the test part, so that figures remain comparable, but are not hidden.
        augment: names of the augmentations that leave a class as it is ("crop", "flip").
    """

    name: str
    train: Split
    validation: Split
    test: Split
    classes: tuple[str, ...]
    test_duplicates: int = 0
    augment: tuple[str, ...] = ()

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one input, without the batch axis."""
        return tuple(self.train.inputs.shape[1:])


def build_dataset(
    name: str,
    train: tuple[NDArray[np.generic], NDArray[np.generic]],
    test: tuple[NDArray[np.generic], NDArray[np.generic]],
    classes: tuple[str, ...],
    augment: tuple[str, ...] = (),
) -> Dataset:
    """Check raw arrays and make a data set of them.

    The validation part is stratified, a tenth of the training part (at most 2,000 examples), and
    the same in every process. Examples that occur more than once never enter it, so no validation
    example is also trained on.

    Args:
        name: how messages and the validation draw call the data set.
        train: inputs, uint8 `(N, C, H, W)` (divided by 255) or float32, and integer labels `(N,)`.
        test: likewise.
        classes: class names; every label is below their number.
        augment: names of augmentations that leave a class as it is.

    Raises:
        DataError: empty or unequal arrays, NaN or infinity, labels out of range, a class without
            training examples.
    """
    for part, (inputs, labels) in (("train", train), ("test", test)):
        _check(name, part, inputs, labels, len(classes))
    if train[0].shape[1:] != test[0].shape[1:]:
        raise DataError(
            f"data {name!r}: train inputs have shape {train[0].shape[1:]} and test inputs "
            f"{test[0].shape[1:]}; they must agree"
        )
    targets = train[1].astype(np.int64)
    absent = np.flatnonzero(np.bincount(targets, minlength=len(classes)) == 0)
    if absent.size:
        raise DataError(
            f"data {name!r}: class {absent[0]} has no training example; "
            "number the classes from 0 without gaps"
        )
    keys = _digests(train[0])
    seen = Counter(keys)
    held_out = _draw_validation(name, targets, np.array([seen[key] == 1 for key in keys]))
    kept = np.setdiff1d(np.arange(len(targets)), held_out)
    return Dataset(
        name=name,
        train=_split(train[0][kept], targets[kept]),
        validation=_split(train[0][held_out], targets[held_out]),
        test=_split(test[0], test[1].astype(np.int64)),
        classes=classes,
        augment=augment,
        test_duplicates=sum(key in seen for key in _digests(test[0])),
    )


def _check(
    name: str,
    part: str,
    inputs: NDArray[np.generic],
    labels: NDArray[np.generic],
    classes: int,
) -> None:
    if len(inputs) == 0:
        raise DataError(f"data {name!r}: the {part} part is empty; give at least one example")
    if labels.ndim != 1 or len(labels) != len(inputs):
        raise DataError(
            f"data {name!r}: {len(inputs)} {part} inputs but labels of shape {labels.shape}; "
            "give one label per input"
        )
    if labels.dtype.kind not in "iu":
        raise DataError(
            f"data {name!r}: {part} labels are {labels.dtype}; give integers from 0 to "
            f"{classes - 1}"
        )
    low, high = int(np.min(labels)), int(np.max(labels))
    if low < 0 or high >= classes:
        raise DataError(
            f"data {name!r}: {part} label {low if low < 0 else high} is out of range; "
            f"there are {classes} classes, numbered from 0 to {classes - 1}"
        )
    if inputs.dtype.kind == "f" and not np.isfinite(inputs).all():
        bad = int(np.flatnonzero(~np.isfinite(inputs).reshape(len(inputs), -1).all(1))[0])
        raise DataError(
            f"data {name!r}: {part} input {bad} contains NaN or infinity; clean or drop it"
        )


def _digests(inputs: NDArray[np.generic]) -> list[bytes]:
    rows = np.ascontiguousarray(inputs).reshape(len(inputs), -1)
    return [hashlib.blake2b(row.tobytes(), digest_size=16).digest() for row in rows]


def _draw_validation(
    name: str, labels: NDArray[np.int64], unique: NDArray[np.bool_]
) -> NDArray[np.int64]:
    """Indices, sorted, in proportion to the classes and never the last example of a class."""
    share = min(VALIDATION_FRACTION, VALIDATION_CAP / len(labels))
    drawn: list[NDArray[np.int64]] = []
    for label in range(int(labels.max()) + 1):
        members = np.flatnonzero(labels == label)
        candidates = members[unique[members]]
        count = min(max(1, int(share * len(members))), len(candidates), len(members) - 1)
        generator = numpy_generator(0, "data", name, "validation", label)
        drawn.append(generator.permutation(candidates)[:count])
    chosen = np.sort(np.concatenate(drawn))
    if chosen.size == 0:
        raise DataError(
            f"data {name!r}: no class has two distinct training examples, so none can be held out "
            "for validation; give more training data"
        )
    return chosen


def _split(inputs: NDArray[np.generic], labels: NDArray[np.int64]) -> Split:
    values = inputs.astype(np.float32, order="C")
    if inputs.dtype == np.uint8:
        values /= 255
    return Split(torch.from_numpy(values), torch.from_numpy(labels))
