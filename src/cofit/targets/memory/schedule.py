"""Packets: bags of one table and batch that are pooled together, and the order they are sent in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from cofit.core import ConfigError
from cofit.targets.memory.bags import Bags, Ints

Order = Literal["interleaved", "table-aware"]


@dataclass(frozen=True, eq=False)
class Packets:
    """Bags in the order in which they are sent.

    Attributes:
        bags: in that order.
        source: (B,) index of every bag before.
        starts: (P + 1,) first bag of every packet.
    """

    bags: Bags
    source: Ints
    starts: Ints

    def __len__(self) -> int:
        return len(self.starts) - 1


def packets(bags: Bags, size: int, order: Order = "interleaved") -> Packets:
    """Cut bags into packets of up to `size` of the same batch and table, and order these.

    Args:
        bags: as they come.
        size: bags per packet.
        order: "interleaved" gives every table of a batch its turn, packet by packet; "table-aware"
            sends all packets of a table and batch back to back.

    Raises:
        ConfigError: a packet has no room, or no such order.
    """
    if size < 1 or order not in ("interleaved", "table-aware"):
        raise ConfigError(
            f"packets of {size}, {order!r}; give at least 1 and interleaved or table-aware"
        )
    by_group = np.lexsort((bags.table, bags.batch))
    table, batch = bags.table[by_group], bags.batch[by_group]
    new = np.ones(len(bags), bool)
    new[1:] = (table[1:] != table[:-1]) | (batch[1:] != batch[:-1])
    first = np.flatnonzero(new)
    within = np.arange(len(bags)) - np.repeat(first, np.diff([*first, len(bags)]))
    chunk = within // size
    keys = (table, chunk, batch) if order == "interleaved" else (chunk, table, batch)
    sent = np.lexsort((within, *keys))
    source = by_group[sent]
    begins = np.ones(len(bags), bool)
    for key in keys:
        ordered = key[sent]
        begins[1:] = begins[1:] & (ordered[1:] == ordered[:-1])
    begins[1:] = ~begins[1:]
    starts = np.append(np.flatnonzero(begins), len(bags))
    return Packets(bags.take(source), source, starts)
