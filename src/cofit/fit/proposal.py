"""A plan that holds on the target: its program is made and priced before any training.

What a program costs does not depend on how well its weights are trained, so projected weights tell
whether the prices of layers alone, which the plan was made of, add up in the network. Where they do
not, the limits of the plan move by as much, until the program is within the real ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from pydantic import TypeAdapter

from cofit.core import Cost, InfeasibleError
from cofit.fit.config import FitConfig
from cofit.fit.device import Device
from cofit.fit.planner import Planner
from cofit.fit.planning import Plan
from cofit.fit.precision import Lowering, Precision
from cofit.fit.progress import Progress
from cofit.fit.removal import remove_channels
from cofit.fit.rounds import ROOM, adjusted, overruns_of
from cofit.fit.state import State
from cofit.ir import Graph
from cofit.structures import parse

_PLAN: TypeAdapter[tuple[Precision, Plan]] = TypeAdapter(tuple[Precision, Plan])
_COST: TypeAdapter[Cost] = TypeAdapter(Cost)

TRIALS = 4
"""Programs made before training, at most; the one that overruns least is taken."""

MEASURED_SHARE = 0.97
"""Share of a measured latency limit to come within: clocks differ by a few percent later."""


@dataclass(frozen=True)
class Base:
    """The dense network in one precision on the target.

    Attributes:
        lowering: to the precision.
        cost: of the dense program.
        divergence: of its outputs from the given network's on the validation sample.
    """

    lowering: Lowering
    cost: Cost
    divergence: float

    @property
    def precision(self) -> Precision:
        """Of the program."""
        return self.lowering.precision


@dataclass(frozen=True)
class Proposal:
    """What to train for.

    Attributes:
        precision: of the program.
        plan: within the limits as far as its untrained program tells.
        margins: share of each limit that it was planned for, by budget word.
    """

    precision: Precision
    plan: Plan
    margins: Mapping[str, float]


@dataclass(frozen=True, eq=False)
class Proposer:
    """Plans for one network on one device.

    Attributes:
        graph: the dense float graph.
        sample: validation inputs for sensitivities.
        bases: the dense network in each precision to consider, the reference first.
        device: prices layers and programs.
        config: structures and rates to choose from.
        state: where what was measured is kept.
        progress: told where it is.
    """

    graph: Graph
    sample: torch.Tensor
    bases: Sequence[Base]
    device: Device
    config: FitConfig
    state: State
    progress: Progress

    def propose(
        self, label: str, limits: Mapping[str, float], margins: Mapping[str, float]
    ) -> Proposal:
        """The least-loss plan whose program is within the limits.

        Args:
            label: names its stages.
            limits: by budget word, absolute.
            margins: share of each limit to plan for first.

        Raises:
            InfeasibleError: no plan is within the limits; says which binds and its minimum.
        """
        tried: list[tuple[float, Proposal]] = []
        for trial in range(TRIALS):
            name = f"{label}-plan{trial}"
            try:
                precision, plan = self._plan(name, {m: limits[m] * margins[m] for m in limits})
            except InfeasibleError:
                if not tried:
                    raise
                break
            proposal = Proposal(precision, plan, margins)
            overruns = overruns_of(self._priced(f"{name}-priced", proposal), limits)
            if self.device.measured and "latency" in overruns:
                overruns["latency"] /= MEASURED_SHARE
            worst = max(overruns.values())
            repeated = any(plan == earlier.plan for _, earlier in tried)
            tried.append((worst, proposal))
            if repeated or (worst <= 1 and (worst >= ROOM or plan.loss <= 0)):
                break
            margins = adjusted(margins, overruns)
        return min(tried, key=lambda row: (max(row[0], 1.0), row[1].plan.loss))[1]

    def _plan(self, name: str, limits: Mapping[str, float]) -> tuple[Precision, Plan]:
        """The plan of least loss over the precisions that can meet the limits at all."""

        def compute() -> Any:
            plans: list[tuple[float, Precision, Plan]] = []
            refusals: list[InfeasibleError] = []
            for base in self.bases:
                try:
                    plan = self._planner(base).plan(limits)
                except InfeasibleError as error:
                    refusals.append(error)
                else:
                    plans.append((plan.loss + base.divergence, base.precision, plan))
            if not plans:
                raise refusals[-1]
            _, precision, plan = min(plans, key=lambda row: row[0])
            return _PLAN.dump_python((precision, plan), mode="json")

        return _PLAN.validate_python(self.state.stage(name, compute))

    def _planner(self, base: Base) -> Planner:
        return Planner(
            self.graph, self.sample, base.lowering, base.cost,
            self.device, self.config, self.state, self.progress,
        )  # fmt: skip

    def _priced(self, name: str, proposal: Proposal) -> Cost:
        """Cost of the program with projected weights, beside that of the dense reference."""

        def compute() -> Any:
            self.progress("trial program", 0, 1)
            lowering = self._base(proposal.precision).lowering
            shaped = projected(self.graph, proposal.plan)
            program = lowering.lower(shaped, proposal.plan.weight_bits)
            cost = self.device.cost_beside(
                program, self.bases[0].lowering.lower(self.graph), self.bases[0].cost
            )
            self.progress("trial program", 1, 1)
            return _COST.dump_python(cost, mode="json")

        return _COST.validate_python(self.state.stage(name, compute))

    def _base(self, precision: Precision) -> Base:
        return next(base for base in self.bases if base.precision == precision)


def projected(graph: Graph, plan: Plan) -> Graph:
    """The graph narrowed, and its weights projected onto their structures, as a plan says."""
    removals = {name: parse(text) for name, text in plan.removals.items()}
    narrowed, _ = remove_channels(graph, removals)
    return narrowed.with_tensors(
        {
            name: replace(
                narrowed.tensors[name],
                data=structure.project(torch.from_numpy(narrowed.tensors[name].data)).numpy(),
                structure=structure.text,
            )
            for name, structure in plan.structures.items()
        }
    )
