"""GNNavigator's closed forms against what runs: distinct nodes, peak memory, epochs, rates."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from cofit.graphs import Graph, GraphRecipe, reddit_like, stochastic_block_model, train_graph
from cofit.graphs.minibatch import (
    CachedLoader,
    ClosedForm,
    Configuration,
    Device,
    Measurement,
    Metered,
    Rates,
    Terms,
    fit_rates,
    measure,
    network,
)
from cofit.graphs.minibatch.rates import work

FAST = Device(float("inf"), 0.0)


@pytest.fixture(scope="module")
def wide() -> Graph:
    """Few neighbours, many features: as citation graphs are."""
    return stochastic_block_model(
        1200, classes=4, degree=4, homophily=0.8, features=500, noise=1.0, seed=3
    )


@pytest.fixture(scope="module")
def web() -> Graph:
    return reddit_like(1500, classes=4, degree=12, features=20, noise=0.5, seed=1)


@pytest.mark.parametrize("fanouts", [(3, 3), (5, 10), (None, None), (3, 3, 3)])
@pytest.mark.parametrize("name", ["wide", "web"])
def test_nodes_drawn_again_or_in_return_count_once(
    name: str, fanouts: tuple[int | None, ...], request: pytest.FixtureRequest
) -> None:
    graph: Graph = request.getfixturevalue(name)
    c = Configuration(50, fanouts, layers=len(fanouts))
    loader = CachedLoader(graph, c, FAST)
    for _ in loader.epoch(0):
        pass
    full = [p for p in loader.log if p.layers[-1] == 50]
    visits = ClosedForm(graph).expectation.visits(c)
    for layer, expected in enumerate(visits.layers):
        # one factor per layer would be 6 to 25 % above
        assert np.mean([p.layers[layer] for p in full]) == pytest.approx(expected, rel=0.035)
    assert np.mean([p.edges for p in full]) == pytest.approx(sum(visits.edges), rel=0.04)


@pytest.mark.parametrize(
    "values",
    [
        {}, {"fanouts": (3, 3)}, {"batch_size": 600}, {"prefetch": 1},
        {"batch_size": 600, "prefetch": 1}, {"feature_bits": 16},
        {"cache_policy": "lru", "cache_ratio": 0.3}, {"fanouts": (None, None)},
    ],
)  # fmt: skip
@pytest.mark.parametrize("name", ["wide", "web"])
def test_the_peak_is_what_the_layers_need(
    name: str, values: dict[str, object], request: pytest.FixtureRequest
) -> None:
    graph: Graph = request.getfixturevalue(name)
    c = replace(Configuration(200, (5, 10)), **values)
    loader, closed = CachedLoader(graph, c, FAST), ClosedForm(graph)
    train_graph(network(graph, c, 0), loader, GraphRecipe(3), regime=Metered(loader))
    peak = loader.arena.peak_bytes
    # batches that wait are held only once they are drawn, which may be after the peak
    low = 0.85 if c.prefetch and len(loader) > 1 else 0.92
    assert low <= peak / closed.memory_bytes(c) <= 1.08
    assert closed.least_bytes(c) <= closed.memory_bytes(c)


def test_one_batch_of_everything_may_need_less_than_a_part(wide: Graph) -> None:
    """All nodes are sources and destinations alike: products come first, and narrow sums."""
    closed = ClosedForm(wide)
    part, whole = Configuration(400, (None, None)), Configuration(600, (None, None))
    assert closed.memory_bytes(whole) < 0.9 * closed.memory_bytes(part)
    needs = []
    for c in (part, whole):
        needs.append(measure(wide, c, FAST).peak_bytes)
    assert needs[1] < 0.9 * needs[0]
    assert closed.least_bytes(part) <= closed.least_bytes(whole)


@pytest.mark.parametrize("size", [80, 100, 250, 450, 600, 700])
def test_a_measured_epoch_ends_with_its_smaller_batch(wide: Graph, size: int) -> None:
    closed, c = ClosedForm(wide), Configuration(size, (3, 4))
    last = closed.tail(c)
    assert (last is None) == (600 % min(size, 600) == 0)
    terms = closed.terms(c)
    rows = terms.rows
    if last is not None:
        assert last.batch_size == 600 % size
        rows += (closed.terms(last).rows - rows) / terms.steps
    measured = measure(wide, c, FAST)
    assert measured.steps == terms.steps == -(-600 // size)
    assert measured.rows == pytest.approx(rows, rel=0.04)


KNOWN = Rates(
    {
        "sampling": (1e-3, 2e-8, 1e-8, 3e-8, 0.0, 1e-7, 5e-9),
        "transfer": (3e-4, 1e-8, 1e-10, 6e-8),
        "replacement": (2e-4, 1e-8, 2e-10),
        "computing": (5e-3, 2e-7, 4e-9, 3e-8, 2e-11, 1e-11, 2e-10, 5e-10),
    },
    0.3,
)


def lawful(terms: Terms, last: Terms | None, device: Device) -> Measurement:
    """Of a machine of these rates, where phases that overlap take 1.7 times as long."""
    phases = KNOWN.phases_s(terms, device)
    if last is not None:
        for phase, seconds in KNOWN.phases_s(last, device).items():
            phases[phase] += (seconds - phases[phase]) / terms.steps
    sent = terms.transfer_bytes
    if last is not None:
        sent += (last.transfer_bytes - sent) / terms.steps
        link = device.transfer_s(terms.transfer_bytes)
        link += (device.transfer_s(last.transfer_bytes) - link) / terms.steps
        assert link == pytest.approx(device.transfer_s(sent))  # linear
    slow = 1.7 if terms.prefetch else 1.0
    return Measurement(
        terms.steps, KNOWN.epoch_s(terms, last, device) / terms.steps,
        *(slow * seconds for seconds in phases.values()), terms.rows, terms.edges,
        terms.hit_rate, sent, terms.row_bytes, 1,
    )  # fmt: skip


def test_rates_come_from_phases_that_do_not_overlap(wide: Graph, web: Graph) -> None:
    device, known, measured = Device(), [], []
    for graph in (wide, web):
        closed = ClosedForm(graph)
        for size, fanouts, cache, prefetch in product(
            (32, 70, 200, 600), ((3, 3), (5, 10), (10, 25), (None, None)),
            (("none", 0.0, 0.0), ("lru", 0.2, 0.0), ("lru", 0.4, 0.5), ("degree", 0.2, 0.75)),
            (0, 1),
        ):  # fmt: skip
            policy, ratio, bias = cache
            c = Configuration(size, fanouts, bias=bias, cache_policy=policy, cache_ratio=ratio,
                              prefetch=prefetch)  # fmt: skip
            last = closed.tail(c)
            terms = closed.terms(c), None if last is None else closed.terms(last)
            known.append(terms)
            measured.append(lawful(*terms, device))
    found = fit_rates(known, measured, device)
    assert found.hidden == pytest.approx(KNOWN.hidden)
    for (terms, last), m in zip(known, measured, strict=True):
        assert found.epoch_s(terms, last, device) == pytest.approx(m.epoch_s, rel=0.01)
    assert {k: len(v) for k, v in work(known[0][0]).items()} == {
        k: len(v) for k, v in KNOWN.seconds.items()
    }


def test_what_overlaps_is_never_slower_and_with_one_core_hides_the_link_only(web: Graph) -> None:
    device, closed = Device(1e7, 1e-3), ClosedForm(web)
    plain = closed.terms(Configuration(100, (5, 5)))
    ahead = replace(plain, prefetch=True)
    parts = KNOWN.phases_s(plain, device)
    prepare = sum(parts.values()) - parts["computing"]
    alone = KNOWN.epoch_s(plain, None, device)
    assert alone == pytest.approx(plain.steps * sum(parts.values()))
    times = [replace(KNOWN, hidden=h).epoch_s(ahead, None, device) for h in (0.0, 0.5, 1.0)]
    assert alone > times[0] >= times[1] >= times[2]
    longest = max(prepare, parts["computing"])
    assert times[2] == pytest.approx(prepare + (plain.steps - 1) * longest + parts["computing"])
    link = device.transfer_s(plain.transfer_bytes)
    assert alone - times[0] <= (plain.steps - 1) * link * (1 + 1e-9)
