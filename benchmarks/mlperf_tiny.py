"""The four MLPerf Tiny networks in int8 on emulated Cortex-M4 and M7, dense and pruned.

`python -m benchmarks.mlperf_tiny [--json FILE] [--inputs N]`

Instructions are counted exactly, on the first input; milliseconds are modelled cycles at the
clock of the default board. Bit-exact samples are inputs whose output bytes equal the integer
reference. Weights are the real ones (COFIT_MODELS). ResNet-8 is calibrated and run on CIFAR-10,
train and test images; the data sets of the others are not at hand, they are calibrated and run
on seeded random numbers in the range of their real inputs, which serves for counts and
exactness but says nothing of accuracy. So do pruned ones, whose masks are random: of all layers but
the first, the last and depthwise ones, which have no blocks.
"""

from __future__ import annotations

import argparse
import os
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from benchmarks.masks import masked
from benchmarks.stamp import stamp
from cofit.codegen import compile as compile_program
from cofit.codegen.cortex_m import CortexMRunner, predict
from cofit.codegen.layout import to_memory
from cofit.core import numpy_generator
from cofit.core.files import write_json
from cofit.data import load
from cofit.ir import Graph, calibrate, quantise, quantise_input, run_integer, trace
from cofit.models import load_model

LEFT = ("network", "weights", "core")
CORES = ("cortex-m4", "cortex-m7")
CALIBRATION = 64
CMSIS_NN = {
    "resnet8": 29.84e6,
    "ds_cnn": 7.84e6,
    "mobilenet_v1_025": 24.71e6,
    "autoencoder": 0.579e6,
}
"""Instructions that CMSIS-NN of 2026 retires at -O3, counted elsewhere in the same way."""

PRUNED = "block4x4@4"

RANGES = {"ds_cnn": (-120.0, 25.0), "mobilenet_v1_025": (0.0, 1.0), "autoencoder": (-80.0, 15.0)}
"""Of the random inputs: MFCCs, pixels, log-mel energies."""


@dataclass(frozen=True, eq=False)
class Network:
    """A quantised network, and real inputs (N, ...) it was not calibrated on."""

    name: str
    floating: Graph
    integer: Graph
    x: NDArray[np.float32]
    data: str
    structure: str

    @cached_property
    def stored(self) -> NDArray[np.int8]:
        """The inputs as int8."""
        return quantise_input(self.integer, self.x)

    @cached_property
    def reference(self) -> NDArray[np.int8]:
        """Stored outputs of the integer reference."""
        inputs = {self.integer.inputs[0]: self.stored}
        return run_integer(self.integer, inputs)[self.integer.outputs[0]]


@dataclass(frozen=True)
class Row:
    """One network on one core."""

    network: str
    structure: str
    core: str
    data: str
    instructions: int
    modelled_s: float
    flash_bytes: int
    arena_bytes: int
    ram_bytes: int
    predicted_flash_bytes: int
    predicted_ram_bytes: int
    bit_exact_samples: int
    samples: int
    cmsis_nn_instructions: float


def network(name: str, models: Path, count: int, structure: str = "dense") -> Network:
    """Trace, prune, calibrate and quantise a network; `count` inputs to run it on."""
    loaded = load_model(f"mlperf_tiny/{name}", models / "mlperf_tiny" / f"{name}.safetensors")
    if name in RANGES:
        low, high = RANGES[name]
        shape = (CALIBRATION + count, *loaded.input_shape)
        values = numpy_generator(0, "mlperf_tiny", name).uniform(low, high, shape)
        everything = torch.from_numpy(values.astype(np.float32))
        calibration, x = everything[:CALIBRATION], everything[CALIBRATION:]
        data = f"seeded random numbers in [{low:g}, {high:g}]"
    else:
        dataset = load("cifar10")
        calibration = loaded.preprocess(dataset.train.inputs[:CALIBRATION])
        x, data = loaded.preprocess(dataset.test.inputs[:count]), dataset.name
    graph = trace(loaded.module, calibration[:1], name)
    if structure != "dense":
        graph = masked(graph, (structure,))
    integer = quantise(graph, calibrate(graph, [calibration]))
    return Network(name, graph, integer, x.numpy(), data, structure)


def measure(net: Network, core: str) -> Row:
    """Build, predict, count, and compare with the integer reference."""
    graph = net.integer
    program = compile_program(graph, core, verify=False)
    runner = program.runner
    assert isinstance(runner, CortexMRunner)
    wanted = to_memory(net.reference)
    got = np.asarray(program.run_native(to_memory(net.stored)))
    exact = (got == wanted).reshape(len(wanted), -1).all(axis=1)
    measured = program.measure()
    image, prediction = runner.linked.image, predict(runner.linked.objects)
    return Row(
        net.name, net.structure, core, net.data,
        sum(measured.instructions.values()), measured.latency_s,
        image.flash_bytes, program.plan.arena_bytes, image.ram_bytes, prediction.flash_bytes,
        prediction.ram_bytes, int(exact.sum()), len(exact), CMSIS_NN[net.name],
    )  # fmt: skip


def table(rows: list[Row]) -> Table:
    """For people."""
    shown = Table(title="MLPerf Tiny, int8, emulated")
    for column in (*LEFT, "M instr.", "CMSIS-NN", "ratio", "ms (model)", "flash B",
                   "arena B", "RAM B", "bit-exact"):  # fmt: skip
        shown.add_column(column, justify="left" if column in LEFT else "right")
    for row in rows:
        shown.add_row(
            row.network, row.structure, row.core, f"{row.instructions / 1e6:.3f}",
            f"{row.cmsis_nn_instructions / 1e6:.3f}",
            f"{row.instructions / row.cmsis_nn_instructions:.2f}", f"{row.modelled_s * 1e3:.2f}",
            f"{row.flash_bytes:,}", f"{row.arena_bytes:,}", f"{row.ram_bytes:,}",
            f"{row.bit_exact_samples} of {row.samples}",
        )  # fmt: skip
    return shown


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", type=Path, help="file to write the results to")
    parser.add_argument("--inputs", type=int, default=100, help="inputs per network and core")
    arguments = parser.parse_args()
    if "COFIT_MODELS" not in os.environ:
        parser.error("set COFIT_MODELS to the folder of the real networks")
    models = Path(os.environ["COFIT_MODELS"])
    networks = [
        network(name, models, arguments.inputs, structure)
        for name in CMSIS_NN
        for structure in ("dense", PRUNED)
    ]
    rows = [measure(net, core) for net in networks for core in CORES]
    Console(width=max(Console().width, 120)).print(table(rows))
    if arguments.json is not None:
        write_json(arguments.json, {"stamp": stamp(), "rows": [asdict(row) for row in rows]})


if __name__ == "__main__":
    main()
