"""Which blocks to prune and which to unify, in given numbers, at the least total loss.

A block that is neither pruned nor unified stays free and loses nothing.
"""

from __future__ import annotations

import heapq

import torch

FREE, UNIFIED, PRUNED = 0, 1, 2


def greedy(prune: torch.Tensor, unify: torch.Tensor, pruned: int, unified: int) -> torch.Tensor:
    """Prune the blocks that lose least by it, then unify those of the rest that lose least.

    Args:
        prune: (B,) loss of each block if pruned.
        unify: (B,) loss if unified.
        pruned: blocks to prune.
        unified: blocks to unify; at most B - pruned.

    Returns:
        (B,) of FREE, UNIFIED and PRUNED; ties go to the lower index.
    """
    classes = torch.full((len(prune),), FREE, dtype=torch.uint8)
    classes[prune.argsort(stable=True)[:pruned]] = PRUNED
    rest = torch.where(classes == PRUNED, torch.inf, unify)
    classes[rest.argsort(stable=True)[:unified]] = UNIFIED
    return classes


def exact(prune: torch.Tensor, unify: torch.Tensor, pruned: int, unified: int) -> torch.Tensor:
    """The assignment of least total loss; arguments and result as of `greedy`.

    Successive shortest paths: from the best assignment that prunes nothing, one block more is
    pruned at a time, either a free one, or a unified one whose place a free one takes. In a flow
    between three classes there are no other paths, so each step is optimal. O(B log B). Where no
    block stays free it is a sort by what pruning loses more than unifying.
    """
    if pruned + unified == len(prune):
        return greedy(prune - unify, unify, pruned, unified)
    classes = greedy(prune, unify, 0, unified).tolist()
    p, u = prune.tolist(), unify.tolist()
    free = [i for i, kind in enumerate(classes) if kind == FREE]
    to_prune = [(p[i], i) for i in free]
    to_unify = [(u[i], i) for i in free]
    to_replace = [(p[i] - u[i], i) for i, kind in enumerate(classes) if kind == UNIFIED]
    for heap in (to_prune, to_unify, to_replace):
        heapq.heapify(heap)
    for _ in range(pruned):
        for heap, kind in ((to_prune, FREE), (to_unify, FREE), (to_replace, UNIFIED)):
            while heap and classes[heap[0][1]] != kind:
                heapq.heappop(heap)
        if to_replace and to_replace[0][0] + to_unify[0][0] < to_prune[0][0]:
            gone, joining = heapq.heappop(to_replace)[1], heapq.heappop(to_unify)[1]
            classes[joining] = UNIFIED
            heapq.heappush(to_replace, (p[joining] - u[joining], joining))
        else:
            gone = heapq.heappop(to_prune)[1]
        classes[gone] = PRUNED
    return torch.tensor(classes, dtype=torch.uint8)
