"""Instructions per multiply-accumulate of single int8 layers on an emulated Cortex-M4.

`python -m benchmarks.cortex_m [--json FILE] [--core cortex-m4]`

Counts are exact and repeat to the instruction; they hold the whole op: columns, products,
requantisation, stores. Input 16x16x32 (256 values for the linear layer), 32 outputs. Weights are
seeded random numbers; sparse ones are projected to their structure at eightfold compression.
Scratch is what the op adds to the arena while it runs; flash is the whole program's.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from benchmarks.stamp import stamp
from cofit.codegen import compile as compile_program
from cofit.codegen.cortex_m import CortexMRunner
from cofit.core import numpy_generator
from cofit.core.files import write_json
from cofit.ir import DType, Graph, Op, Quantisation, QuantSpec, Tensor, kept_macs, macs
from cofit.ir import attributes as at
from cofit.ir.shapes import output_shape
from cofit.structures import parse

PADDED = at.Conv2d(padding=(1, 1, 1, 1), fused="relu")
DEPTHWISE = at.Conv2d(padding=(1, 1, 1, 1), groups=32, fused="relu")
CMSIS_NN = {"conv 3x3": 1.93, "conv 1x1": 2.70, "depthwise 3x3": 8.78, "linear": 2.09}
"""Per MAC, CMSIS-NN of 2026 at -O3, counted elsewhere in the same way on the same shapes."""

SPARSE = (
    "block2x4@8", "block4x4@8", "block1x4@8", "block16x4@8", "block2x2@8", "block16x1@8",
    "unstructured@8", "corner4g8@8", "pattern8g4@8",
)  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One layer; `per_dense_mac` divides by the products of the dense layer."""

    layer: str
    structure: str
    kernel: str
    instructions: int
    per_dense_mac: float
    per_kept_mac: float
    scratch_bytes: int
    flash_bytes: int
    cmsis_nn_per_dense_mac: float


def layers() -> list[tuple[str, Graph]]:
    """Name of the dense layer, and the layer."""
    image, weight = (1, 32, 16, 16), (32, 32, 3, 3)
    dense = [
        ("conv 3x3", layer(image, PADDED, weight)),
        ("conv 1x1", layer(image, at.Conv2d(fused="relu"), (32, 32, 1, 1))),
        ("depthwise 3x3", layer(image, DEPTHWISE, (32, 1, 3, 3))),
        ("linear", layer((1, 256), at.Linear(fused="relu"), (32, 256))),
    ]
    return dense + [("conv 3x3", layer(image, PADDED, weight, text)) for text in SPARSE]


def layer(
    shape: tuple[int, ...], attributes: at.Conv2d | at.Linear, weight_shape: tuple[int, ...],
    structure: str | None = None,
) -> Graph:  # fmt: skip
    """A graph of one layer with relu, its zero point the least value, as calibration finds it."""
    rng = numpy_generator(0, "cortex_m", str(weight_shape))
    weight = rng.integers(-127, 128, weight_shape).astype(np.int8)
    if structure is not None:
        projected = parse(structure).project(torch.tensor(weight, dtype=torch.float32))
        weight = projected.numpy().astype(np.int8)
    k = weight_shape[0]
    norms = np.sqrt((weight.astype(np.float64) ** 2).reshape(k, -1).sum(axis=1))
    scales = tuple((1 / np.maximum(norms, 1)).tolist())
    bias = rng.integers(-2000, 2000, k).astype(np.int32)
    out = output_shape(attributes, (shape, weight_shape, (k,)))
    tensors = (
        Tensor("x", shape, DType.I8, Quantisation((0.02,), -3)),
        Tensor("w", weight_shape, DType.I8, Quantisation(scales), weight, structure),
        Tensor("b", (k,), DType.I32, Quantisation(tuple(0.02 * s for s in scales)), bias),
        Tensor("y", out, DType.I8, Quantisation((0.02,), -128)),
    )
    op = Op("y", attributes, ("x", "w", "b"))
    return Graph.build("layer", ("x",), ("y",), (op,), {t.name: t for t in tensors}, QuantSpec())


def measure(name: str, graph: Graph, core: str = "cortex-m4") -> Row:
    """Build and count one layer."""
    program = compile_program(graph, core, verify=False)
    runner, (step,) = program.runner, program.source.steps
    assert isinstance(runner, CortexMRunner)
    weight = graph.weight(graph.ops[0])
    assert weight is not None
    dense, kept = macs(graph, graph.ops[0]), kept_macs(graph, graph.ops[0])
    instructions = program.measure().instructions["y"]
    return Row(
        name, weight.structure or "dense", f"{step.kernel} {step.code.variant}", instructions,
        instructions / dense, instructions / kept, step.code.scratch_bytes,
        runner.linked.image.flash_bytes, CMSIS_NN[name],
    )  # fmt: skip


def table(rows: list[Row], core: str) -> Table:
    """For people."""
    shown = Table(title=f"int8 layers, emulated {core}, instructions per multiply-accumulate")
    for column in ("layer", "structure", "kernel", "dense", "kept", "CMSIS-NN", "fewer",
                   "scratch B", "flash B"):  # fmt: skip
        left = column in ("layer", "structure", "kernel")
        shown.add_column(column, justify="left" if left else "right")
    for row in rows:
        shown.add_row(
            row.layer, row.structure, row.kernel, f"{row.per_dense_mac:.3f}",
            f"{row.per_kept_mac:.2f}", f"{row.cmsis_nn_per_dense_mac:.2f}",
            f"{row.cmsis_nn_per_dense_mac / row.per_dense_mac:.1f}x", f"{row.scratch_bytes:,}",
            f"{row.flash_bytes:,}",
        )  # fmt: skip
    return shown


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", type=Path, help="file to write the results to")
    parser.add_argument("--core", choices=("cortex-m4", "cortex-m7"), default="cortex-m4")
    arguments = parser.parse_args()
    rows = [measure(name, graph, arguments.core) for name, graph in layers()]
    Console(width=max(Console().width, 120)).print(table(rows, arguments.core))
    if arguments.json is not None:
        write_json(arguments.json, {"stamp": stamp(), "rows": [asdict(row) for row in rows]})


if __name__ == "__main__":
    main()
