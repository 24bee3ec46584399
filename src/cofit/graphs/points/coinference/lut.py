"""Tables of operations measured on real activations, and the sums they give for a design.

As in GCoDE's predictor an entry is one operation at one width; what a cut sends is an entry too,
since how well activations compress depends on what made them.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

import numpy as np
import torch

from cofit.core import ConfigError, InfeasibleError
from cofit.graphs.points.coinference.estimate import Estimate
from cofit.graphs.points.coinference.messages import (
    HEADER_BYTES,
    Kind,
    Message,
    pack,
    pack_body,
    unpack,
    unpack_header,
)
from cofit.graphs.points.coinference.split import (
    cuts_of,
    one_thread,
    sent_down,
    sent_up,
    sides,
    to_wire,
)
from cofit.graphs.points.costs import design_costs
from cofit.graphs.points.execution import State
from cofit.graphs.points.genotype import Genes
from cofit.graphs.points.network import PointNetwork

T = TypeVar("T")
Key = tuple[str, bool, int]
"""Operation or what is sent, whether points are pooled, and the width before it."""
CLASSIFIER, INPUT, LOGITS = "classifier", "input", "logits"


@dataclass(frozen=True)
class Sending:
    """What packing one tensor costs.

    Attributes:
        nbytes: compressed.
        pack_s: casting, packing and compressing.
        unpack_s: the way back.
    """

    nbytes: float
    pack_s: float
    unpack_s: float


def typical(samples: Sequence[float]) -> float:
    """Mean of what is within 1.5 inter-quartile ranges of the middle half."""
    low, high = np.quantile(samples, [0.25, 0.75])
    reach = 1.5 * (high - low)
    return statistics.fmean(s for s in samples if low - reach <= s <= high + reach)


@dataclass(eq=False)
class Lut:
    """Seconds of CPU time on this machine, by operation; measured where they are asked for.

    Args:
        clouds: (clouds, n, d) a frame of real points.
        k: neighbours per point.
        make: a network of a design, with real weights.
        repeats: measurements of a design.
        memory_bytes: what one operation may hold on the device; None is no limit.
    """

    clouds: torch.Tensor
    k: int
    make: Callable[[Genes], PointNetwork]
    repeats: int = 5
    memory_bytes: int | None = None
    times: dict[Key, list[float]] = field(default_factory=dict)
    sends: dict[Key, list[Sending]] = field(default_factory=dict)
    measured: int = 0
    _typical: dict[Key, float] = field(default_factory=dict, repr=False)
    _sending: dict[Key, Sending] = field(default_factory=dict, repr=False)

    def op_times_s(self, genes: Genes) -> list[float]:
        """Of every operation and of the classifier; 0 for a `communicate`."""
        self.ensure(genes)
        return [0.0 if key is None else self._time_s(key) for key in self._keys(genes)]

    @property
    def _first(self) -> Key:
        """Entry of what is done with a frame before any operation, on the device."""
        return INPUT, False, self.clouds.shape[2]

    def sending(self, key: Key) -> Sending:
        """Typical figures of an entry."""
        if key not in self._sending:
            found = self.sends[key]
            columns = zip(*((s.nbytes, s.pack_s, s.unpack_s) for s in found), strict=True)
            self._sending[key] = Sending(*(typical(column) for column in columns))
        return self._sending[key]

    def _time_s(self, key: Key) -> float:
        if key not in self._typical:
            self._typical[key] = typical(self.times[key])
        return self._typical[key]

    def ensure(self, genes: Genes) -> None:
        """Measure a design if the table lacks one of its entries."""
        keys = [*self._keys(genes), self._first]
        known = all(key is None or key in self.times for key in keys)
        if not known or any(key not in self.sends for key, _ in self._sent(genes)):
            self.measure(genes)

    def estimate(self, genes: Genes, slowdown: float = 1.0, overhead_s: float = 0.0) -> Estimate:
        """The sum of a design's entries.

        Args:
            genes: a canonical design.
            slowdown: of the device against this machine.
            overhead_s: of a round trip; see `Estimate`.

        Raises:
            InfeasibleError: an operation does not fit the device's memory.
        """
        self._fits(genes)
        self.ensure(genes)
        spent = [self._time_s(self._first), 0.0]
        for seconds, side in zip(self.op_times_s(genes), sides(genes), strict=True):
            spent[side] += seconds
        nbytes = 0.0
        for key, up in self._sent(genes):
            sending = self.sending(key)
            nbytes += sending.nbytes
            spent[not up] += sending.pack_s
            spent[up] += sending.unpack_s
        total = nbytes + 2 * HEADER_BYTES if nbytes else 0.0
        return Estimate(slowdown * spent[0], spent[1], total, overhead_s if nbytes else 0.0)

    def placed_times_s(self, genes: Genes, slowdown: float = 1.0) -> list[float]:
        """As `op_times_s`, those on the device multiplied."""
        pairs = zip(self.op_times_s(genes), sides(genes), strict=True)
        return [seconds if side else slowdown * seconds for seconds, side in pairs]

    def transfers(self, genes: Genes, slowdown: float = 1.0) -> list[tuple[float, float]]:
        """(bytes, seconds of packing on both sides) of each crossing; none or two."""
        found: dict[bool, list[float]] = {}
        for key, up in self._sent(genes):
            sending, entry = self.sending(key), found.setdefault(up, [0.0, 0.0])
            pack_by, unpack_by = (slowdown, 1.0) if up else (1.0, slowdown)
            entry[0] += sending.nbytes
            entry[1] += pack_by * sending.pack_s + unpack_by * sending.unpack_s
        return [(found[up][0] + HEADER_BYTES, found[up][1]) for up in (True, False) if up in found]

    def entries(self) -> dict[str, list[float]]:
        """Typical figures of all entries as JSON values, for `restore`."""
        found = {_spell("time", key): [typical(samples)] for key, samples in self.times.items()}
        for key in self.sends:
            sending = self.sending(key)
            found[_spell("send", key)] = [sending.nbytes, sending.pack_s, sending.unpack_s]
        return found

    def restore(self, entries: Mapping[str, Sequence[float]]) -> None:
        """Take the figures of another table of this machine."""
        for text, values in entries.items():
            what, name, pooled, width = text.split("|||")
            key = (name, pooled == "pooled", int(width))
            if what == "time":
                self.times[key] = [*values]
            else:
                self.sends[key] = [Sending(*values)]

    def measure(self, genes: Genes) -> None:
        """Time every operation of a design, and what could be sent after each, `repeats` times."""
        network = self.make(genes).eval()
        self._typical.clear()
        self._sending.clear()
        keys = self._keys(network.genes)
        self.measured += 1
        with one_thread(), torch.no_grad():
            network(self.clouds)  # caches and allocators
            for _ in range(self.repeats):
                state, seconds = _timed(partial(network.begin, self.clouds))
                self.times.setdefault(self._first, []).append(seconds)
                for place, key in enumerate(keys[:-1]):
                    state, seconds = _timed(partial(network.step, place, state))
                    if key is not None:
                        self.times.setdefault(key, []).append(seconds)
                last = keys[-1]
                assert last is not None
                scores, seconds = _timed(partial(network.finish, state))
                self.times.setdefault(last, []).append(seconds)
            self._measure_sends(network, scores)

    def _measure_sends(self, network: PointNetwork, scores: torch.Tensor) -> None:
        wanted = {key: up for key, up in self._sent(network.genes)}
        state = network.begin(self.clouds)
        for place in range(len(network.genes) + 1):
            for key in list(wanted):
                part = self._part(network.genes, place, key, state)
                if part is not None:
                    entry = self.sends.setdefault(key, [])
                    entry.extend(_sent_cost(part) for _ in range(self.repeats))
                    del wanted[key]
            if place < len(network.genes):
                state = network.step(place, state)
        for key in wanted:
            assert key[0] == LOGITS
            entry = self.sends.setdefault(key, [])
            entry.extend(_sent_cost({"logits": scores}) for _ in range(self.repeats))

    def _part(
        self, genes: Genes, place: int, key: Key, state: State
    ) -> dict[str, torch.Tensor] | None:
        """The tensors of an entry, if the state before `place` is where they are made."""
        if key[0] in ("neighbours", "batch"):
            value = getattr(state, key[0])
            at_cut = place in self._crossings(genes)
            if value is None or not at_cut:
                return None
            name = "neighbours" if key[0] == "neighbours" else "batch"
            return {name: to_wire(state, frozenset({name}))[name]}  # type: ignore[arg-type]
        if place in self._crossings(genes) and self._maker(genes, place) == key[0]:
            return {"x": state.x}
        return None

    def _crossings(self, genes: Genes) -> tuple[int, ...]:
        return tuple(place for place, gene in enumerate(genes) if gene.op == "communicate")

    def _maker(self, genes: Genes, place: int) -> str:
        """What made the features before `place`."""
        makers = [str(g) for g in genes[:place] if g.op not in ("sample", "communicate")]
        return f"x of {makers[-1] if makers else INPUT}"

    def _keys(self, genes: Genes) -> list[Key | None]:
        found: list[Key | None] = []
        for gene, pooled, d in self._walk(genes):
            found.append(None if gene == "communicate" else (gene, pooled, d))
        return found

    def _walk(self, genes: Genes) -> Iterator[tuple[str, bool, int]]:
        pooled, d = False, self.clouds.shape[2]
        for gene in genes:
            yield str(gene), pooled, d
            d = gene.width(d)
            pooled |= gene.op == "pool"
        yield CLASSIFIER, pooled, d

    def _sent(self, genes: Genes) -> list[tuple[Key, bool]]:
        """(entry, whether to the edge) of everything a design sends."""
        places = self._crossings(genes)
        if not places:
            return []
        if any("previous" in names for names in (sent_up(genes), sent_down(genes))):
            raise ConfigError("a skip across a cut has no entry; search without connect:skip")
        walk = list(self._walk(genes))
        found: list[tuple[Key, bool]] = []
        crossings = [(places[0], sent_up(genes), True)]
        if cuts_of(genes).edge_classifies:
            found.append(((LOGITS, True, 0), False))
        else:
            crossings.append((places[1], sent_down(genes), False))
        for place, names, up in crossings:
            _, pooled, d = walk[place]
            found.append(((self._maker(genes, place), pooled, d), up))
            found += [((name, False, 0), up) for name in sorted(names)]
        return found

    def _fits(self, genes: Genes) -> None:
        if self.memory_bytes is None:
            return
        number, n, inputs = self.clouds.shape
        costs = design_costs(genes, n, self.k, 1, inputs)
        where = [
            side
            for side, gene in zip(sides(genes), genes, strict=False)
            if gene.op != "communicate"
        ]
        for cost, side in zip(costs, where, strict=False):
            if side == 0 and number * cost.live_bytes > self.memory_bytes:
                raise InfeasibleError(
                    f"{cost.kind} holds {number * cost.live_bytes} bytes; the device has "
                    f"{self.memory_bytes}"
                )


def _spell(what: str, key: Key) -> str:
    return "|||".join((what, key[0], "pooled" if key[1] else "points", str(key[2])))


def _timed(work: Callable[[], T]) -> tuple[T, float]:
    start = time.thread_time()
    result = work()
    return result, time.thread_time() - start


def _sent_cost(tensors: dict[str, torch.Tensor]) -> Sending:
    body, pack_s = _timed(lambda: pack_body(tensors))
    blob = pack(Message(Kind.FRAME), body)
    _, unpack_s = _timed(lambda: unpack(unpack_header(blob[:HEADER_BYTES]), blob[HEADER_BYTES:]))
    return Sending(len(body), pack_s, unpack_s)
