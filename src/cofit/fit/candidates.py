"""The options of every layer, structure x rate or fewer bits, with predicted cost and loss."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

import torch

from cofit.core import Cost, CostRow
from cofit.fit.planning import Menu, Option, scaled_option
from cofit.fit.products import Product, products
from cofit.fit.progress import Progress
from cofit.fit.sensitivity import Probe, slopes
from cofit.ir import Graph, Op
from cofit.structures import FixedPoint, Structure, family, holds_by_zeros

REMOVAL = "channel"
"""Family whose zeros become a narrower network instead of a sparse kernel."""

MILDEST = 2
"""How many of a layer's mildest structures are perturbed to measure its slope."""

Families = Callable[[Op], Sequence[str]]
"""Names of the structure families to try on the weights of an op."""

Pricer = Callable[[Sequence[tuple[Product, str | None, int]]], Sequence[CostRow]]
"""Cost of ops alone on the target: (product, its structure's text, weight bits) each."""


def layer_structures(
    shape: tuple[int, ...], families: Sequence[str], rates: Sequence[float]
) -> tuple[list[Structure], str]:
    """Structures a weight of this shape can carry, mildest first, and why there are none."""
    found: list[Structure] = []
    reason = "no structure family was offered"
    for name in families:
        form = family(name)
        for rate in (form.least_rate,) if form.fixed else rates:
            if rate < form.least_rate:
                reason = f"{name}: its least rate is {form.least_rate:g}"
                continue
            structure = form(rate)
            refused = structure.applies(shape)
            if refused is None:
                found.append(structure)
            else:
                reason = f"{name}: {refused}"
    return sorted(found, key=lambda s: s.rate), reason


def measure_slopes(
    probe: Probe,
    families: Families,
    rates: Sequence[float],
    bits: Sequence[int],
    progress: Progress,
) -> dict[str, float]:
    """Divergence per unit of noise, by weight name, at each layer's mildest options."""
    anchors: dict[str, list[torch.Tensor]] = {}
    for op, weight in probe.graph.weighted():
        dense = torch.from_numpy(weight.data)
        structures, _ = layer_structures(weight.shape, families(op), rates)
        anchors[weight.name] = [_pruned(probe, weight.name, s, dense) for s in structures[:MILDEST]]
        anchors[weight.name] += [
            FixedPoint(fewer).project(dense) for fewer in _narrower(probe.graph, op, bits)
        ]
    return slopes(probe, anchors, progress)


def make_menu(
    graph: Graph,
    probe: Probe,
    dense: Cost,
    families: Families,
    rates: Sequence[float],
    bits: Sequence[int],
    free: Collection[str],
    price: Pricer,
    steepness: Mapping[str, float],
    joint: bool = False,
) -> Menu:
    """Enumerate, price and rate every option.

    Args:
        graph: the dense float graph.
        probe: its activations on validation inputs.
        dense: cost of the dense program, rows by op name.
        families: of structures, by op.
        rates: pruning rates.
        bits: weight bits, the usual one first (for example (8, 4)).
        free: ops whose output channels can be removed (see `removal.free_layers`).
        price: cost of ops alone on the target.
        steepness: divergence per unit of noise to signal, by weight name (see `measure_slopes`).
        joint: whether weights in structures may have fewer bits too.
    """
    rows = {row.op: row for row in dense.rows}
    wanted: dict[str, list[tuple[Structure | None, int]]] = {}
    reasons: dict[str, str] = {}
    readers = Counter(weight.name for _, weight in graph.weighted())
    found = products(graph)
    for product in found:
        op, weight = product.op, graph.tensors[product.weight]
        allowed = [f for f in families(op) if f != REMOVAL or op.output in free]
        structures, reason = layer_structures(weight.shape, allowed, rates)
        narrower = _narrower(graph, op, bits)
        if readers[weight.name] > 1:
            structures, narrower = [], ()
            reason = f"{readers[weight.name]} layers share its weight"
        if not structures:
            reasons[product.name] = reason
        stored = [s for s in structures if s.text.partition("@")[0] != REMOVAL]
        wanted[product.name] = [
            (None, bits[0]),
            *((structure, bits[0]) for structure in structures),
            *((None, fewer) for fewer in narrower),
            *((s, fewer) for s in stored for fewer in narrower if joint),
        ]
    asked = [(product, s, b) for product in found for s, b in wanted[product.name]]
    priced = iter(price([(product, s.text if s else None, b) for product, s, b in asked]))
    options = {
        product.name: tuple(
            _options(
                product, wanted[product.name], priced, rows[product.op.output], probe, steepness
            )
        )
        for product in found
    }
    return Menu(options, reasons)


def _options(
    product: Product,
    wanted: Sequence[tuple[Structure | None, int]],
    priced: Iterator[CostRow],
    in_network: CostRow,
    probe: Probe,
    steepness: Mapping[str, float],
) -> Iterator[Option]:
    weight = product.weight
    dense = torch.from_numpy(probe.graph.tensors[weight].data)
    rows = [next(priced) for _ in wanted]
    for (structure, bits), row in zip(wanted, rows, strict=True):
        changed = dense
        if structure is not None:
            changed = _pruned(probe, weight, structure, dense)
        if bits < 8:
            changed = FixedPoint(bits).project(changed)
        loss = 0.0 if changed is dense else steepness[weight] * probe.noise(weight, changed)
        text = structure.text if structure is not None else None
        yield scaled_option(row, rows[0], in_network, text, bits, loss, product.share)


def _narrower(graph: Graph, op: Op, bits: Sequence[int]) -> Sequence[int]:
    """Fewer bits than usual: recurrent weights are stored in the usual ones only."""
    return bits[1:] if graph.weight(op) is not None else ()


def _pruned(probe: Probe, weight: str, structure: Structure, dense: torch.Tensor) -> torch.Tensor:
    """A projected weight, what it keeps solved anew where that stays in the structure."""
    projected = structure.project(dense)
    return probe.recovered(weight, projected) if holds_by_zeros(structure) else projected
