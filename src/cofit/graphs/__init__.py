"""Floor 6: graph learning. Graphs are CSR by destination; PyG is an adapter, not a base."""

from cofit.graphs.adjacency import Adjacency, Transpose
from cofit.graphs.aggregate import aggregate
from cofit.graphs.edges import edge_softmax, reduce_edges
from cofit.graphs.generate import reddit_like, stochastic_block_model
from cofit.graphs.graph import Graph
from cofit.graphs.layers import GAT, GCN, GIN, SAGE, EdgeConv
from cofit.graphs.loaders import FullGraph, Loader, Sampled, Step
from cofit.graphs.loading import GraphSource, known_graphs, load_graph
from cofit.graphs.metis import metis_parts
from cofit.graphs.models import GNN, build_gnn
from cofit.graphs.nearest import knn
from cofit.graphs.operations import Operations, aggregate_normalised, plain_operations
from cofit.graphs.pyg import PygModule, from_pyg, to_pyg
from cofit.graphs.rows import RowStream, pull_stream, rcm_order
from cofit.graphs.sampling import NeighbourSampler, Sample
from cofit.graphs.scores import Metric, Scores, accuracy, evaluate, roc_auc
from cofit.graphs.splits import random_split, stratified_split
from cofit.graphs.training import GraphRecipe, History, Trained, train_graph

__all__ = [
    "GAT",
    "GCN",
    "GIN",
    "GNN",
    "SAGE",
    "Adjacency",
    "EdgeConv",
    "FullGraph",
    "Graph",
    "GraphRecipe",
    "GraphSource",
    "History",
    "Loader",
    "Metric",
    "NeighbourSampler",
    "Operations",
    "PygModule",
    "RowStream",
    "Sample",
    "Sampled",
    "Scores",
    "Step",
    "Trained",
    "Transpose",
    "accuracy",
    "aggregate",
    "aggregate_normalised",
    "build_gnn",
    "edge_softmax",
    "evaluate",
    "from_pyg",
    "knn",
    "known_graphs",
    "load_graph",
    "metis_parts",
    "plain_operations",
    "pull_stream",
    "random_split",
    "rcm_order",
    "reddit_like",
    "reduce_edges",
    "roc_auc",
    "stochastic_block_model",
    "stratified_split",
    "to_pyg",
    "train_graph",
]
