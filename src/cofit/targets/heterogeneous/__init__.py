"""Several sub-accelerators that share work, a buffer and a budget of units (HERALD, NASAIC).

A `Bench` is a `Mix` of networks on a `Chip`; `designs` enumerates partitions of the chip, `explore`
schedules the mix on each. Below it, `cost_table` costs layers on arrays of many sizes, `schedule`
and `best_schedule` place layers of a `Workload`, `check_schedule` checks every rule,
`least_energy` and `allocate_design` work under hard limits.
"""

from cofit.targets.heterogeneous.allocation import (
    Allocated,
    Specs,
    allocate_design,
    least_energy,
    least_energy_exact,
    penalty,
    refined,
)
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
    "Allocated",
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
    "Specs",
    "Workload",
    "allocate_design",
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
    "least_energy",
    "least_energy_exact",
    "network_of",
    "packed_edp",
    "penalty",
    "perfect_edp",
    "reconfigurable",
    "refined",
    "relaxed_makespan",
    "scaled_out",
    "schedule",
]
