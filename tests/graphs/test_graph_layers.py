"""Every layer against its formula on a dense matrix and against PyG's layer of the same name."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from tests.graphs.dense import dense
from torch import nn

from cofit.core import ConfigError, torch_generator
from cofit.graphs import GAT, GCN, GIN, SAGE, Adjacency, EdgeConv, Graph
from cofit.graphs.layers import transform_first


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def wide(adjacency: Adjacency, d: int) -> torch.Tensor:
    generator = torch_generator(1)
    return torch.randn(adjacency.num_src, d, dtype=torch.float64, generator=generator)


@pytest.mark.parametrize(("d_in", "d_out"), [(12, 3), (3, 12)])
def test_gcn_formula(graph: Graph, block: Adjacency, d_in: int, d_out: int) -> None:
    layer = GCN(d_in, d_out).double()
    nn.init.normal_(layer.bias)
    for adjacency in (graph.adjacency, block):
        x = wide(adjacency, d_in)
        expected = dense(adjacency.normalised) @ x @ layer.weight.T + layer.bias
        torch.testing.assert_close(layer(adjacency, x), expected)


@pytest.mark.parametrize("reduce", ["sum", "mean", "max"])
def test_sage_formula(block: Adjacency, reduce: str) -> None:
    layer = SAGE(6, 4, reduce).double()
    x = wide(block, 6)
    matrix = dense(block)
    if reduce == "max":
        found = torch.stack([x[row > 0].amax(0) for row in matrix])
    else:
        found = matrix @ x
        if reduce == "mean":
            found = found / block.divisor[:, None]
    expected = found @ layer.neighbours.weight.T + layer.neighbours.bias
    expected = expected + x[: block.num_dst] @ layer.own.weight.T
    torch.testing.assert_close(layer(block, x), expected)


def test_gin_formula(block: Adjacency) -> None:
    layer = GIN(nn.Linear(6, 4), eps=0.3).double()
    x = wide(block, 6)
    expected = layer.network(dense(block) @ x + 1.3 * x[: block.num_dst])
    torch.testing.assert_close(layer(block, x), expected, rtol=1e-6, atol=1e-6)  # eps is float32


@pytest.mark.parametrize("concat", [True, False])
def test_gat_formula(graph: Graph, concat: bool) -> None:
    layer = GAT(6, 4, heads=3, concat=concat).double()
    nn.init.normal_(layer.bias)
    adjacency = graph.adjacency
    x = wide(adjacency, 6)
    h = (x @ layer.weight.T).view(-1, 3, 4)
    outputs = []
    count = dense(replace(adjacency.looped, weight=None))
    for head in range(3):
        source, target = h[:, head] @ layer.source[head], h[:, head] @ layer.target[head]
        logits = F.leaky_relu(source[None] + target[:, None], 0.2)
        share = count * logits.exp()  # parallel edges count each
        outputs.append((share / share.sum(1, keepdim=True)) @ h[:, head])
    expected = torch.cat(outputs, 1) if concat else torch.stack(outputs).mean(0)
    torch.testing.assert_close(layer(adjacency, x), expected + layer.bias)


def test_gat_drops_attention_only_in_training(graph: Graph) -> None:
    layer = GAT(6, 4, dropout=0.9).double()
    x = wide(graph.adjacency, 6)
    kept = layer(graph.adjacency, x)
    assert not torch.equal(kept, layer.eval()(graph.adjacency, x))
    assert torch.equal(layer(graph.adjacency, x), layer(graph.adjacency, x))


@pytest.mark.parametrize("reduce", ["max", "mean", "sum"])
def test_edge_conv_formula_and_its_split(block: Adjacency, reduce: str) -> None:
    network = nn.Sequential(nn.Linear(12, 8), nn.LeakyReLU(0.2), nn.Linear(8, 4)).double()
    x = wide(block, 6)
    expected = torch.zeros(block.num_dst, 4, dtype=torch.float64)
    for v in range(block.num_dst):
        others = x[block.indices[block.indptr[v] : block.indptr[v + 1]]]
        if len(others):
            messages = network(torch.cat([x[v].expand_as(others), others - x[v]], 1))
            expected[v] = messages.amax(0) if reduce == "max" else getattr(messages, reduce)(0)
    torch.testing.assert_close(EdgeConv(network, reduce)(block, x), expected)
    torch.testing.assert_close(EdgeConv(network, reduce, split=True)(block, x), expected)


def test_edge_conv_splits_only_what_begins_with_a_matrix() -> None:
    assert EdgeConv(nn.Linear(4, 2), split=True)
    with pytest.raises(ConfigError, match="split=True needs"):
        EdgeConv(nn.Sequential(nn.ReLU(), nn.Linear(4, 2)), split=True)


LAYERS = {
    "gcn": lambda: GCN(3, 2),
    "gcn wide": lambda: GCN(3, 9),
    "sage": lambda: SAGE(3, 2),
    "sage max": lambda: SAGE(3, 2, "max"),
    "gat": lambda: GAT(3, 2, heads=2),
    "gin": lambda: GIN(nn.Linear(3, 2), train_eps=True),
    "edge": lambda: EdgeConv(nn.Linear(6, 2)),
    "edge split": lambda: EdgeConv(nn.Linear(6, 2), split=True),
}


@pytest.mark.parametrize("name", LAYERS)
def test_gradients(block: Adjacency, name: str) -> None:
    layer = LAYERS[name]().double()
    x = wide(block, 3).requires_grad_()
    values = [x, *layer.parameters()]
    names = [key for key, _ in layer.named_parameters()]

    def run(x: torch.Tensor, *parameters: torch.Tensor) -> torch.Tensor:
        state = dict(zip(names, parameters, strict=True))
        return torch.func.functional_call(layer, state, (block, x))

    torch.autograd.gradcheck(run, values)


def test_order_of_matrix_and_aggregation(graph: Graph) -> None:
    adjacency = graph.adjacency
    x = wide(adjacency, 20)
    assert transform_first(adjacency, x, 4)
    assert not transform_first(adjacency, x, 80)
    # features without a gradient are aggregated once when first, a product twice when second
    assert not transform_first(adjacency, x, 19)
    with torch.no_grad():
        assert transform_first(adjacency, x, 19)
    assert transform_first(adjacency, x.requires_grad_(), 19)


def pyg_layers() -> dict[str, tuple[nn.Module, nn.Module]]:
    """Ours and PyG's with the same parameters."""
    nn_ = pytest.importorskip("torch_geometric.nn")
    pairs = {}
    ours, theirs = GCN(6, 4), nn_.GCNConv(6, 4)
    theirs.load_state_dict({"bias": ours.bias, "lin.weight": ours.weight})
    pairs["gcn"] = ours, theirs
    for reduce in ("mean", "sum", "max"):
        ours, theirs = SAGE(6, 4, reduce), nn_.SAGEConv(6, 4, aggr=reduce)
        theirs.load_state_dict(
            {
                "lin_l.weight": ours.neighbours.weight,
                "lin_l.bias": ours.neighbours.bias,
                "lin_r.weight": ours.own.weight,
            }
        )
        pairs[f"sage {reduce}"] = ours, theirs
    for concat in (True, False):
        ours, theirs = GAT(6, 4, 3, concat=concat), nn_.GATConv(6, 4, 3, concat=concat)
        theirs.load_state_dict(
            {
                "att_src": ours.source[None],
                "att_dst": ours.target[None],
                "bias": ours.bias,
                "lin.weight": ours.weight,
            }
        )
        pairs[f"gat {concat}"] = ours, theirs
    network = nn.Sequential(nn.Linear(6, 4), nn.ReLU())
    pairs["gin"] = GIN(network, 0.2), nn_.GINConv(network, 0.2)
    network = nn.Sequential(nn.Linear(12, 4), nn.ReLU())
    pairs["edge"] = EdgeConv(network), nn_.EdgeConv(network)
    return pairs


@pytest.mark.filterwarnings("ignore")  # of PyG itself
@pytest.mark.parametrize(
    "name", ["gcn", "sage mean", "sage sum", "sage max", "gat True", "gat False", "gin", "edge"]
)
def test_same_as_pyg(graph: Graph, name: str) -> None:
    ours, theirs = pyg_layers()[name]
    ours.double(), theirs.double()
    for bias in (getattr(ours, "bias", None), getattr(theirs, "bias", None)):
        if bias is not None:
            nn.init.constant_(bias, 0.7)
    # PyG keeps one of several self-loops of a node, so there are none here
    plain = graph.without_self_loops()
    x = wide(plain.adjacency, 6)
    mine, other = x.clone().requires_grad_(), x.clone().requires_grad_()
    result, expected = ours(plain.adjacency, mine), theirs(other, plain.edge_index)
    torch.testing.assert_close(result, expected, rtol=1e-6, atol=1e-7)
    draw = torch.randn(result.shape, dtype=x.dtype, generator=torch_generator(2))
    (result * draw).sum().backward()
    (expected * draw).sum().backward()
    torch.testing.assert_close(mine.grad, other.grad, rtol=1e-6, atol=1e-7)
