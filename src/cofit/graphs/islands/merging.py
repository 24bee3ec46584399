"""Greedy merging of pairs: how many additions sharing could save, were every pair at hand.

Source: Z. Jia et al., "Redundancy-Free Computation for Graph Neural Networks", KDD 2020. It needs
the whole graph and all its pairs, so it is a reference for small graphs and no online method.
"""

from __future__ import annotations

import heapq
from collections import Counter
from itertools import combinations, pairwise

from cofit.graphs.adjacency import Adjacency


def greedy_pair_savings(adjacency: Adjacency) -> int:
    """Additions saved when the pair of terms that most rows have is summed once, again and again.

    A pair in r rows saves r - 1 additions. Parallel edges count once.
    """
    indices, indptr = adjacency.indices.tolist(), adjacency.indptr.tolist()
    rows = [set(indices[a:b]) for a, b in pairwise(indptr)]
    holders: dict[int, set[int]] = {}
    counts: Counter[tuple[int, int]] = Counter()
    for number, row in enumerate(rows):
        counts.update(combinations(sorted(row), 2))
        for term in row:
            holders.setdefault(term, set()).add(number)
    heap = [(-count, pair) for pair, count in counts.items() if count > 1]
    heapq.heapify(heap)
    saved, fresh = 0, adjacency.num_src
    while heap:
        negative, (a, b) = heapq.heappop(heap)
        users = holders[a] & holders[b]
        if len(users) < 2:
            continue
        if len(users) != -negative:
            heapq.heappush(heap, (-len(users), (a, b)))
            continue
        saved += len(users) - 1
        shared: Counter[int] = Counter()
        for number in users:
            row = rows[number]
            row -= {a, b}
            shared.update(row)
            row.add(fresh)
            for term in (a, b):
                holders[term].discard(number)
        holders[fresh] = users
        for other, count in shared.items():
            if count > 1:
                heapq.heappush(heap, (-count, (other, fresh)))
        fresh += 1
    return saved
