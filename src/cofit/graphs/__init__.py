"""Floor 6: graph learning. Graphs are CSR by destination; PyG is an adapter, not a base."""

from cofit.graphs.adjacency import Adjacency, Transpose
from cofit.graphs.aggregate import aggregate
from cofit.graphs.edges import edge_softmax, reduce_edges
from cofit.graphs.graph import Graph
from cofit.graphs.layers import GAT, GCN, GIN, SAGE, EdgeConv
from cofit.graphs.loading import GraphSource, known_graphs, load_graph
from cofit.graphs.splits import random_split, stratified_split

__all__ = [
    "GAT",
    "GCN",
    "GIN",
    "SAGE",
    "Adjacency",
    "EdgeConv",
    "Graph",
    "GraphSource",
    "Transpose",
    "aggregate",
    "edge_softmax",
    "known_graphs",
    "load_graph",
    "random_split",
    "reduce_edges",
    "stratified_split",
]
