"""METIS: balanced parts of a graph with few edges, or little traffic, between them."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch

from cofit.core import ConfigError, MissingDependencyError
from cofit.graphs.graph import Graph

_OBJECTIVES = {"cut": 0, "volume": 1}


def metis_parts(
    graph: Graph,
    parts: int,
    *,
    objective: Literal["cut", "volume"] = "cut",
    weights: torch.Tensor | None = None,
    seed: int = 0,
    tries: int = 1,
) -> tuple[torch.Tensor, int]:
    """(n,) the part of every node, and what METIS says of its objective.

    Direction, self-loops and parallel edges do not count.

    Source: G. Karypis, V. Kumar, SIAM J. Sci. Comput., 1998; METIS 5 through pymetis.

    Args:
        graph: any.
        parts: how many, at most n.
        objective: edges between parts, or rows that parts need of one another.
        weights: (n,) whole numbers whose sums are balanced; ones without it.
        seed: of METIS.
        tries: of which the best is taken.

    Raises:
        ConfigError: more parts than nodes, or none.
        MissingDependencyError: pymetis is not installed.
    """
    if not 1 <= parts <= graph.num_nodes:
        raise ConfigError(
            f"{parts} parts of {graph.num_nodes} nodes; give from 1 to {graph.num_nodes}"
        )
    if parts == 1:
        return torch.zeros(graph.num_nodes, dtype=torch.int64), 0
    try:
        import pymetis
    except ImportError as error:
        raise MissingDependencyError("pymetis", "graphs", "METIS") from error
    plain = graph.without_self_loops().symmetrised()
    options = pymetis.Options()
    options.seed, options.objtype, options.ncuts = seed, _OBJECTIVES[objective], tries
    adjacency = pymetis.CSRAdjacency(
        plain.indptr.numpy().astype(np.int32), plain.indices.numpy().astype(np.int32)
    )
    heavy = None if weights is None else weights.numpy().astype(np.int32)
    # recursive bisection, METIS's advice for few parts, has no volume objective
    found = pymetis.part_graph(parts, adjacency, vweights=heavy, options=options, recursive=False)
    return torch.from_numpy(np.asarray(found.vertex_part, np.int64)), int(found[0])
