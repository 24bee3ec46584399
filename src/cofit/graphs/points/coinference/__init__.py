"""One inference on two machines: networks cut between a device and an edge server.

Source: A. Zhou et al., "GCoDE: Efficient Device-Edge Co-Inference for GNNs via
Architecture-Mapping Co-Search", DAC 2024, arXiv 2404.05605.
"""

from cofit.graphs.points.coinference.device import CoInference, Inference
from cofit.graphs.points.coinference.dispatcher import Dispatcher, Entry, Monitor
from cofit.graphs.points.coinference.edge import EdgeServer
from cofit.graphs.points.coinference.estimate import Estimate
from cofit.graphs.points.coinference.lut import Lut
from cofit.graphs.points.coinference.process import EdgeProcess, edge_process
from cofit.graphs.points.coinference.search import (
    Design,
    Objective,
    Predicted,
    co_search,
    first_within,
    pareto,
    sequential_search,
)
from cofit.graphs.points.coinference.slowdown import Slowdown
from cofit.graphs.points.coinference.space import DesignSpace, mappings, without_transfers
from cofit.graphs.points.coinference.split import (
    Cuts,
    cuts_of,
    from_wire,
    run,
    run_local,
    sent_down,
    sent_up,
    sides,
    to_wire,
)
from cofit.graphs.points.coinference.zoo import Zoo, load_zoo

__all__ = [
    "CoInference",
    "Cuts",
    "Design",
    "DesignSpace",
    "Dispatcher",
    "EdgeProcess",
    "EdgeServer",
    "Entry",
    "Estimate",
    "Inference",
    "Lut",
    "Monitor",
    "Objective",
    "Predicted",
    "Slowdown",
    "Zoo",
    "co_search",
    "cuts_of",
    "edge_process",
    "first_within",
    "from_wire",
    "load_zoo",
    "mappings",
    "pareto",
    "run",
    "run_local",
    "sent_down",
    "sent_up",
    "sequential_search",
    "sides",
    "to_wire",
    "without_transfers",
]
