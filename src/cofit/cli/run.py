"""`cofit run`: a saved program on inputs from a file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cofit.cli.console import console, print_json
from cofit.codegen import load_program
from cofit.core import DataError, atomic_write


def run_command(folder: Path, inputs: Path, out: Path | None, as_json: bool) -> None:
    """Print the top class of every input; write all outputs if asked."""
    x = read_inputs(inputs)
    program = load_program(folder)
    y = program.run(x)
    if out is not None:
        with atomic_write(out) as file:
            np.save(file, y, allow_pickle=False)
    scores = y.reshape(len(y), -1)
    top = scores.argmax(axis=1)
    rows = [{"top": int(k), "score": float(row[k])} for k, row in zip(top, scores, strict=True)]
    if as_json:
        name = program.graph.name
        print_json({"format": "cofit.outputs", "version": 1, "program": name, "outputs": rows})
        return
    for index, row in enumerate(rows):
        console().print(f"input {index}: class {row['top']}, score {row['score']:.6g}")


def read_inputs(path: Path) -> NDArray[np.float32]:
    """Inputs (N, ...) from a .npy file, or from an .npz file of one array.

    Raises:
        DataError: the file is absent, damaged, empty, pickled, or holds anything but real numbers.
    """
    try:
        found = np.load(path, allow_pickle=False)
        if isinstance(found, np.lib.npyio.NpzFile):
            with found as archive:
                if len(archive.files) != 1:
                    raise DataError(
                        f"{str(path)!r} holds {len(archive.files)} arrays "
                        f"({', '.join(archive.files)}); give a file of one array (N, C, H, W)"
                    )
                found = archive[archive.files[0]]
    except DataError:
        raise
    except Exception as error:  # a damaged archive fails in many ways
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        if "allow_pickle" in reason or "pickle" in reason:
            reason = "it is no plain array, and pickles could run code"
        raise DataError(
            f"cannot read inputs {str(path)!r}: {reason}; save float32 (N, C, H, W) with numpy.save"
        ) from error
    if found.dtype.kind != "f" or found.ndim < 2 or len(found) == 0:
        raise DataError(
            f"inputs {str(path)!r} are {found.dtype} of shape {found.shape}; "
            "give float32 (N, C, H, W) with N at least 1"
        )
    if not np.isfinite(found).all():
        raise DataError(f"inputs {str(path)!r} hold NaN or infinity; clean them")
    return np.ascontiguousarray(found, np.float32)
