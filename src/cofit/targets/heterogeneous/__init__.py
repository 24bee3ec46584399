"""Several sub-accelerators that share work, a buffer and a budget of units (HERALD, NASAIC)."""

from cofit.targets.heterogeneous.exact import exhaustive
from cofit.targets.heterogeneous.scheduler import Policy, best_schedule, schedule
from cofit.targets.heterogeneous.workload import Schedule, Workload, check_schedule

__all__ = [
    "Policy",
    "Schedule",
    "Workload",
    "best_schedule",
    "check_schedule",
    "exhaustive",
    "schedule",
]
