"""One inference on two machines: networks cut between a device and an edge server.

Source: A. Zhou et al., "GCoDE: Efficient Device-Edge Co-Inference for GNNs via
Architecture-Mapping Co-Search", DAC 2024, arXiv 2404.05605.
"""

from cofit.graphs.points.coinference.device import CoInference, Inference
from cofit.graphs.points.coinference.dispatcher import Dispatcher, Entry, Monitor
from cofit.graphs.points.coinference.edge import EdgeServer
from cofit.graphs.points.coinference.estimate import Estimate
from cofit.graphs.points.coinference.lut import Lut, typical
from cofit.graphs.points.coinference.mappings import mappings, place, without_transfers
from cofit.graphs.points.coinference.process import EdgeProcess, edge_process
from cofit.graphs.points.coinference.slowdown import Slowdown
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
    "Dispatcher",
    "EdgeProcess",
    "EdgeServer",
    "Entry",
    "Estimate",
    "Inference",
    "Lut",
    "Monitor",
    "Slowdown",
    "Zoo",
    "cuts_of",
    "edge_process",
    "from_wire",
    "load_zoo",
    "mappings",
    "place",
    "run",
    "run_local",
    "sent_down",
    "sent_up",
    "sides",
    "to_wire",
    "typical",
    "without_transfers",
]
