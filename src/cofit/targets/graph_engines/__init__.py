"""Accelerators of graph aggregation: islands (I-GCN), two branches (GCoD), and plain engines."""

from cofit.targets.graph_engines.cycles import (
    Cycles,
    Work,
    balance,
    branch_cycles,
    dealt,
    island_cycles,
    single_cycles,
)
from cofit.targets.graph_engines.engine import (
    GraphEngine,
    Locator,
    graph_engine,
    graph_engines,
    read_graph_engine,
)

__all__ = [
    "Cycles",
    "GraphEngine",
    "Locator",
    "Work",
    "balance",
    "branch_cycles",
    "dealt",
    "graph_engine",
    "graph_engines",
    "island_cycles",
    "read_graph_engine",
    "single_cycles",
]
