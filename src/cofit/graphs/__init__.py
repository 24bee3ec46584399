"""Floor 6: graph learning. Graphs are CSR by destination; PyG is an adapter, not a base."""

from cofit.graphs.adjacency import Adjacency, Transpose
from cofit.graphs.graph import Graph

__all__ = ["Adjacency", "Graph", "Transpose"]
