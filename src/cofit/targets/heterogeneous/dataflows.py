"""Dataflows of sub-accelerators: what is spread over units, what stays, and in which order.

Those of MAESTRO's mapping files (`kcp_ws`, `ykp_os`, `rs`): one dimension over the lanes of a
cluster, one over clusters. Steps follow from that alone; tiles and the place of one loop are free
and are searched for all of them alike (`costs.py`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cofit.core import UnknownNameError
from cofit.targets.dataflow import DIMS
from cofit.targets.dataflow.layer import Array

G, K, C, Y, X, R, S = (DIMS.index(name) for name in "GKCYXRS")


@dataclass(frozen=True)
class Dataflow:
    """A way to run layers on an array of any size.

    Attributes:
        name: of the accelerator that made it known.
        lanes: units of a cluster; None for as many as the kernel has rows.
        inside: dimension over the lanes.
        across: dimension over the clusters.
        within: loops of a unit, inner first.
        around: loops of the array, inner first; the dimension that stands twice may take either
            place.
    """

    name: str
    lanes: int | None
    inside: int
    across: int
    within: tuple[int, ...]
    around: tuple[int, ...]

    @property
    def either(self) -> int:
        """The dimension that stands twice in `around`."""
        return max(self.around, key=self.around.count)

    def spread(self, sizes: Array, units: Array) -> dict[int, Array]:
        """Units by dimension, evenly: no more than the steps need.

        Lanes or clusters that filters leave idle take groups.

        Args:
            sizes: (8, ...) trips of the loops.
            units: of the array, broadcast against the sizes. Where it has less than a cluster, the
                result has no clusters.
        """
        lanes = sizes[R] if self.lanes is None else np.full_like(sizes[R], self.lanes)
        clusters = np.floor(units / lanes)
        taken = {
            self.inside: even(sizes[self.inside], lanes),
            self.across: even(sizes[self.across], clusters),
        }
        room = {self.inside: lanes, self.across: clusters}
        if K in taken:
            left = np.floor(room[K] / np.maximum(taken[K], 1.0))
            taken[G] = even(sizes[G], np.maximum(left, 1.0))
        shape = np.broadcast_shapes(sizes[0].shape, units.shape)
        return {dim: np.broadcast_to(count, shape) for dim, count in taken.items()}

    def steps(self, sizes: Array, units: Array) -> Array:
        """Steps of layers (8, ...) on arrays; infinite where not even a cluster fits."""
        spread = self.spread(sizes, units)
        total = np.ones(np.broadcast_shapes(sizes[0].shape, units.shape))
        for dim, size in enumerate(sizes):
            count = spread.get(dim)
            with np.errstate(divide="ignore"):
                total = total * (size if count is None else np.ceil(size / count))
        return total


def even(size: Array, most: Array) -> Array:
    """The fewest units, up to `most`, that take as few steps as `most` do; 0 where that is 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(most < 1, 0.0, np.ceil(size / np.ceil(size / np.maximum(most, 1.0))))


DATAFLOWS = (
    Dataflow("nvdla", 64, C, K, (X, Y, S, R, C, K), (X, Y, C, K, C)),
    Dataflow("shidiannao", 16, K, Y, (S, R, C, X, Y, K), (C, K, X, Y, K)),
    Dataflow("eyeriss", None, R, Y, (S, X, Y, R, C, K), (K, C, K, X, Y)),
)
"""Weights stay; outputs stay; rows of weights stay and slide over rows of input."""


def dataflow(name: str) -> Dataflow:
    """A dataflow by name.

    Raises:
        UnknownNameError: listing the known ones.
    """
    known = {flow.name: flow for flow in DATAFLOWS}
    if name not in known:
        raise UnknownNameError("dataflow", name, known)
    return known[name]
