"""A program as a folder that stands alone: C, a self-test, a Makefile, the graph and a manifest.

The folder is whole or absent: it is written under a temporary name and renamed.
"""

from __future__ import annotations

import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter, ValidationError

from cofit.codegen.build import DEFAULT_COMPILER, WARNINGS
from cofit.codegen.c_text import declare
from cofit.codegen.cortex_m import Board, CortexMRunner
from cofit.codegen.emit import Source
from cofit.codegen.host import build_flags
from cofit.codegen.kernel import Constant
from cofit.codegen.machine import machine as machine_named
from cofit.codegen.program import Program, assemble
from cofit.codegen.threads import scratch_bytes
from cofit.codegen.tuning import from_json, to_json
from cofit.codegen.verify import sample_inputs
from cofit.core import FileError, VerificationError, read_json
from cofit.core.files import write_json, write_text
from cofit.ir import load_graph, save_graph

FORMAT, VERSION = "cofit.program", 1
_BOARD: TypeAdapter[Board | None] = TypeAdapter(Board | None)
FILES = ("model.c", "model.h", "main.c", "Makefile", "README.md", "manifest.json",
         "graph.json", "graph.safetensors")  # fmt: skip


def save_program(program: Program, folder: Path) -> None:
    """Write a program; an existing folder is replaced if a program lies in it.

    Raises:
        FileError: the folder holds other things, or cannot be written.
    """
    folder = folder.absolute()
    check_replaceable(folder)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as temporary:
            new = Path(temporary) / "new"
            new.mkdir(mode=0o755)
            _write(program, new)
            if folder.exists():
                folder.rename(Path(temporary) / "old")
            new.rename(folder)
    except OSError as error:
        # what a file in the temporary folder met is said of the folder that people know
        cause = error.__cause__ if isinstance(error, FileError) else error
        if not isinstance(cause, OSError):
            raise
        raise FileError(
            f"cannot write {str(folder)!r}: {cause.strerror or cause}; "
            "choose a writable folder with free space"
        ) from error


def load_program(folder: Path, compiler: str | None = None) -> Program:
    """Build a saved program again from its graph, verify it and compare it with the saved C.

    A Cortex-M program is linked for the board it was saved for.

    Raises:
        FileError: the folder is not a saved program, or files are missing or damaged.
        VerificationError: this version of cofit generates other C for the same machine.
    """
    name, lanes, saved_bytes, board, threads, limit, saved = _read_manifest(folder)
    graph, machine = load_graph(folder), machine_named(name).with_threads(threads)
    try:
        chosen = from_json(graph, machine, saved)
    except (LookupError, TypeError, ValidationError) as error:
        raise FileError(
            f"the manifest of program {str(folder)!r} is damaged (tuned: {_brief(error)}); "
            "save it again"
        ) from error
    program = assemble(
        graph, machine, compiler or DEFAULT_COMPILER, verify=True,
        board=board, arena_limit_bytes=limit, kernels=chosen,
    )  # fmt: skip
    same_lanes = lanes == program.machine.vector_floats
    if same_lanes and saved_bytes != program.source.constant_bytes:
        raise VerificationError(
            f"{str(folder)!r} holds {saved_bytes} bytes of constants, building its graph again "
            f"gives {program.source.constant_bytes}; save the program again"
        )
    return program


def _brief(error: Exception) -> str:
    return str(error).splitlines()[0]


def _read_manifest(
    folder: Path,
) -> tuple[str, int, int, Board | None, int, int | None, dict[str, Any]]:
    """Machine, float32 lanes, bytes of constants, board if a Cortex-M, threads, arena limit, tuned.

    The limit is there if layers run in stripes: then no other schedule of less halo meets it.
    """
    if not (folder / "manifest.json").is_file():
        raise FileError(
            f"{str(folder)!r} is not a saved program: it has no manifest.json; give a folder that "
            "cofit compile wrote, or the deploy folder of cofit fit"
        )
    manifest = read_json(folder / "manifest.json")
    if (
        not isinstance(manifest, dict)
        or manifest.get("format") != FORMAT
        or manifest.get("version") != VERSION
    ):
        raise FileError(f"{str(folder)!r} is not a saved program of version {VERSION}")
    try:
        nbytes = int(manifest["flash"]["constant_bytes"])
        name, lanes = str(manifest["machine"]), int(manifest["vector_floats"])
        board = _BOARD.validate_python(manifest.get("board"))
        if board is not None and board.core != name:
            raise ValueError(f"board {board.name!r} has a {board.core}, the machine is {name}")
        limit = int(manifest["arena_bytes"]) if manifest.get("stripes", 1) > 1 else None
        tuned = dict(manifest.get("tuned", {}))
        return name, lanes, nbytes, board, int(manifest.get("threads", 1)), limit, tuned
    except ValidationError as error:
        wrong = ", ".join(".".join(map(str, e["loc"])) or "itself" for e in error.errors())
        raise FileError(
            f"the manifest of program {str(folder)!r} is damaged (board: {wrong}); save it again"
        ) from error
    except (LookupError, TypeError, ValueError) as error:
        raise FileError(
            f"the manifest of program {str(folder)!r} is damaged ({error}); save it again"
        ) from error


def check_replaceable(folder: Path) -> None:
    """Check that a program may be saved under this name.

    Raises:
        FileError: something that is not a saved program is there.
    """
    if not folder.exists():
        return
    if not folder.is_dir() or (any(folder.iterdir()) and not (folder / "manifest.json").is_file()):
        raise FileError(
            f"{str(folder)!r} exists and is not a saved program; choose a new folder name"
        )


def _write(program: Program, folder: Path) -> None:
    source = program.source
    write_text(folder / "model.h", source.header)
    text = source.standalone.replace(f'#include "{source.name}.h"', '#include "model.h"', 1)
    write_text(folder / "model.c", text)
    write_text(folder / "main.c", _self_test(program))
    write_text(folder / "Makefile", _makefile(source))
    write_text(folder / "README.md", _readme(program))
    write_json(folder / "manifest.json", manifest(program))
    save_graph(program.graph, folder)


def manifest(program: Program) -> dict[str, Any]:
    """What the program is and needs, in bytes and counts."""
    source, runner = program.source, program.runner
    board = asdict(runner.board) if isinstance(runner, CortexMRunner) else None
    return {
        "format": FORMAT,
        "version": VERSION,
        "name": source.name,
        "machine": source.machine.name,
        "vector_floats": source.machine.vector_floats,
        "board": board,
        "threads": source.machine.threads,
        "io": source.machine.io,
        "precision": "int8" if source.graph.is_integer else "float32",
        "verified": program.verified,
        "arena_bytes": source.plan.arena_bytes,
        "arena_lower_bound_bytes": source.plan.lower_bound_bytes,
        "stripes": source.schedule.stripes,
        "halo_macs": source.schedule.halo_macs,
        "macs": sum(step.macs for step in source.steps),
        "tuned": to_json(source.chosen),
        "flash": {
            "constant_bytes": source.constant_bytes,
            "constants": {
                f"{step.function}.{constant.name}": constant.values.nbytes
                for step in source.steps
                for constant in step.code.constants
            },
        },
        "steps": [
            {
                "name": step.name,
                "kind": step.kind,
                "kernel": step.kernel,
                "variant": step.code.variant,
                "macs": step.macs,
                "constant_bytes": step.constant_bytes,
                "scratch_bytes": scratch_bytes(step.code),
                "shares": step.code.shares,
                "rejected": list(step.rejected),
            }
            for step in source.steps
        ],
    }


def _self_test(program: Program) -> str:
    """main.c: one stored input, the output it must give, and a tolerance of 1e-4 for floats."""
    source = program.source
    x = sample_inputs(source)[0]
    y = program.run_native(x)
    upper, kind = source.name.upper(), "float" if y.dtype.kind == "f" else "signed char"
    close = (
        "fabs((double)y[i] - expected[i]) > 1e-4 * (1.0 + fabs((double)expected[i]))"
        if y.dtype.kind == "f"
        else "y[i] != expected[i]"
    )
    arrays = "\n".join(
        declare(Constant(name, np.asarray(values), 16))
        for name, values in (("input", x), ("expected", y))
    )
    return f"""\
/* Self-test: runs the model on a stored input and compares with the stored output. */
#include "model.h"
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

{arrays}

static unsigned char arena[{upper}_ARENA_BYTES]
    __attribute__((aligned({upper}_ARENA_ALIGN)));

int main(void)
{{
    {kind} y[{y.size}];
    int wrong = 0;
    memset(arena, 0xAA, sizeof arena);
    memcpy(arena + {upper}_INPUT_OFFSET, input, {upper}_INPUT_BYTES);
    {source.name}_run(arena);
    memcpy(y, arena + {upper}_OUTPUT_OFFSET, {upper}_OUTPUT_BYTES);
    for (int i = 0; i < {y.size}; ++i)
        wrong += {close};
    printf("%d of {y.size} outputs differ\\n", wrong);
    return wrong != 0;
}}
"""


def _makefile(source: Source) -> str:
    # the self-test runs where make runs, so flags of another CPU are left out
    flags = WARNINGS if source.machine.freestanding else build_flags(source)
    optimise = " -O2" if source.machine.freestanding else ""
    return f"""\
CC = cc
CFLAGS = {" ".join(flags)}{optimise}

test: selftest
\t./selftest

selftest: main.c model.c model.h
\t$(CC) $(CFLAGS) -o $@ main.c model.c -lm

clean:
\trm -f selftest

.PHONY: test clean
"""


def _readme(program: Program) -> str:
    source = program.source
    upper = source.name.upper()
    x = source.graph.tensors[source.graph.inputs[0]].shape
    y = source.graph.tensors[source.graph.outputs[0]].shape
    if source.machine.io == "float":
        order = "float32, order N,C,H,W"
    else:
        order = f"{source.graph.tensors[source.graph.inputs[0]].dtype.value}, order N,H,W,C"
    return f"""\
# {source.name}

A neural network as C99 for {source.machine.name}, generated by cofit. No heap, no dependencies.
{_threads(source)}
* `make` builds and runs the self-test on this machine.
* input {x}, output {y}: {order}; shapes are N,C,H,W.
* arena {source.plan.arena_bytes} B, constants {source.constant_bytes} B.

```c
static unsigned char arena[{upper}_ARENA_BYTES] __attribute__((aligned({upper}_ARENA_ALIGN)));
memcpy(arena + {upper}_INPUT_OFFSET, input, {upper}_INPUT_BYTES);
{source.name}_run(arena);
memcpy(output, arena + {upper}_OUTPUT_OFFSET, {upper}_OUTPUT_BYTES);
```

`manifest.json` lists bytes and multiply-accumulates by step; `graph.json` and
`graph.safetensors` are the network (`cofit run` builds them again).
"""


def _threads(source: Source) -> str:
    threads = source.machine.threads
    if threads == 1:
        return ""
    return (
        f"The larger steps are shared by {threads} threads of the process, created at the first\n"
        "run (link with `-pthread`). Runs take turns; a child of `fork` creates its own.\n"
    )
