"""Floor 3: from a graph to verified C, for this machine and for Cortex-M.

`compile(graph, machine)` emits C (`emit`), plans its memory (`planner`), builds it (`build`), and
compares every step with the graph's meaning (`verify`) before it hands out a `Program`.
"""

from cofit.codegen.build import build
from cofit.codegen.emit import Source, Step, emit
from cofit.codegen.export import export_onnx, export_pt2
from cofit.codegen.kernel import Constant, Kernel, KernelCode
from cofit.codegen.machine import Machine, machine
from cofit.codegen.planner import Buffer, MemoryPlan, plan_memory
from cofit.codegen.program import Program, compile
from cofit.codegen.runner import Measurement, Runner
from cofit.codegen.save import load_program
from cofit.codegen.verify import verify

__all__ = [
    "Buffer",
    "Constant",
    "Kernel",
    "KernelCode",
    "Machine",
    "Measurement",
    "MemoryPlan",
    "Program",
    "Runner",
    "Source",
    "Step",
    "build",
    "compile",
    "emit",
    "export_onnx",
    "export_pt2",
    "load_program",
    "machine",
    "plan_memory",
    "verify",
]
