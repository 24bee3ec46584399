"""Fetching a data set from its publisher, on request only, and checked against known digests."""

from __future__ import annotations

import logging
from pathlib import Path

import pooch

from cofit.core import DataError, UnknownNameError, cache_dir

_FASHION_URL = (
    "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/"
)
_FASHION_MD5 = {  # as published in the README of zalandoresearch/fashion-mnist
    "train-images-idx3-ubyte.gz": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
    "train-labels-idx1-ubyte.gz": "25c81989df183df01b3e8a0aad5dffbe",
    "t10k-images-idx3-ubyte.gz": "bef4ecab320f06d8554ea6380940ec79",
    "t10k-labels-idx1-ubyte.gz": "bb300cfdad3c16e7a12a480ee83cd310",
}
DOWNLOADS = {"fashion_mnist": (_FASHION_URL, _FASHION_MD5)}


def download(name: str) -> Path:
    """Fetch the files of a data set into the cache folder, where `load` finds them.

    Files that are there already and whole are kept.

    Raises:
        UnknownNameError: no public, checksummed source is known for `name`.
        DataError: the network failed or a file is not the published one.
    """
    if name not in DOWNLOADS:
        raise UnknownNameError("download", name, DOWNLOADS)
    url, digests = DOWNLOADS[name]
    folder = cache_dir() / "data" / name
    pooch.get_logger().setLevel(logging.WARNING)  # libraries do not print
    for file, digest in digests.items():
        try:
            pooch.retrieve(url + file, known_hash=f"md5:{digest}", fname=file, path=folder)
        except (OSError, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise DataError(
                f"cannot fetch {url}{file}: {reason}; try again, or put the file into "
                f"{str(folder)!r} by hand"
            ) from error
    return folder
