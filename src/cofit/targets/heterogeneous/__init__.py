"""Several sub-accelerators that share work, a buffer and a budget of units (HERALD, NASAIC).

A `Bench` is a `Mix` of networks on a `Chip`; `designs` enumerates partitions of the chip, `explore`
schedules the mix on each. Below it, `cost_table` costs layers on arrays of many sizes, `schedule`
and `best_schedule` place layers of a `Workload`, `check_schedule` checks every rule.
"""

from cofit.targets.heterogeneous.baselines import fixed, reconfigurable, scaled_out
from cofit.targets.heterogeneous.bounds import packed_edp, perfect_edp, relaxed_makespan
from cofit.targets.heterogeneous.chip import Chip, chip, known_chips
from cofit.targets.heterogeneous.costs import CostTable, cost_table
from cofit.targets.heterogeneous.dataflows import DATAFLOWS, Dataflow, dataflow
from cofit.targets.heterogeneous.exact import exhaustive
from cofit.targets.heterogeneous.networks import Job, Mix, Network, network_of
from cofit.targets.heterogeneous.partition import Bench, Design, Part, designs, explore
from cofit.targets.heterogeneous.scheduler import (
    Policy,
    best_schedule,
    earliest_finish,
    schedule,
)
from cofit.targets.heterogeneous.workload import Schedule, Workload, check_schedule

__all__ = [
    "DATAFLOWS",
    "Bench",
    "Chip",
    "CostTable",
    "Dataflow",
    "Design",
    "Job",
    "Mix",
    "Network",
    "Part",
    "Policy",
    "Schedule",
    "Workload",
    "best_schedule",
    "check_schedule",
    "chip",
    "cost_table",
    "dataflow",
    "designs",
    "earliest_finish",
    "exhaustive",
    "explore",
    "fixed",
    "known_chips",
    "network_of",
    "packed_edp",
    "perfect_edp",
    "reconfigurable",
    "relaxed_makespan",
    "scaled_out",
    "schedule",
]
