"""Graph convolutions on an adjacency: GCN, GraphSAGE, GAT, GIN and EdgeConv.

Every layer is called as `layer(adjacency, x)` with one row of `x` per source, and gives one row per
destination; the destinations are the first sources. A layer with `takes_sparse` also takes the
features of a whole graph as `SparseRows`.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from cofit.core import ConfigError
from cofit.graphs.adjacency import Adjacency
from cofit.graphs.aggregate import aggregate, check_reduction
from cofit.graphs.edges import attend, edge_softmax, reduce_edges
from cofit.graphs.features import GATHER_MACS, Features, SparseRows, linear


def transform_first(adjacency: Adjacency, x: torch.Tensor, d_out: int) -> bool:
    """Whether `A (x W)` costs less than `(A x) W`, forward and backward together."""
    sizes = (adjacency.num_src, adjacency.num_dst, adjacency.num_edges)
    saved, added = order_macs(
        sizes, (x.shape[1], d_out), x.requires_grad, torch.is_grad_enabled()
    )  # fmt: skip
    return added < saved


def order_macs(
    sizes: tuple[float, float, float],
    widths: tuple[int, int],
    differentiable: bool,
    backward: bool = True,
) -> tuple[float, float]:
    """What `A (x W)` saves in gathering over `(A x) W` and adds in products.

    In multiply-accumulates; a gathered value counts as `GATHER_MACS`.

    The backward pass repeats each aggregation on the transpose, except for features that need no
    gradient: these are aggregated forward only.

    Args:
        sizes: sources, destinations and edges of A.
        widths: of x and of the result.
        differentiable: whether x needs a gradient.
        backward: whether there is a backward pass.
    """
    (sources, destinations, edges), (d_in, d_out) = sizes, widths
    products = (3 if differentiable else 2) if backward else 1
    saved = (2 if differentiable else 1) * d_in - (2 if backward else 1) * d_out
    added = products * (sources - destinations) * d_in * d_out
    return edges * saved * GATHER_MACS, added


def aggregate_linear(
    adjacency: Adjacency, x: Features, weight: torch.Tensor, reduce: str = "sum"
) -> torch.Tensor:
    """`reduce` over in-neighbours of `x @ weight.T`, in the cheaper of the two orders."""
    if isinstance(x, SparseRows) or transform_first(adjacency, x, len(weight)):
        return aggregate(adjacency, linear(x, weight), reduce)
    return F.linear(aggregate(adjacency, x, reduce), weight)


class GCN(nn.Module):
    """D^-1/2 (A + I) D^-1/2 x W + b.

    Source: T. Kipf, M. Welling, ICLR 2017, equation 2.
    """

    def __init__(self, d_in: int, d_out: int, bias: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(_glorot(d_out, d_in))
        self.bias = nn.Parameter(torch.zeros(d_out)) if bias else None
        self.takes_sparse = True

    def forward(self, adjacency: Adjacency, x: Features) -> torch.Tensor:
        """(num_src, d_in) to (num_dst, d_out)."""
        result = aggregate_linear(adjacency.normalised, x, self.weight)
        return result if self.bias is None else result + self.bias


class SAGE(nn.Module):
    """W_own x + W_neighbours reduce(neighbours) + b.

    Source: W. Hamilton, R. Ying, J. Leskovec, "Inductive Representation Learning on Large Graphs",
    NeurIPS 2017, the mean aggregator as in common use: two matrices, no normalisation.

    Args:
        d_in: width of the input.
        d_out: width of the output.
        reduce: "mean", "sum", "max" or "min".
    """

    def __init__(self, d_in: int, d_out: int, reduce: str = "mean") -> None:
        super().__init__()
        check_reduction(reduce)
        self.reduce = reduce
        self.neighbours = nn.Linear(d_in, d_out)
        self.own = nn.Linear(d_in, d_out, bias=False)
        self.takes_sparse = reduce in ("sum", "mean")  # the others do not commute with a matrix

    def forward(self, adjacency: Adjacency, x: Features) -> torch.Tensor:
        """(num_src, d_in) to (num_dst, d_out)."""
        if self.takes_sparse:
            weight = self.neighbours.weight
            result = aggregate_linear(adjacency, x, weight, self.reduce) + self.neighbours.bias
        else:
            assert isinstance(x, torch.Tensor)
            result = self.neighbours(aggregate(adjacency, x, self.reduce))
        own = x if isinstance(x, SparseRows) else x[: adjacency.num_dst]
        return result + linear(own, self.own.weight)


class GAT(nn.Module):
    """Attention over the in-neighbours and the node itself.

    The logit of u -> v is LeakyReLU(a_source . W x_u + a_target . W x_v); self-loops of the graph
    are replaced by one per node. Weights of the adjacency are not applied.

    Source: P. Velickovic et al., "Graph Attention Networks", ICLR 2018.

    Args:
        d_in: width of the input.
        d_out: width of each head.
        heads: attention heads.
        concat: heads side by side; else their mean.
        dropout: of the attention, while training.
        slope: of LeakyReLU.
    """

    def __init__(
        self,
        d_in: int,
        d_out: int,
        heads: int = 1,
        *,
        concat: bool = True,
        dropout: float = 0.0,
        slope: float = 0.2,
    ) -> None:
        super().__init__()
        self.heads, self.d_out, self.concat = heads, d_out, concat
        self.dropout, self.slope = dropout, slope
        self.weight = nn.Parameter(_glorot(heads * d_out, d_in))
        self.source = nn.Parameter(_glorot(heads, d_out))
        self.target = nn.Parameter(_glorot(heads, d_out))
        self.bias = nn.Parameter(torch.zeros(heads * d_out if concat else d_out))
        self.takes_sparse = True

    def forward(self, adjacency: Adjacency, x: Features) -> torch.Tensor:
        """(num_src, d_in) to (num_dst, heads d_out), or (num_dst, d_out) of a mean."""
        edges = adjacency.looped
        h = linear(x, self.weight).view(-1, self.heads, self.d_out)
        source = (h * self.source).sum(2)
        target = (h[: edges.num_dst] * self.target).sum(2)
        logits = source.index_select(0, edges.indices)
        logits = logits + target.index_select(0, edges.destinations)
        attention = edge_softmax(edges, F.leaky_relu(logits, self.slope))
        attention = F.dropout(attention, self.dropout, self.training)
        outputs = attend(edges, h, attention)
        return (outputs.flatten(1) if self.concat else outputs.mean(1)) + self.bias


class GIN(nn.Module):
    """network((1 + eps) x + sum of the in-neighbours).

    Source: K. Xu et al., "How Powerful are Graph Neural Networks?", ICLR 2019, equation 4.1.

    Args:
        network: applied to each node.
        eps: weight of the node itself above one.
        train_eps: learn it.
    """

    def __init__(self, network: nn.Module, eps: float = 0.0, train_eps: bool = False) -> None:
        super().__init__()
        self.network = network
        self.eps = nn.Parameter(torch.tensor(eps), requires_grad=train_eps)

    def forward(self, adjacency: Adjacency, x: torch.Tensor) -> torch.Tensor:
        """(num_src, d_in) to the network's width for (num_dst, d_in)."""
        total = aggregate(adjacency, x) + (1 + self.eps) * x[: adjacency.num_dst]
        result: torch.Tensor = self.network(total)
        return result


class EdgeConv(nn.Module):
    """reduce over in-neighbours u of network([x_v ; x_u - x_v]).

    Source: Y. Wang et al., "Dynamic Graph CNN for Learning on Point Clouds", TOG 2019.

    Args:
        network: from 2 d_in channels; per edge.
        reduce: "max", "mean", "sum" or "min".
        split: compute the network's first layer, a Linear, per node instead of per edge:
            W [x_v ; x_u - x_v] = (W_1 - W_2) x_v + W_2 x_u. The same but for rounding, and as many
            times fewer MACs as a node has neighbours.

    Raises:
        ConfigError: `split` of a network that does not begin with a Linear.
    """

    def __init__(self, network: nn.Module, reduce: str = "max", split: bool = False) -> None:
        super().__init__()
        check_reduction(reduce)
        self.network, self.reduce, self.split = network, reduce, split
        if split and not isinstance(self._parts()[0], nn.Linear):
            raise ConfigError(
                "split=True needs a network that is a Linear or a Sequential beginning with one; "
                "leave it out"
            )

    def forward(self, adjacency: Adjacency, x: torch.Tensor) -> torch.Tensor:
        """(num_src, d_in) to the network's width for (num_dst, 2 d_in)."""
        if self.split:
            messages = self._split_messages(adjacency, x)
        else:
            own = x.index_select(0, adjacency.destinations)
            messages = torch.cat([own, x.index_select(0, adjacency.indices) - own], 1)
            messages = self.network(messages)
        return reduce_edges(adjacency, messages, self.reduce)

    def _split_messages(self, adjacency: Adjacency, x: torch.Tensor) -> torch.Tensor:
        first, *others = self._parts()
        assert isinstance(first, nn.Linear)
        of_own, of_difference = first.weight.tensor_split(2, 1)
        own = F.linear(x[: adjacency.num_dst], of_own - of_difference, first.bias)
        other = F.linear(x, of_difference)
        messages = other.index_select(0, adjacency.indices)
        messages = messages + own.index_select(0, adjacency.destinations)
        for module in others:
            messages = module(messages)
        return messages

    def _parts(self) -> list[nn.Module]:
        return list(self.network) if isinstance(self.network, nn.Sequential) else [self.network]


def _glorot(rows: int, columns: int) -> torch.Tensor:
    return nn.init.xavier_uniform_(torch.empty(rows, columns))
