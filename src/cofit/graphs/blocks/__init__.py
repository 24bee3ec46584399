"""Adjacencies in two levels: dense blocks of like degree, and a light remainder (GCoD)."""

from cofit.graphs.blocks.patches import (
    Layout,
    clear_patches,
    interleaved,
    keep_edges,
    layout,
    patch_edges,
    two_branches,
)
from cofit.graphs.blocks.polarise import (
    Distance,
    EdgeValued,
    Sparsified,
    Sparsifying,
    sparsify_edges,
)
from cofit.graphs.blocks.split import Split, allocate, split_by_degree

__all__ = [
    "Distance",
    "EdgeValued",
    "Layout",
    "Sparsified",
    "Sparsifying",
    "Split",
    "allocate",
    "clear_patches",
    "interleaved",
    "keep_edges",
    "layout",
    "patch_edges",
    "sparsify_edges",
    "split_by_degree",
    "two_branches",
]
