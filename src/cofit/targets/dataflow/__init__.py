"""Accelerators in a closed form: cycles, energy and area of layers under mappings, by the batch.

`Accelerator(accelerator("eyeriss"))` is a target. Below it, `evaluate` costs batches of loop nests,
`search` finds the best one, `map_rows` does so for row-stationary arrays, `systolic_cycles` counts
as SCALE-Sim does, and `read_maestro` reads MAESTRO's mapping files.
"""

from cofit.targets.dataflow.cost import Costs, evaluate
from cofit.targets.dataflow.directives import nest_from
from cofit.targets.dataflow.energy import (
    dram_pj_per_bit,
    operation_pj,
    published_energies,
    read_energies,
    resized,
    sram_pj_per_bit,
)
from cofit.targets.dataflow.hardware import Axis, Hardware, Memory
from cofit.targets.dataflow.layer import DIMS, TENSORS, Layer, Layers
from cofit.targets.dataflow.maestro import parse_dataflow, parse_network, read_maestro
from cofit.targets.dataflow.mapped import Mapped
from cofit.targets.dataflow.nest import Nest
from cofit.targets.dataflow.row_stationary import map_rows
from cofit.targets.dataflow.search import search
from cofit.targets.dataflow.systolic import systolic_cycles
from cofit.targets.dataflow.tables import accelerator, known_accelerators, read_accelerator
from cofit.targets.dataflow.target import Accelerator

__all__ = [
    "DIMS",
    "TENSORS",
    "Accelerator",
    "Axis",
    "Costs",
    "Hardware",
    "Layer",
    "Layers",
    "Mapped",
    "Memory",
    "Nest",
    "accelerator",
    "dram_pj_per_bit",
    "evaluate",
    "known_accelerators",
    "map_rows",
    "nest_from",
    "operation_pj",
    "parse_dataflow",
    "parse_network",
    "published_energies",
    "read_accelerator",
    "read_energies",
    "read_maestro",
    "resized",
    "search",
    "sram_pj_per_bit",
    "systolic_cycles",
]
