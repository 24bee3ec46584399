"""What each layer could become, what that costs and loses, and the best joint choice."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from cofit.core import Cost, CostRow, InfeasibleError, SharedCode, format_quantity
from cofit.core.allocate import Choice, allocate, relative_gap
from cofit.fit.products import Product, products
from cofit.ir import Graph
from cofit.structures import Structure, parse
from cofit.targets.rows import RUNTIME


@dataclass(frozen=True)
class Option:
    """One thing a layer could become.

    Attributes:
        structure: canonical text, None for dense.
        bits: bits of a stored weight.
        loss: modelled damage (see `sensitivity`).
        latency_s, flash_bytes, ram_bytes, energy_j: predicted cost inside the network.
        shared: code that it calls and other layers may too; `flash_bytes` is without it.
    """

    structure: str | None
    bits: int
    loss: float
    latency_s: float
    flash_bytes: int
    ram_bytes: int
    energy_j: float | None
    shared: tuple[SharedCode, ...] = ()

    @property
    def calls(self) -> frozenset[str]:
        """Names of the shared functions."""
        return frozenset(code.function for code in self.shared)

    @property
    def costs(self) -> dict[str, float]:
        """Additive costs by budget word."""
        energy = {} if self.energy_j is None else {"energy": self.energy_j}
        return {"latency": self.latency_s, "flash": float(self.flash_bytes), **energy}


@dataclass(frozen=True)
class Menu:
    """Options by name of a product, the dense one first, and why it has no other."""

    options: Mapping[str, tuple[Option, ...]]
    reasons: Mapping[str, str]


@dataclass(frozen=True)
class LayerPlan:
    """The chosen option of one product, and why.

    Attributes:
        op: whose product it is.
        side: of a recurrent op which ("ih" or "hh"), else "".
        weight: its name, `shape` its shape.
        chosen: the option, beside the `dense` one.
        considered: number of options.
        note: why it stays dense, if it does.
    """

    op: str
    side: str
    weight: str
    shape: tuple[int, ...]
    chosen: Option
    dense: Option
    considered: int
    note: str


@dataclass(frozen=True)
class Plan:
    """One joint choice with what it promises.

    Attributes:
        layers: in the order of the graph, which is the narrowed one where `removals` are made.
        predicted: totals by budget word.
        loss: modelled damage of all choices, removals included.
        bound: proven lower bound of the loss of any plan with the same removals.
        removals: channel structures that narrow the network first, by weight name.
    """

    layers: tuple[LayerPlan, ...]
    predicted: Mapping[str, float]
    loss: float
    bound: float
    removals: Mapping[str, str] = field(default_factory=dict)

    @property
    def gap(self) -> float:
        """(loss - bound) / |loss|: zero when proven optimal among plans with these removals."""
        return relative_gap(self.loss, self.bound)

    @property
    def structures(self) -> dict[str, Structure]:
        """Structure by weight name, for layers that are not left dense."""
        return {
            layer.weight: parse(layer.chosen.structure)
            for layer in self.layers
            if layer.chosen.structure is not None
        }

    @property
    def weight_bits(self) -> dict[str, int]:
        """Bits of stored weights by op name."""
        return {layer.op: layer.chosen.bits for layer in self.layers}


def scaled_option(
    option: CostRow,
    isolated_dense: CostRow,
    in_network: CostRow,
    structure: str | None,
    bits: int,
    loss: float,
    share: float = 1.0,
) -> Option:
    """An option's cost inside the network, from costs measured on its op alone.

    Latency and energy keep the ratio to the dense op, energy that is not stated of the op alone
    that of latency; flash and RAM keep the difference. Of an op of several products, each bears its
    share of the dense op's cost and what its own option changes of the whole.
    """
    ratio = option.latency_s / isolated_dense.latency_s if isolated_dense.latency_s else 1.0
    part = share + ratio - 1
    energy = in_network.energy_j
    if energy is not None:
        own, dense = option.energy_j, isolated_dense.energy_j
        energy *= share - 1 + (own / dense if own is not None and dense else ratio)
    return Option(
        structure,
        bits,
        loss,
        in_network.latency_s * part,
        round(in_network.flash_bytes * share) + option.flash_bytes - isolated_dense.flash_bytes,
        in_network.ram_bytes + option.ram_bytes - isolated_dense.ram_bytes,
        energy,
        option.shared,
    )


def undominated(options: Sequence[Option]) -> list[Option]:
    """Options without those that another beats or equals in loss, every cost and shared code."""
    kept: list[Option] = []
    for option in sorted(options, key=lambda o: (o.loss, *o.costs.values(), len(o.shared))):
        beaten = any(
            all(other.costs[m] <= value for m, value in option.costs.items())
            and other.calls <= option.calls
            for other in kept
        )
        if not beaten:
            kept.append(option)
    return kept


def choose(
    graph: Graph,
    menu: Menu,
    dense: Cost,
    limits: Mapping[str, float],
) -> Plan:
    """The least-loss plan within the limits.

    Args:
        graph: the dense graph.
        menu: options by name of a product.
        dense: cost of the dense program on the target.
        limits: absolute upper bounds by budget word; ram filters options (what is alive while
            other ops run is the network's, no option makes it less), the rest add up.

    Raises:
        InfeasibleError: naming the limit that binds and the reachable minimum.
    """
    additive = {m: v for m, v in limits.items() if m in ("latency", "flash", "energy")}
    found = products(graph)
    names = [product.name for product in found]
    options = menu.options
    least = {
        op: max(min(o.ram_bytes for o in options[p.name]) for p in same)
        for op, same in itertools.groupby(found, key=lambda product: product.op.output)
    }
    arena = _arena_room(dense, least, limits.get("ram", math.inf))
    kept = {
        name: undominated([option for option in options[name] if option.ram_bytes <= arena])
        for name in names
    }
    totals = dense.totals()
    shared = shared_flash([options[name] for name in names], dense, least)
    charges = {"flash": shared}
    fixed = {
        metric: float(totals[metric] or 0) - sum(options[name][0].costs[metric] for name in names)
        for metric in additive
    }
    if "flash" in fixed:  # the dense program holds what its layers share: they may stop using it
        called = frozenset[str]().union(*(options[name][0].calls for name in names))
        fixed["flash"] -= sum(nbytes for name, nbytes in shared.items() if name in called)
    items = [
        [Choice(o.loss, o.costs, o.calls & shared.keys()) for o in kept[name]] for name in names
    ]
    allocation = allocate(items, additive, fixed, charges)
    picks = dict(zip(names, allocation.picks, strict=True))
    layers = tuple(
        _layer(product, graph.tensors[product.weight].shape, kept[product.name], picks, menu)
        for product in found
    )
    return Plan(layers, dict(allocation.totals), allocation.loss, allocation.bound)


def shared_flash(
    options: Sequence[Sequence[Option]], dense: Cost, layers: Collection[str]
) -> dict[str, float]:
    """Flash of each function that layers share, charged once if any chosen option calls it.

    What dense layers call has the size it has in the dense program. Of the rest, what only one
    layer can call is fitted to it, and what several can call is priced as fitted to none: the
    least plan may come out smaller, but not larger. What other ops call is always there, so it is
    left out.

    Args:
        options: per layer, the dense one first.
        dense: cost of the dense program.
        layers: op names of the layers.
    """
    present = {code.function: code.flash_bytes for row in dense.rows for code in row.shared}
    pinned = {code.function for row in dense.rows if row.op not in layers for code in row.shared}
    of_dense = frozenset[str]().union(*(row[0].calls for row in options))
    callers = Counter(name for row in options for name in {n for o in row for n in o.calls})
    found: dict[str, float] = {}
    for code in (code for row in options for option in row for code in option.shared):
        name = code.function
        if name in pinned:
            continue
        if name in of_dense:
            nbytes = present.get(name, 0)
        else:
            nbytes = code.flash_bytes if callers[name] == 1 else code.general_bytes
        found[name] = max(found.get(name, 0.0), float(nbytes))
    return found


def _layer(
    product: Product,
    shape: tuple[int, ...],
    kept: Sequence[Option],
    picks: Mapping[str, int],
    menu: Menu,
) -> LayerPlan:
    name, note = product.name, ""
    options, chosen = menu.options[name], kept[picks[name]]
    if chosen == options[0]:
        faster = [o for o in options[1:] if o.latency_s < options[0].latency_s]
        note = menu.reasons.get(name) or (
            "nothing tried is faster than dense here"
            if not faster
            else "the budget is met with less loss elsewhere"
        )
    return LayerPlan(
        product.op.output, product.side, product.weight, shape, chosen, options[0], len(options),
        note,
    )  # fmt: skip


def _arena_room(dense: Cost, least: Mapping[str, int], limit: float) -> float:
    """Bytes of a RAM limit that may be alive while an op runs.

    `least` is what an op needs in its best option. The rest (stack, data, gaps in the arena) is
    taken to stay as it is in the dense program.

    Raises:
        InfeasibleError: an op needs more in all its options; names it and its bytes.
    """
    alive = {row.op: row.ram_bytes for row in dense.rows if row.op != RUNTIME}
    rest = dense.ram_bytes - max(alive.values(), default=0)
    needs = {**alive, **least}
    op = max(needs, key=lambda name: needs[name])
    if needs[op] + rest > limit:
        raise InfeasibleError(
            f"no plan meets the budget: ram binds: limit {format_quantity(limit, 'bytes')}, "
            f"reachable minimum {format_quantity(needs[op] + rest, 'bytes')}, of which "
            f"{format_quantity(needs[op], 'bytes')} are alive in the arena while {op!r} runs; "
            "raise that limit, allow the structure 'channel' at higher rates, or take a network "
            "with smaller activations there"
        )
    return limit - rest
