"""Where data files are looked for."""

from __future__ import annotations

import os
from pathlib import Path

from cofit.core import DataError, cache_dir
from cofit.data.download import DOWNLOADS


def folders(root: Path | None = None) -> list[Path]:
    """Folders that hold one sub-folder per data set, best first.

    `root` alone if given; else $COFIT_DATA, `shared/data` in and beside the current folder, and
    the cache folder.
    """
    if root is not None:
        return [root]
    chosen = os.environ.get("COFIT_DATA")
    named = [Path(chosen)] if chosen else []
    return [
        *named,
        Path("shared/data").absolute(),
        Path.cwd().parent / "shared" / "data",
        cache_dir() / "data",
    ]


def find_folder(name: str, folder: str, files: tuple[str, ...], root: Path | None = None) -> Path:
    """The first folder that holds all `files` of data set `name` in its sub-folder `folder`.

    Raises:
        DataError: saying which file is missing, where it was looked for and how to name a place.
    """
    places = folders(root)
    for place in places:
        if all((place / folder / file).is_file() for file in files):
            return place / folder
    fetch = f", or call cofit.data.download({name!r})" if name in DOWNLOADS else ""
    raise DataError(
        f"data {name!r} needs {folder}/{{{','.join(files)}}}, which is not in "
        f"{', '.join(str(place) for place in places)}; "
        f"set COFIT_DATA to the folder that holds {folder}/{fetch}"
    )
