"""Row streams: caches against brute force, invariants, orders of nodes."""

import numpy as np
import pytest
import torch

from cofit.core import ConfigError, numpy_generator
from cofit.graphs import Graph, RowStream, load_graph, metis_parts, pull_stream, rcm_order


def lru(rows: np.ndarray, lines: int) -> int:
    cache: list[int] = []
    misses = 0
    for row in rows.tolist():
        if row in cache:
            cache.remove(row)
        else:
            misses += 1
            if len(cache) == lines:
                cache.pop(0)
        cache.append(row)
    return misses


def fewest(rows: list[int], lines: int, cached: frozenset[int] = frozenset()) -> int:
    """Every choice of what to evict."""
    if not rows:
        return 0
    row, *rest = rows
    if row in cached:
        return fewest(rest, lines, cached)
    if len(cached) < lines:
        return 1 + fewest(rest, lines, cached | {row})
    return 1 + min(fewest(rest, lines, cached - {old} | {row}) for old in cached)


@pytest.mark.parametrize("seed", range(10))
def test_lru_misses_equal_a_list_that_is_searched(seed: int) -> None:
    draw = numpy_generator(seed, "rows")
    stream = RowStream(draw.integers(12, size=200) * 3)
    for lines in range(1, 14):
        assert stream.misses(lines) == lru(stream.rows, lines)


@pytest.mark.parametrize("seed", range(6))
def test_fewest_misses_equal_an_exhaustive_search(seed: int) -> None:
    rows = numpy_generator(seed, "few").integers(5, size=14)
    stream = RowStream(rows)
    for lines in range(1, 6):
        assert stream.fewest_misses(lines) == fewest(rows.tolist(), lines)


@pytest.mark.parametrize("seed", range(5))
def test_invariants_of_misses(seed: int) -> None:
    draw = numpy_generator(seed, "invariants")
    rows = draw.zipf(1.3, size=3000) % 400
    stream = RowStream(rows)
    distinct = len(np.unique(rows))
    assert stream.distinct == distinct and stream.accesses == 3000
    sizes = [1, 2, 3, 7, 20, 50, 120, distinct - 1, distinct, distinct + 9]
    misses, bound = ([of(c) for c in sizes] for of in (stream.misses, stream.fewest_misses))
    for found in (misses, bound):
        assert found == sorted(found, reverse=True) and min(found) == distinct
        assert found[-1] == found[-2] == distinct
    assert all(b <= m for b, m in zip(bound, misses, strict=True)) and bound[4] < misses[4]


def test_resident_rows_are_loaded_once_and_take_lines() -> None:
    rows = np.array([0, 5, 1, 5, 2, 5, 0, 5])
    pinned = RowStream(rows, resident=np.array([5, 5]))
    assert pinned.misses(2) == 1 + 4 and pinned.misses(4) == 1 + 3 == pinned.distinct
    assert pinned.fewest_misses(3) == 1 + 3
    with pytest.raises(ConfigError, match="0 rows; it must hold the 1 resident"):
        pinned.misses(0)
    with pytest.raises(ConfigError, match="hold the 1 resident"):
        RowStream(rows, resident=np.array([5])).fewest_misses(0)


def test_pull_stream_follows_the_order(graph: Graph) -> None:
    order = torch.from_numpy(numpy_generator(0, "order").permutation(graph.num_nodes))
    renumbered = pull_stream(graph.permute(order).symmetrised().adjacency)
    given = pull_stream(graph.symmetrised().adjacency, order)
    assert np.array_equal(order.numpy()[renumbered.rows], given.rows)
    assert given.misses(7) == renumbered.misses(7)
    plain = pull_stream(graph.adjacency)
    expected = [sorted(graph.indices[a:b].tolist()) for a, b in
                zip(graph.indptr, graph.indptr[1:], strict=False)]  # fmt: skip
    assert plain.rows.tolist() == [row for rows in expected for row in rows]
    with pytest.raises(ConfigError, match="name every node once"):
        pull_stream(graph.adjacency, torch.zeros(graph.num_nodes, dtype=torch.int64))


def test_orders_of_cora_find_its_locality(data_dir: object) -> None:
    cora = load_graph("cora")
    parts, _ = metis_parts(cora, 12)
    drawn = torch.from_numpy(numpy_generator(0, "cora").permutation(cora.num_nodes))
    orders = {"drawn": drawn, "metis": parts.argsort(stable=True), "rcm": rcm_order(cora)}
    misses = {name: pull_stream(cora.adjacency.looped, o).misses(270) for name, o in orders.items()}
    assert cora.num_nodes <= misses["metis"] < 0.6 * misses["drawn"]
    assert cora.num_nodes <= misses["rcm"] < 0.75 * misses["drawn"]


def test_metis_parts_are_balanced_and_cut_little(data_dir: object) -> None:
    cora = load_graph("cora")
    parts, _ = metis_parts(cora, 4, objective="volume")
    assert parts.bincount().max() <= 1.05 * cora.num_nodes / 4
    source, target = cora.edge_index
    outside = parts[source] != parts[target]
    halo = len(torch.unique(source[outside] * 4 + parts[target[outside]]))
    assert halo == pytest.approx(460, rel=0.15)  # 460 with another seed
    assert metis_parts(cora, 1)[0].unique().tolist() == [0]
    with pytest.raises(ConfigError, match="from 1 to 2708"):
        metis_parts(cora, 2709)
