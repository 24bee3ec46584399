"""The vocabulary of point networks, its canonical form, and networks run from it."""

import pytest
import torch

from cofit.core import ConfigError, DataError, UnknownNameError, numpy_generator, torch_generator
from cofit.graphs import knn
from cofit.graphs.points import (
    ATTRIBUTES,
    MESSAGES,
    REDUCERS,
    Gene,
    Genes,
    PointNetwork,
    canonical,
    decode,
    message_width,
    messages,
    needs,
    parse,
    reduce_messages,
    spell,
    widths,
)


def clouds(number: int, n: int, d: int = 3, seed: int = 0) -> torch.Tensor:
    return torch.randn(number, n, d, generator=torch_generator(seed, "clouds"))


def random_genes(seed: int, length: int = 12) -> Genes:
    """Narrow enough for a fast test: aggregates that widen stand next to narrow combines."""
    generator = numpy_generator(seed, "genes")
    made = []
    for _ in range(length):
        op = list(ATTRIBUTES)[generator.integers(len(ATTRIBUTES))]
        options = ATTRIBUTES[op][:3] if op == "combine" else ATTRIBUTES[op]
        made.append(Gene(op, options[generator.integers(len(options))]))
        if op == "aggregate":
            made.append(Gene("combine", "8"))
    return tuple(made)


def test_01_published_lines_have_the_published_widths() -> None:
    genes = decode((1, 5, 3, 2, 3, 2, 1, 2, 0, 2, 2, 4), (2, 0, 0, 6, 0, 6, 4, 6, 0, 6, 6, 3))
    assert widths(genes) == (3, 32, 32, 32, 64, 64, 128, 128, 256, 256, 512, 1024, 2048)
    assert spell(genes[:4]) == "combine:32 communicate sample:knn aggregate:target|relative/max"


def brute_force(x: list[list[int]], k: int) -> list[list[int]]:
    def squares(i: int, j: int) -> int:
        return sum((a - b) ** 2 for a, b in zip(x[i], x[j], strict=True))

    return [sorted(range(len(x)), key=lambda j: (squares(i, j), j))[:k] for i in range(len(x))]


@pytest.mark.parametrize("d", [1, 3, 7])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_02_neighbours_are_those_of_brute_force_with_ties_by_index(
    d: int, dtype: torch.dtype
) -> None:
    points = torch.randint(0, 3, (60, d), generator=torch_generator(d))  # most distances tie
    found = knn(points.to(dtype), 9, loops=True).indices.view(60, 9)
    assert found.tolist() == brute_force(points.tolist(), 9)


def test_02_a_permutation_of_points_permutes_features_and_keeps_scores() -> None:
    genes = parse("sample:knn aggregate:full/max combine:16 sample:knn aggregate:relative/mean")
    network = PointNetwork(genes, classes=4, k=5).double().eval()
    x = clouds(2, 20).double()
    order = torch.randperm(20, generator=torch_generator(1))
    state, moved = network.begin(x), network.begin(x[:, order])
    for position in range(len(genes)):
        state, moved = network.step(position, state), network.step(position, moved)
    features, permuted = (s.x.view(2, 20, -1) for s in (state, moved))
    torch.testing.assert_close(features[:, order], permuted, rtol=0, atol=1e-12)
    assert not torch.allclose(features, permuted)
    torch.testing.assert_close(network(x), network(x[:, order]), rtol=0, atol=1e-12)


def test_02_points_that_coincide_do_no_harm() -> None:
    network = PointNetwork(parse("aggregate:full/max combine:8 aggregate:distance/mean"), 3, k=4)
    x = torch.zeros(2, 6, 3, requires_grad=True)
    network(x).sum().backward()
    assert x.grad is not None and torch.isfinite(x.grad).all()


def test_03_a_full_message_is_source_target_relative_distance() -> None:
    x = torch.tensor([[1.0], [4.0]])
    found = messages(x, torch.tensor([[1], [0]]), MESSAGES["full"])
    assert found[0, 0].tolist() == [4, 1, 3, 3]
    assert found[1, 0].tolist() == [1, 4, -3, 3]


@pytest.mark.parametrize("kind", MESSAGES)
@pytest.mark.parametrize("reducer", REDUCERS)
def test_03_messages_have_their_widths_and_reduce_as_if_they_were_formed(
    kind: str, reducer: str
) -> None:
    d = 5
    stated = {"target": d, "source": d, "relative": d, "distance": 1, "source|relative": 2 * d,
              "target|relative": 2 * d, "full": 3 * d + 1}  # fmt: skip
    x = clouds(1, 30, d)[0].double().requires_grad_()
    neighbours = knn(x, 4).indices.view(30, 4)
    formed = messages(x, neighbours, MESSAGES[kind])
    assert formed.shape == (30, 4, stated[kind])
    assert message_width(MESSAGES[kind], d) == stated[kind]
    plain = {"max": formed.amax(1), "min": formed.amin(1), "add": formed.sum(1)}
    expected = plain.get(reducer, formed.mean(1))
    found = reduce_messages(x, neighbours, MESSAGES[kind], reducer)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    mix = torch.randn(found.shape, dtype=x.dtype, generator=torch_generator(2))
    ours, theirs = (torch.autograd.grad((y * mix).sum(), x)[0] for y in (found, expected))
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("spelt", "same"),
    [
        ("sample:knn sample:knn aggregate:full/max", "sample:knn aggregate:full/max"),
        ("combine:8 connect:identity sample:knn", "combine:8"),
        ("aggregate:relative/max", "sample:knn aggregate:relative/max"),
        ("combine:8 aggregate:relative/max", "sample:knn combine:8 aggregate:relative/max"),
        ("combine:8 pool:max sample:knn aggregate:full/max pool:add", "combine:8 pool:max"),
        ("combine:8 aggregate:target/mean", "combine:8"),
        ("combine:8 connect:skip combine:8 connect:skip", "combine:8 combine:8 connect:skip"),
        ("combine:8 pool:max connect:skip", "combine:8 pool:max"),
        ("communicate communicate combine:8", "combine:8"),
        ("sample:random communicate sample:knn aggregate:source/max",
         "communicate sample:knn aggregate:source/max"),
    ],
)  # fmt: skip
def test_canonical_form(spelt: str, same: str) -> None:
    found = canonical(parse(spelt))
    expected = same if "pool" in same else f"{same} pool:max|mean"
    assert spell(found) == expected


@pytest.mark.parametrize("seed", range(40))
def test_canonical_form_is_idempotent_and_changes_nothing(seed: int) -> None:
    """Run as written, a plain interpreter gives the features of the canonical network."""
    genes = random_genes(seed)
    found = canonical(genes)
    assert canonical(found) == found
    assert parse(spell(found)) == found
    network = PointNetwork(genes, classes=2, k=3).double().eval()
    expected = interpret(genes, network, clouds(2, 8).double())
    state = network.begin(clouds(2, 8).double())
    for position in range(len(network.genes)):
        assert all(
            (getattr(state, part) is not None) == (part in needs(network.genes[position:]))
            for part in ("batch", "neighbours", "previous")
        )
        state = network.step(position, state)
    torch.testing.assert_close(state.x, expected, rtol=1e-9, atol=1e-9)


def interpret(genes: Genes, network: PointNetwork, x: torch.Tensor) -> torch.Tensor:
    """Operations as the vocabulary defines them, dead ones run, one cloud after another."""
    combines = iter([layer for layer in network.layers if hasattr(layer, "linear")])
    features, previous, graph, pooled = list(x), None, None, False
    for gene in genes:
        before = features
        if gene.op == "combine":
            layer = next(combines)
            features = [layer(f) for f in features]
        elif gene.op == "connect" and gene.attribute == "skip":
            if previous is not None and previous[0].shape == features[0].shape:
                features = [f + p for f, p in zip(features, previous, strict=True)]
            else:
                continue
        elif gene.op == "aggregate" and not pooled and not gene.moves_nothing:
            graph = graph or [knn(c, 3, loops=True).indices.view(8, 3) for c in x]
            formed = [messages(f, g, gene.message) for f, g in zip(features, graph, strict=True)]
            features = [reduced(m, gene.reducer) for m in formed]
        elif gene.op == "sample" and not pooled:
            graph = [graph_of(gene, f) for f in features]
            continue
        elif gene.op == "pool" and not pooled:
            features = [torch.cat([reduced(f[None], p) for p in gene.pools], 1) for f in features]
            pooled, previous = True, None
            continue
        else:
            continue
        previous = before
    if not pooled:
        features = [torch.cat([f.amax(0), f.mean(0)])[None] for f in features]
    return torch.cat(features)


def graph_of(gene: Gene, features: torch.Tensor) -> torch.Tensor:
    if gene.attribute == "knn":
        return knn(features, 3, loops=True).indices.view(8, 3)
    probe = PointNetwork(parse("sample:random aggregate:source/max"), classes=2, k=3)
    neighbours = probe.step(0, probe.begin(clouds(1, 8))).neighbours
    assert neighbours is not None
    return neighbours


def reduced(messages: torch.Tensor, reducer: str) -> torch.Tensor:
    found = {"max": messages.amax(1), "min": messages.amin(1), "add": messages.sum(1)}
    return found.get(reducer, messages.mean(1))


def test_a_batch_gives_what_single_clouds_give() -> None:
    network = PointNetwork(random_genes(3), classes=3, k=4).double().eval()
    x = clouds(3, 10).double()
    single = torch.cat([network(cloud[None]) for cloud in x])
    torch.testing.assert_close(network(x), single, rtol=0, atol=1e-12)


def test_10_bad_input() -> None:
    network = PointNetwork(parse("aggregate:full/max"), classes=2, k=5)
    with pytest.raises(DataError, match="4 points for k = 5"):
        network(clouds(1, 4))
    with pytest.raises(DataError, match="NaN or infinite"):
        network(torch.full((1, 6, 3), torch.inf))
    with pytest.raises(DataError, match="takes 3"):
        network(clouds(1, 6, 2))
    with pytest.raises(UnknownNameError, match="did you mean 'aggregate'"):
        parse("agregate:full/max")
    with pytest.raises(UnknownNameError, match="full/max"):
        parse("aggregate:ful/max")
    with pytest.raises(ConfigError, match="operation 6"):
        decode((6,), (0,))
    with pytest.raises(ConfigError, match="attribute 7 of combine"):
        decode((1,), (7,))
    with pytest.raises(ConfigError, match="give at least 1"):
        PointNetwork((), classes=2, k=0)
