"""Islands behind hubs, found online, and sums of shared neighbours formed once (I-GCN)."""

from cofit.graphs.islands.locate import EdgeClass, Islands, Round, find_islands
from cofit.graphs.islands.merging import greedy_pair_savings
from cofit.graphs.islands.sharing import bitmap_operations, share_sums

__all__ = [
    "EdgeClass",
    "Islands",
    "Round",
    "bitmap_operations",
    "find_islands",
    "greedy_pair_savings",
    "share_sums",
]
