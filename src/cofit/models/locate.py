"""Where files of trained weights are looked for."""

from __future__ import annotations

import os
from pathlib import Path

from cofit.core import FileError, cache_dir


def find_weights(name: str) -> Path:
    """The file `name`.safetensors in $COFIT_MODELS or the other usual places.

    Args:
        name: of the file, for example "resnet20_cifar10".

    Raises:
        FileError: no place has it; says where it was looked for and how to name another.
    """
    chosen = os.environ.get("COFIT_MODELS")
    places = [
        *([Path(chosen)] if chosen else []),
        Path("shared/models").absolute(),
        Path.cwd().parent / "shared" / "models",
        cache_dir() / "models",
    ]
    for place in places:
        if (path := place / f"{name}.safetensors").is_file():
            return path
    raise FileError(
        f"weights {name}.safetensors are not in {', '.join(map(str, places))}; "
        "set COFIT_MODELS to the folder that holds them"
    )
