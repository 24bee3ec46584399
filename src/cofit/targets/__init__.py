"""Floor 4: targets say what a graph costs on them.

`target("host")` measures on this CPU; `target("cortex-m4")` links for a board and emulates it.
`CostTable` keeps the cost of single ops, which is what allocation under a budget works with.
"""

from cofit.targets.contract import Limits, Target
from cofit.targets.cortex_m import CortexM
from cofit.targets.doctor import Tool, cpu_name, toolchain_report
from cofit.targets.host import HostTarget
from cofit.targets.lookup import known_targets, target
from cofit.targets.signature import OpSignature, one_op_graph, signature_of
from cofit.targets.table import CostTable, table_key

__all__ = [
    "CortexM",
    "CostTable",
    "HostTarget",
    "Limits",
    "OpSignature",
    "Target",
    "Tool",
    "cpu_name",
    "known_targets",
    "one_op_graph",
    "signature_of",
    "table_key",
    "target",
    "toolchain_report",
]
