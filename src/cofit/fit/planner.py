"""Planning one precision: choose removals first, then everything else on the narrowed network."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from pydantic import TypeAdapter

from cofit.core import Cost, InfeasibleError
from cofit.fit.candidates import REMOVAL, Families, make_menu, measure_slopes
from cofit.fit.config import FitConfig
from cofit.fit.device import Device
from cofit.fit.planning import Menu, Option, Plan, choose
from cofit.fit.precision import Lowering
from cofit.fit.progress import Progress
from cofit.fit.removal import (
    chosen_removals,
    credited,
    free_layers,
    reappraised,
    remove_channels,
    strongest_removals,
)
from cofit.fit.sensitivity import Probe
from cofit.fit.state import State
from cofit.ir import Graph, Op
from cofit.structures import parse

_MENU: TypeAdapter[Menu] = TypeAdapter(Menu)


@dataclass(frozen=True, eq=False)
class Planner:
    """Plans for one network in one precision on one device.

    Removing channels makes the layers behind cheaper, which the price of a layer alone cannot say.
    So a first plan, which credits removals with a share of the layers behind (see `credited`),
    decides which channels go; a second one, on the network without them, decides the rest at
    prices that hold. Where it cannot, the credit was too large: a plan without credit, and last
    all removals there are, take more channels.

    Attributes:
        graph: the dense float graph.
        sample: validation inputs for sensitivities.
        lowering: to the precision.
        cost: of the dense program.
        device: what prices layers.
        config: structures and rates to choose from.
        state: where what was measured is kept.
        progress: told where it is.
    """

    graph: Graph
    sample: torch.Tensor
    lowering: Lowering
    cost: Cost
    device: Device
    config: FitConfig
    state: State
    progress: Progress

    def plan(self, limits: Mapping[str, float]) -> Plan:
        """The least-loss plan within limits (by budget word, absolute).

        Raises:
            InfeasibleError: no plan is within the limits.
        """
        menu = self._first_menu()
        for priced in (credited(self.graph, menu), menu):
            with contextlib.suppress(InfeasibleError):
                first = choose(self.graph, priced, self.cost, limits)
                removals = chosen_removals(first)
                return self._without(removals, limits) if removals else first
        removals = strongest_removals(self.graph, menu)
        if not removals:
            return choose(self.graph, menu, self.cost, limits)  # says what binds
        return self._without(removals, limits)

    def _without(self, removals: Mapping[str, Option], limits: Mapping[str, float]) -> Plan:
        """The least-loss plan of the network without the channels of some removals."""
        texts = {name: str(option.structure) for name, option in removals.items()}
        narrowed, _ = remove_channels(self.graph, {n: parse(text) for n, text in texts.items()})
        self.progress("narrowed network", 0, 1)
        cost = self.device.cost(self.lowering.lower(narrowed))
        self.progress("narrowed network", 1, 1)
        probe = Probe.run(narrowed, self.sample)
        second = choose(narrowed, self._menu(probe, cost, self._unremoving, ()), cost, limits)
        lost = sum(option.loss for option in removals.values())
        return replace(second, loss=second.loss + lost, bound=second.bound + lost, removals=texts)

    @functools.cached_property
    def _probe(self) -> Probe:
        return Probe.run(self.graph, self.sample)

    def _first_menu(self) -> Menu:
        def compute() -> Any:
            probe = self._probe
            menu = self._menu(probe, self.cost, self._families, free_layers(self.graph))
            menu = reappraised(self.graph, menu, probe, self._slopes())
            return _MENU.dump_python(menu, mode="json")

        name = f"menu-{self.lowering.precision}"
        return _MENU.validate_python(self.state.stage(name, compute))

    def _menu(self, probe: Probe, cost: Cost, families: Families, free: Collection[str]) -> Menu:
        precision = self.lowering.precision
        return make_menu(
            probe.graph,
            probe,
            cost,
            families,
            self.config.rates,
            self._bits(),
            free,
            lambda asked: self.device.price(probe.graph, asked, precision, self.progress),
            self._slopes(),
            joint=self.device.narrows_structures,
        )

    def _slopes(self) -> dict[str, float]:
        def compute() -> Any:
            return measure_slopes(
                self._probe, self._families, self.config.rates, self._bits(), self.progress
            )

        slopes: dict[str, float] = self.state.stage(f"slopes-{self.lowering.precision}", compute)
        return slopes

    def _families(self, op: Op) -> Sequence[str]:
        return self.config.structures or self.device.families(self.lowering.precision, op.kind)

    def _unremoving(self, op: Op) -> Sequence[str]:
        return [name for name in self._families(op) if name != REMOVAL]

    def _bits(self) -> tuple[int, ...]:
        return self.device.weight_bits(self.lowering.precision)
