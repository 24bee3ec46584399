"""The data sets that cofit knows by name, and `load`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cofit.core import DataError, UnknownNameError, numpy_generator
from cofit.data.dataset import Dataset, build_dataset
from cofit.data.idx import read_idx
from cofit.data.locate import find_folder
from cofit.data.mfcc import mfcc
from cofit.data.npz import KEYS, load_npz, read_npz

DIGITS = tuple(map(str, range(10)))
FASHION = (
    "T-shirt/top", "trouser", "pullover", "dress", "coat",
    "sandal", "shirt", "sneaker", "bag", "ankle boot",
)  # fmt: skip
CIFAR10 = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip
FASHION_FILES = (
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
)
_TEST_TAKES = 5
"""Takes 0 to 4 of each speaker and digit are the official test part of the spoken digits."""


@dataclass(frozen=True)
class Source:
    """One known data set: the files it needs in `folder` (none if it is embedded)."""

    name: str
    description: str
    input_shape: tuple[int, int, int]
    folder: str
    files: tuple[str, ...]
    read: Callable[[Path], Dataset]

    def available(self, root: Path | None = None) -> bool:
        """Whether `load` would find the files."""
        try:
            self.find(root)
        except DataError:
            return False
        return True

    def find(self, root: Path | None = None) -> Path:
        """The folder of the files; any folder for embedded data."""
        if not self.files:
            return Path()
        return find_folder(self.name, self.folder, self.files, root)


def load(name: str, root: str | Path | None = None) -> Dataset:
    """Load a known data set, or a user's `.npz` (see `cofit.data.npz.load_npz`).

    Args:
        name: a name of `known_data()`, or a path that ends in ".npz".
        root: the folder to look in instead of $COFIT_DATA and the other usual places.

    Raises:
        UnknownNameError: neither a known name nor an .npz path.
        DataError: files are missing or malformed.
    """
    if name.endswith(".npz"):
        return load_npz(Path(name))
    sources = {source.name: source for source in known_data()}
    if name not in sources:
        raise UnknownNameError("data", name, [*sources, "PATH.npz"])
    source = sources[name]
    return source.read(source.find(None if root is None else Path(root)))


def known_data() -> tuple[Source, ...]:
    """All data sets with a name."""
    return _SOURCES


def _digits(_: Path) -> Dataset:
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    # 16 grey levels above black; there is no official split, so a fifth is drawn once, stratified
    images = (pixels.reshape(-1, 1, 8, 8) / 16).astype(np.float32)
    is_test = np.zeros(len(labels), bool)
    for digit in range(10):
        members = np.flatnonzero(labels == digit)
        generator = numpy_generator(0, "data", "digits", "test", digit)
        is_test[generator.permutation(members)[: len(members) // 5]] = True
    return build_dataset(
        "digits",
        (images[~is_test], labels[~is_test]),
        (images[is_test], labels[is_test]),
        DIGITS,
    )


def _fashion_mnist(folder: Path) -> Dataset:
    def part(images: str, labels: str) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        return read_idx(folder / images, 3)[:, None], read_idx(folder / labels, 1)

    train, test = part(*FASHION_FILES[:2]), part(*FASHION_FILES[2:])
    return build_dataset("fashion_mnist", train, test, FASHION, augment=("flip",))


def _cifar10(folder: Path) -> Dataset:
    arrays = read_npz(folder / "cifar10_subset.npz", KEYS)
    for key in KEYS[::2]:
        images = arrays[key]
        if images.dtype != np.uint8 or images.shape[1:] != (32, 32, 3):
            raise DataError(
                f"data 'cifar10': {key} is {images.dtype} of shape {images.shape}; "
                "expected uint8 (N, 32, 32, 3)"
            )
        arrays[key] = images.transpose(0, 3, 1, 2)
    train_images, train_labels, test_images, test_labels = (arrays[key] for key in KEYS)
    return build_dataset(
        "cifar10",
        (train_images, train_labels),
        (test_images, test_labels),
        CIFAR10,
        augment=("crop", "flip"),
    )


def _spoken_digits(folder: Path) -> Dataset:
    keys = ("audio", "offsets", "digit", "take", "sample_rate")
    arrays = read_npz(folder / "fsdd.npz", keys)
    audio, offsets = arrays["audio"], arrays["offsets"].astype(np.int64)
    digit, take = arrays["digit"], arrays["take"]
    if not (
        audio.dtype == np.int16
        and offsets.ndim == 1
        and len(offsets) == len(digit) + 1 == len(take) + 1
        and offsets[0] == 0
        and offsets[-1] == len(audio)
        and (np.diff(offsets) > 0).all()
    ):
        raise DataError(
            "data 'spoken_digits': audio, offsets, digit and take do not fit together; "
            "fetch fsdd.npz again"
        )
    rate_hz = int(arrays["sample_rate"])
    features = mfcc(_one_second(audio, offsets, rate_hz), rate_hz)
    is_test = take.astype(np.int64) < _TEST_TAKES
    # The first coefficient (loudness) would else spend the range of an 8-bit input alone.
    known = features[~is_test]
    features = (features - known.mean((0, 1, 2))) / known.std((0, 1, 2))
    return build_dataset(
        "spoken_digits",
        (features[~is_test], digit[~is_test]),
        (features[is_test], digit[is_test]),
        DIGITS,
    )


def _one_second(
    audio: NDArray[np.generic], offsets: NDArray[np.int64], length: int
) -> NDArray[np.float32]:
    """Recordings as rows of one second in [-1, 1], centred in silence or cut to their middle."""
    clips = np.zeros((len(offsets) - 1, length), np.float32)
    for clip, start, stop in zip(clips, offsets[:-1], offsets[1:], strict=True):
        spare = (stop - start) - length
        if spare > 0:
            start += spare // 2
            stop = start + length
        left = max(0, -spare // 2)
        clip[left : left + stop - start] = audio[start:stop]
    return clips / np.float32(32768)


_SOURCES = (
    Source("digits", "handwritten digits of scikit-learn, grey 8x8, 1,797 images, embedded",
           (1, 8, 8), "", (), _digits),
    Source("fashion_mnist", "clothes, grey 28x28",
           (1, 28, 28), "fashion_mnist", FASHION_FILES, _fashion_mnist),
    Source("cifar10", "objects, colour 32x32 (subset: 20,000 train, 5,000 test)",
           (3, 32, 32), "cifar10_subset", ("cifar10_subset.npz",), _cifar10),
    Source("spoken_digits", "Free Spoken Digit Dataset, 1 s: 49 frames of 10 standardised MFCC",
           (1, 49, 10), "spoken_digits", ("fsdd.npz",), _spoken_digits),
)  # fmt: skip
