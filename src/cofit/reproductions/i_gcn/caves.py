"""A graph rich in cliques: caves whose nodes know one another, and hubs that know many caves."""

from __future__ import annotations

import numpy as np
import torch

from cofit.core import numpy_generator
from cofit.graphs import Graph


def caves_with_hubs(caves: int, size: int, hubs: int, reach: int, seed: int) -> Graph:
    """An undirected graph of `caves` cliques of `size` nodes, its nodes numbered at random.

    Every cave knows one hub with all its nodes, in turn; every hub knows `reach` other random
    nodes, other hubs among them.
    """
    draw = numpy_generator(seed, "caves")
    n = caves * size + hubs
    node = np.arange(caves * size).reshape(caves, size)
    first, second = np.triu_indices(size, 1)
    inside = np.stack([node[:, first].ravel(), node[:, second].ravel()])
    hub = caves * size + np.arange(hubs)
    owners = np.stack([np.repeat(hub[np.arange(caves) % hubs], size), node.ravel()])
    far = np.stack([np.repeat(hub, reach), draw.integers(n, size=hubs * reach)])
    edges = draw.permutation(n)[np.concatenate([inside, owners, far], axis=1)]
    return Graph.from_edges(torch.from_numpy(edges), n).without_self_loops().symmetrised()
