"""What the near-memory units compute: sums per rank, added up per DIMM, then by the host."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from cofit.core import ConfigError
from cofit.targets.memory.bags import Bags
from cofit.targets.memory.placement import Placement

Array = NDArray[Any]
Mode = Literal["sum", "mean"]


@dataclass(frozen=True, eq=False)
class QuantisedTable:
    """A table of 8-bit rows: row r is `codes[r] * scale[r] + bias[r]`.

    Attributes:
        codes: (R, D) uint8.
        scale: (R,) float32.
        bias: (R,) float32.
    """

    codes: NDArray[np.uint8]
    scale: NDArray[np.float32]
    bias: NDArray[np.float32]

    @staticmethod
    def of(table: NDArray[np.float32]) -> QuantisedTable:
        """Quantise (R, D) rows between their least and largest value."""
        low, high = table.min(1), table.max(1)
        scale = np.maximum((high - low) / 255, np.finfo(np.float32).tiny).astype(np.float32)
        codes = np.clip(np.rint((table - low[:, None]) / scale[:, None]), 0, 255)
        return QuantisedTable(codes.astype(np.uint8), scale, low)

    @property
    def floats(self) -> NDArray[np.float32]:
        """(R, D) the rows that the codes stand for."""
        rows = self.codes * self.scale[:, None] + self.bias[:, None]
        return rows.astype(np.float32)


def pool(
    tables: Sequence[Array | QuantisedTable],
    bags: Bags,
    placement: Placement,
    weights: Array | None = None,
    mode: Mode = "sum",
) -> Array:
    """Pool every bag as the hardware does; empty bags give zeros.

    Every rank adds what lies in it, in the order of the bag; a tree in every DIMM adds the sums of
    its ranks; the host adds those of the DIMMs and divides for means.

    Args:
        tables: (R, D) per table, all of the same D; float32, or int64 for fixed point.
        bags: that are pooled.
        placement: of the tables.
        weights: (L,) of the lookups; ones by default.
        mode: "sum" or "mean"; means are not for integers.

    Returns:
        (B, D), of the type of the tables.

    Raises:
        ConfigError: tables do not fit the bags, or the mode does not fit them.
    """
    _check(tables, bags, weights, mode)
    g = placement.memory.geometry
    rank = placement.locate(bags).rank
    integer = not isinstance(tables[0], QuantisedTable) and tables[0].dtype == np.int64
    kind = np.int64 if integer else np.float32
    width = _shape(tables[0])[1]
    partial: Array = np.zeros((len(bags) * g.ranks, width), kind)
    slot, of_table = bags.bag * g.ranks + rank, bags.lookup_table
    for number, table in enumerate(tables):
        mine = np.flatnonzero(of_table == number)
        mine = mine[np.argsort(slot[mine], kind="stable")]
        starts = np.searchsorted(slot[mine], np.arange(len(partial) + 1))
        rows = bags.indices[mine]
        factor: Array = np.ones(len(mine), kind) if weights is None else weights[mine].astype(kind)
        if isinstance(table, QuantisedTable):
            scaled = factor * table.scale[rows]
            partial += _gather(table.codes.astype(np.float32), rows, scaled, starts)
            partial += _gather(table.bias[:, None], rows, factor, starts)
        else:
            partial += _gather(table, rows, factor, starts)
    by_rank = partial.reshape(len(bags), g.dimms, g.ranks_per_dimm, width)
    found = _tree(_tree(by_rank))
    if mode == "mean":
        count = np.maximum(bags.sizes, 1)
        found = (found / count[:, None]).astype(np.float32)
    return found


def _gather(values: Array, rows: NDArray[np.int64], factor: Array, starts: Array) -> Array:
    """Sums of `factor * values[rows]` between starts, in order."""
    found: Array = csr_array((factor, rows, starts), (len(starts) - 1, len(values))) @ values
    return found


def _tree(parts: Array) -> Array:
    """Sum over the last axis but one, pair by pair."""
    while parts.shape[-2] > 1:
        pairs = parts.shape[-2] // 2
        summed = parts[..., 0 : 2 * pairs : 2, :] + parts[..., 1 : 2 * pairs : 2, :]
        parts = np.concatenate([summed, parts[..., 2 * pairs :, :]], axis=-2)
    return parts[..., 0, :]


def _shape(table: Array | QuantisedTable) -> tuple[int, ...]:
    return table.codes.shape if isinstance(table, QuantisedTable) else table.shape


def _check(
    tables: Sequence[Array | QuantisedTable],
    bags: Bags,
    weights: Array | None,
    mode: str,
) -> None:
    shapes = [_shape(table) for table in tables]
    if tuple(shape[0] for shape in shapes) != bags.rows or len({s[1:] for s in shapes}) > 1:
        raise ConfigError(
            f"tables of shapes {shapes} for bags of tables of {list(bags.rows)} rows; give one "
            "table each, all equally wide"
        )
    integer = any(not isinstance(t, QuantisedTable) and t.dtype == np.int64 for t in tables)
    if mode not in ("sum", "mean") or (mode == "mean" and integer):
        raise ConfigError(f"mode {mode!r}; give sum, or for floats mean")
    if weights is not None and len(weights) != bags.lookups:
        raise ConfigError(f"{len(weights)} weights for {bags.lookups} lookups; give one each")
