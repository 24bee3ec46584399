"""GNNavigator's runtime: acceptance checks 1, 2, 3, 8 and 9 of its specification."""

from collections import Counter, OrderedDict, deque
from itertools import combinations

import numpy as np
import pytest
import torch
from scipy.stats import chi2

from cofit.core import ConfigError, DataError, TargetError, UnknownNameError, numpy_generator
from cofit.graphs import (
    FullGraph,
    Graph,
    GraphRecipe,
    RowStream,
    aggregate,
    reddit_like,
    train_graph,
)
from cofit.graphs.minibatch import (
    FAMILIES,
    TEMPLATES,
    Arena,
    CacheBiasedSampler,
    CachedLoader,
    ClosedForm,
    Configuration,
    Device,
    FIFOCache,
    LayerSampler,
    LRUCache,
    Metered,
    hit_rate,
    measure,
    network,
)
from cofit.graphs.minibatch.expectation import fifo_hit_rate, lru_hit_rate
from cofit.graphs.minibatch.sampling import inclusion, systematic
from cofit.graphs.sampling import floyd

FAST = Device(float("inf"), 0.0)
PLAIN = Configuration(100, (3, 4), hidden=8)


def changed(**values: object) -> Configuration:
    return Configuration.of({**PLAIN.document(), **values})


@pytest.fixture(scope="module")
def web() -> Graph:
    return reddit_like(800, classes=4, degree=12, features=6, noise=0.5, seed=1)


class Resting(Metered):
    """Notes what is occupied before each step."""

    def __init__(self, loader: CachedLoader) -> None:
        super().__init__(loader)
        self.loader, self.rest = loader, list[int]()

    def before_step(self, step: int, total: int) -> None:
        now = self.loader.now
        assert now is not None
        batch = now.index_bytes + now.rows * self.loader.row_bytes
        self.rest.append(self.loader.arena.live_bytes - batch)
        super().before_step(step, total)


@pytest.mark.parametrize("kind", ["sage", "gcn"])
def test_01_model_and_cache_occupy_their_closed_forms(web: Graph, kind: str) -> None:
    c = changed(cache_policy="lru", cache_ratio=0.25, model=kind)
    loader = CachedLoader(web, c, FAST)
    meter = Resting(loader)
    train_graph(network(web, c, 0), loader, GraphRecipe(2), regime=meter)
    terms = ClosedForm(web).terms(c)
    assert terms.cache_bytes == 200 * 6 * 4
    numbers = sum(p.numel() for p in network(web, c, 0).parameters())
    assert terms.model_bytes == 16 * numbers
    assert meter.rest[0] == terms.cache_bytes + 4 * numbers  # no gradients and moments yet
    assert set(meter.rest[2:]) == {terms.cache_bytes + terms.model_bytes}
    assert loader.arena.peak_bytes > meter.rest[-1]


@pytest.mark.parametrize("policy", ["none", "degree", "frequency", "fifo", "lru"])
@pytest.mark.parametrize("bits", [16, 32])
def test_01_bytes_are_misses_times_a_row_and_rows_are_right(
    web: Graph, policy: str, bits: int
) -> None:
    ratio = 0.0 if policy == "none" else 0.3
    c = changed(cache_policy=policy, cache_ratio=ratio, feature_bits=bits)
    loader = CachedLoader(web, c, FAST, record=True)
    assert web.x is not None
    held = set(loader.cache.contents.tolist())
    for epoch in range(2):
        for step in loader.epoch(epoch):
            expected = web.x[loader.trace[-1]]
            assert torch.equal(step.x, expected.half().float() if bits == 16 else expected)
    for phases, nodes in zip(loader.log, loader.trace, strict=True):
        assert phases.rows == len(nodes) == len(set(nodes.tolist()))
        assert phases.feature_bytes == (phases.rows - phases.hits) * 6 * bits // 8
        if policy in ("none", "degree", "frequency"):
            assert phases.hits == sum(node in held for node in nodes.tolist())
    assert (hit_rate(loader.log) > 0.05) == (policy != "none")


def test_01_the_link_takes_its_time(web: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr("time.sleep", slept.append)
    device = Device(1e6, 1e-3)
    loader = CachedLoader(web, changed(cache_policy="degree", cache_ratio=0.2), device)
    for _ in loader.epoch(0):
        pass
    assert slept == [pytest.approx(1e-3 + p.feature_bytes / 1e6) for p in loader.log]
    assert device.text == "emulated 0.001 GB/s, 1 ms" and Device().text.startswith(
        "emulated 2 GB/s"
    )


@pytest.mark.parametrize("policy", ["degree", "lru", "fifo"])
def test_02_a_cache_of_everything_transfers_nothing_once_warm(web: Graph, policy: str) -> None:
    c = Configuration(200, (None, None), cache_policy=policy, cache_ratio=1.0)
    loader = CachedLoader(web, c, FAST)
    for epoch in range(2):
        for _ in loader.epoch(epoch):
            pass
    second = loader.log[len(loader) :]
    assert len(second) == 2 and all(p.feature_bytes == 0 for p in second)
    assert (loader.fill_bytes == 800 * 24) == (policy == "degree")
    assert (loader.log[0].feature_bytes == 0) == (policy == "degree")


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("prefetch", [0, 2])
def test_02_everything_at_once_is_the_full_batch(web: Graph, family: str, prefetch: int) -> None:
    c = Configuration(400, (None, None), family, hidden=8, prefetch=prefetch)
    runs = [
        train_graph(network(web, c, 0), loader, GraphRecipe(5)).history.losses
        for loader in (FullGraph(web), CachedLoader(web, c, FAST))
    ]
    assert np.abs(np.subtract(*runs)).max() < 1e-5 and runs[0][-1] < runs[0][0]


def test_02_what_is_prefetched_is_what_would_have_come(web: Graph) -> None:
    found, live = [], set()
    for prefetch in (0, 1, 3):
        c = changed(cache_policy="degree", cache_ratio=0.2, bias=0.5, prefetch=prefetch)
        loader = CachedLoader(web, c, FAST)
        trained = train_graph(network(web, c, 0), loader, GraphRecipe(2), regime=Metered(loader))
        found.append(trained.history.losses)
        assert len(loader.log) == 8
        live.add(loader.arena.live_bytes)  # what was prepared and never used is gone
    assert len(live) == 1 and found[0] == found[1] == found[2]


def stars(count: int, leaves: int) -> Graph:
    """Nodes that all have the same neighbours: one call draws that many subsets."""
    sources = torch.arange(leaves).repeat(count) + count
    targets = torch.arange(count).repeat_interleave(leaves)
    x = torch.randn(count + leaves, 3, generator=torch.Generator().manual_seed(0))
    return Graph.from_edges(torch.stack([sources, targets]), count + leaves, x=x)


COUNT, LEAVES, FANOUT = 6000, 8, 3


def subsets(odds: float, cached: int, seed: int) -> Counter[tuple[int, ...]]:
    graph = stars(COUNT, LEAVES)
    flags = np.zeros(graph.num_nodes, bool)
    flags[COUNT : COUNT + cached] = True
    sampler = CacheBiasedSampler(graph, (FANOUT,), odds, lambda: flags, True)
    sample = sampler.sample(torch.arange(COUNT), numpy_generator(seed))
    drawn = sample.nodes[sample.blocks[0].indices].reshape(COUNT, FANOUT) - COUNT
    return Counter(tuple(row) for row in drawn.sort(1).values.tolist())


def statistic(found: Counter[tuple[int, ...]], odds: float, cached: int) -> float:
    every = list(combinations(range(LEAVES), FANOUT))
    assert set(found) <= set(every)
    law = np.array([odds ** sum(leaf < cached for leaf in subset) for subset in every])
    expected = COUNT * law / law.sum()
    return float(((np.array([found[s] for s in every]) - expected) ** 2 / expected).sum())


def test_02_without_bias_all_subsets_are_equally_likely() -> None:
    bound = chi2.ppf(0.999, 55)
    for cached in (0, 3, 6, 8):
        assert statistic(subsets(1.0, cached, cached), 1.0, cached) < bound
    assert statistic(subsets(1.6, 3, 0), 1.0, 3) > bound  # the test sees a bias


@pytest.mark.parametrize("cached", [1, 4, 7])
def test_02_with_bias_subsets_follow_their_law(cached: int) -> None:
    assert statistic(subsets(4.0, cached, 1), 4.0, cached) < chi2.ppf(0.999, 55)


@pytest.mark.parametrize("kind", [CacheBiasedSampler, LayerSampler])
@pytest.mark.parametrize("unbiased", [True, False])
def test_03_the_mean_of_sums_is_exact_if_and_only_if_reweighted(
    kind: type[LayerSampler], unbiased: bool, web: Graph
) -> None:
    graph = web
    assert graph.x is not None
    flags = np.zeros(graph.num_nodes, bool)
    flags[np.argsort(-graph.out_degree.numpy())[:200]] = True
    x = graph.x.double() + torch.from_numpy(flags)[:, None].double()
    exact = aggregate(graph.adjacency, x)
    sampler = kind(graph, (4,), 4.0, lambda: flags, unbiased)
    seeds = torch.arange(0, 800, 16)
    draws, generator = 600, numpy_generator(7)
    sums = torch.empty(draws, len(seeds), dtype=torch.float64)
    for row in sums:
        sample = sampler.sample(seeds, generator)
        row.copy_(aggregate(sample.blocks[0], x[sample.nodes]).sum(1))
    error = sums.mean(0) - exact[seeds].sum(1)
    spread = sums.std(0) / draws**0.5
    z = (error / spread.clamp(min=1e-12))[spread > 1e-9]
    assert len(z) > 30
    assert bool((z.abs() < 4.2).all()) == unbiased  # 50 sums: 4.2 is one in 800 by chance


def test_08_a_subgraph_has_all_edges_among_its_nodes(web: Graph) -> None:
    c = changed(family="subgraph", cache_policy="degree", cache_ratio=0.1, bias=0.5)
    loader = CachedLoader(web, c, FAST, record=True)
    for step in loader.epoch(0):
        nodes = torch.from_numpy(loader.trace[-1])
        first, last = step.adjacency
        inside = web.subgraph(nodes)
        assert torch.equal(first.indptr, inside.indptr)
        assert torch.equal(first.indices, inside.indices)
        assert torch.equal(last.indices, inside.indices[: len(last.indices)])
        assert last.num_dst == len(step.y)
        means = aggregate(first, step.x, "mean")
        expected = aggregate(inside.adjacency, step.x, "mean")
        assert torch.allclose(means, expected, atol=1e-6)


def test_03_systematic_draws_have_their_probabilities() -> None:
    probability = inclusion(np.array([9.0, 1, 1, 2, 3, 0.5]), 3)
    assert probability.sum() == pytest.approx(3) and probability.max() == 1
    generator = numpy_generator(3)
    drawn = np.array([systematic(probability, generator) for _ in range(4000)])
    assert set(drawn.sum(1)) == {3}
    spread = np.sqrt(probability * (1 - probability) / 4000)
    assert (np.abs(drawn.mean(0) - probability) <= 4 * spread + 1e-12).all()
    assert (inclusion(np.array([1.0, 2]), 5) == 1).all()


def test_03_subsets_of_different_sizes_are_uniform() -> None:
    sizes, counts = np.array([5, 3, 0, 7] * 2000), np.array([2, 3, 0, 1] * 2000)
    chosen = floyd(sizes, counts, numpy_generator(0))
    assert ((chosen >= 0).sum(0) == counts).all() and (chosen < sizes).all()
    pairs = Counter(map(tuple, np.sort(chosen[:2, ::4].T, 1).tolist()))
    assert set(pairs) == set(combinations(range(5), 2))
    assert sum((n - 200) ** 2 / 200 for n in pairs.values()) < chi2.ppf(0.999, 9)
    assert np.array_equal(np.sort(chosen[:, 1::4], 0), np.tile([[0], [1], [2]], 2000))


@pytest.mark.parametrize("policy", ["lru", "fifo"])
@pytest.mark.parametrize("ratio", [0.05, 0.3, 0.8])
def test_08_counted_hits_equal_the_simulator_of_row_streams(
    web: Graph, policy: str, ratio: float
) -> None:
    c = changed(cache_policy=policy, cache_ratio=ratio)
    loader = CachedLoader(web, c, FAST, record=True)
    for epoch in range(2):
        for _ in loader.epoch(epoch):
            pass
    misses = sum(phases.rows - phases.hits for phases in loader.log)
    rows = np.concatenate(loader.trace)
    lines = round(800 * ratio)
    if policy == "lru":
        assert misses == RowStream(rows).misses(lines)
    assert misses == searched_misses(rows, lines, policy)
    assert misses >= len(np.unique(rows)) and len(loader.cache.contents) <= lines


def searched_misses(rows: np.ndarray, lines: int, policy: str) -> int:
    """One access after another."""
    held: OrderedDict[int, None] = OrderedDict()
    queue: deque[int] = deque()
    misses = 0
    for row in rows.tolist():
        if row in held:
            held.move_to_end(row)
            continue
        misses += 1
        if len(held) == lines:
            out = queue.popleft() if policy == "fifo" else next(iter(held))
            del held[out]
        held[row] = None
        queue.append(row)
    return misses


@pytest.mark.parametrize("name", TEMPLATES)
def test_08_every_template_trains_on_the_same_backend(web: Graph, name: str) -> None:
    c = TEMPLATES[name]
    loader = CachedLoader(web, c, FAST)
    trained = train_graph(network(web, c, 0), loader, GraphRecipe(4), regime=Metered(loader))
    losses = trained.history.losses
    assert losses[-1] < losses[0] and len(loader.log) == 4 * len(loader)
    terms = ClosedForm(web).terms(c)
    assert hit_rate(loader.log) == pytest.approx(terms.hit_rate, abs=0.05)


def test_08_bias_finds_more_in_the_cache(web: Graph) -> None:
    rates = []
    for bias in (0.0, 0.5, 1.0):
        c = changed(batch_size=20, cache_policy="degree", cache_ratio=0.2, bias=bias)
        loader = CachedLoader(web, c, FAST)
        for _ in loader.epoch(0):
            pass
        rates.append(hit_rate(loader.log))
    assert rates[0] * 1.1 < rates[1] < rates[2]


@pytest.mark.parametrize(
    "values",
    [
        {}, {"batch_size": 400}, {"fanouts": [10, 25]}, {"family": "layer"}, {"family": "subgraph"},
        {"cache_policy": "degree", "cache_ratio": 0.3, "bias": 0.75},
        {"cache_policy": "lru", "cache_ratio": 0.7}, {"cache_policy": "fifo", "cache_ratio": 0.7},
    ],
)  # fmt: skip
def test_08_expected_visits_are_those_of_real_batches(
    web: Graph, values: dict[str, object]
) -> None:
    c = changed(**values)
    loader = CachedLoader(web, c, FAST)
    loader.warm(50, 8)
    for epoch in range(4):
        for _ in loader.epoch(epoch):
            pass
    terms = ClosedForm(web).terms(c)
    log = loader.log
    assert np.mean([p.rows for p in log]) == pytest.approx(terms.rows, rel=0.1)
    # neighbours in a subgraph are there because of each other, which the mean field leaves out
    near = 0.35 if c.family == "subgraph" else 0.1
    assert np.mean([p.edges for p in log]) == pytest.approx(terms.edges, rel=near)
    # rows of high degree come early in every batch, which the formulas of dynamic caches leave out
    near = 0.13 if c.cache_policy in ("lru", "fifo") else 0.06
    assert hit_rate(log) == pytest.approx(terms.hit_rate, abs=near)


@pytest.mark.parametrize("lines", [20, 60, 150, 300])
def test_08_formulas_of_dynamic_caches_hold_for_rows_that_are_independent(lines: int) -> None:
    generator = numpy_generator(lines, "independent")
    s = np.minimum(0.9, 2.0 / np.arange(1, 501) ** 0.6)
    lru, fifo = LRUCache(500, lines), FIFOCache(500, lines)
    found = {lru: 0.0, fifo: 0.0}
    accesses = 0
    for batch in range(500):
        rows = generator.permutation(np.flatnonzero(generator.random(500) < s))
        for cache in found:
            found[cache] += cache.access(rows).sum() * (batch >= 100)
        accesses += len(rows) * (batch >= 100)
    assert found[lru] / accesses == pytest.approx(lru_hit_rate(s, lines), abs=0.02)
    assert found[fifo] / accesses == pytest.approx(fifo_hit_rate(s, lines), abs=0.03)


def test_09_what_cannot_be_is_refused(web: Graph) -> None:
    with pytest.raises(UnknownNameError, match="cache policy 'lfu'"):
        changed(cache_policy="lfu", cache_ratio=0.1)
    with pytest.raises(UnknownNameError, match="family of sampling"):
        changed(family="walk")
    with pytest.raises(ConfigError, match=r"3 fan-outs .* for 2 layers"):
        changed(fanouts=[1, 2, 3])
    for ratio in (-0.1, 1.1):
        with pytest.raises(ConfigError, match="from 0 to 1"):
            changed(cache_policy="lru", cache_ratio=ratio)
    for wrong, said in (
        ({"cache_policy": "lru"}, "'lru' with a ratio of 0"), ({"cache_ratio": 0.1}, "'none'"),
        ({"bias": 0.5}, "cache of nothing"), ({"feature_bits": 8}, "8 bits"),
        ({"fanouts": [0, 1]}, "positive ones or None"), ({"batch_size": 0}, "batch size 0"),
    ):  # fmt: skip
        with pytest.raises(ConfigError, match=said):
            changed(**wrong)
    with pytest.raises(ConfigError, match="positive bandwidth"):
        Device(0)
    with pytest.raises(ConfigError, match="bytes of memory"):
        Device(memory_bytes=0)
    looped = Graph.from_edges(torch.tensor([[0, 1], [0, 0]]), 2)
    with pytest.raises(DataError, match="training needs them"):
        CachedLoader(looped, PLAIN, FAST)


def test_09_a_device_that_is_full_says_so_and_the_next_run_is_unharmed(web: Graph) -> None:
    needs = measure(web, PLAIN, FAST, 3).peak_bytes
    small = Device(2e9, 0.0, needs - 1)
    with pytest.raises(TargetError, match=r"needs .* at once; choose a smaller batch"):
        measure(web, PLAIN, small, 3)
    assert measure(web, PLAIN, Device(2e9, 0.0, needs), 3).peak_bytes == needs
    with pytest.raises(TargetError, match="the device has 100 B"):
        CachedLoader(web, changed(cache_policy="lru", cache_ratio=1.0), Device(memory_bytes=100))


def test_arena_counts_what_lives() -> None:
    arena = Arena()
    with arena.watch():
        a = torch.ones(1000)
        b = a[:10]  # a view occupies nothing
        a += 1
        c = a * 2
        del c
    assert (arena.live_bytes, arena.peak_bytes) == (4000, 8000)
    del a, b
    assert arena.live_bytes == 0
