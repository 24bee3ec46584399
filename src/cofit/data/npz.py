"""NumPy archives, read without ever unpickling, and the layout of users' own data in them."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cofit.core import DataError
from cofit.data.dataset import Dataset, build_dataset

KEYS = ("train_images", "train_labels", "test_images", "test_labels")


def read_npz(path: Path, keys: Iterable[str]) -> dict[str, NDArray[np.generic]]:
    """The arrays named `keys`.

    Raises:
        DataError: the file is absent, truncated, lacks a key, or holds pickled objects.
    """
    arrays: dict[str, NDArray[np.generic]] = {}
    try:
        # A single .npy or a bare pickle would come back as no archive: only zip files are npz.
        if not zipfile.is_zipfile(path):
            path.open("rb").close()
            raise DataError(f"{str(path)!r} is not a whole .npz file; save it with numpy.savez")
        with np.load(path, allow_pickle=False) as archive:
            for key in keys:
                if key not in archive.files:
                    raise DataError(
                        f"{str(path)!r} has no array {key!r}; it has: "
                        f"{', '.join(archive.files) or 'none'}"
                    )
                arrays[key] = archive[key]
    except DataError:
        raise
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        reason = str(error)
        if "allow_pickle" in reason:
            reason = "it holds pickled objects, which could run code; save plain numeric arrays"
        raise DataError(f"cannot read {str(path)!r}: {reason}") from error
    return arrays


def load_npz(path: Path) -> Dataset:
    """A user's data: `train_images`, `train_labels`, `test_images`, `test_labels`.

    Images are uint8 `(N, H, W)` or `(N, H, W, C)`, or float32 `(N, C, H, W)`; labels are integers
    from 0 without gaps.

    Raises:
        DataError: naming the array and what it should be.
    """
    name = str(path)
    arrays = read_npz(path, KEYS)
    images = {key: _channels_first(name, key, arrays[key]) for key in KEYS[::2]}
    labels = arrays["train_labels"]
    integers = labels.dtype.kind in "iu" and labels.size > 0
    # Labels beyond the examples' number cannot be classes without gaps; this also bounds the tuple.
    count = min(int(np.max(labels)) + 1, len(labels)) if integers else 1
    return build_dataset(
        name,
        (images["train_images"], labels),
        (images["test_images"], arrays["test_labels"]),
        tuple(map(str, range(max(count, 1)))),
    )


def _channels_first(name: str, key: str, images: NDArray[np.generic]) -> NDArray[np.generic]:
    if images.dtype == np.uint8 and images.ndim == 3:
        return images[:, None]
    if images.dtype == np.uint8 and images.ndim == 4 and images.shape[3] in (1, 2, 3, 4):
        return images.transpose(0, 3, 1, 2)
    if images.dtype == np.float32 and images.ndim == 4:
        return images
    raise DataError(
        f"{name!r}: {key} is {images.dtype} of shape {images.shape}; give uint8 (N, H, W) or "
        "(N, H, W, C) with at most 4 channels, or float32 (N, C, H, W)"
    )
