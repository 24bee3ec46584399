"""Floor 4: targets say what a graph costs on them.

`target("host")` measures on this CPU; `target("cortex-m4")` links for a board and emulates it;
`target("eyeriss")` models an accelerator, `target("forms")` a chip of in-memory arrays.
`host_ceilings` and `roofline_of` say what the hardware would allow at most;
`CostTable` keeps the cost of single ops, which is what allocation under a budget works with.
"""

from cofit.codegen.machine import cpu_name
from cofit.targets.arrays import ArrayTarget
from cofit.targets.ceilings import Ceilings, cortex_m_ceilings, host_ceilings
from cofit.targets.contract import Limits, Target
from cofit.targets.cortex_m import CortexM
from cofit.targets.dataflow import Accelerator
from cofit.targets.doctor import Tool, toolchain_report
from cofit.targets.host import HostTarget
from cofit.targets.instructions import Executed, executed_by_step
from cofit.targets.lookup import Modelled, known_targets, target
from cofit.targets.platforms import Platform
from cofit.targets.roofline import Roofline, roofline_of, traffic
from cofit.targets.signature import OpSignature, one_op_graph, signature_of
from cofit.targets.table import CostTable, table_key
from cofit.targets.together import time_together
from cofit.targets.work import Work, work_of

__all__ = [
    "Accelerator",
    "ArrayTarget",
    "Ceilings",
    "CortexM",
    "CostTable",
    "Executed",
    "HostTarget",
    "Limits",
    "Modelled",
    "OpSignature",
    "Platform",
    "Roofline",
    "Target",
    "Tool",
    "Work",
    "cortex_m_ceilings",
    "cpu_name",
    "executed_by_step",
    "host_ceilings",
    "known_targets",
    "one_op_graph",
    "roofline_of",
    "signature_of",
    "table_key",
    "target",
    "time_together",
    "toolchain_report",
    "traffic",
    "work_of",
]
