"""The main job: from a trained network and a budget to a verified program that meets it."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from pydantic import TypeAdapter

from cofit.core import (
    Budget,
    Cost,
    InfeasibleError,
    ModelError,
    TargetError,
    UnsupportedOpError,
    read_tensors,
    write_tensors,
)
from cofit.data import Split
from cofit.fit.conclude import Finding, FitResult, conclude
from cofit.fit.config import FitConfig
from cofit.fit.device import Device
from cofit.fit.devices import device
from cofit.fit.modelled import PAIRS
from cofit.fit.permutation import permute_for_pairs
from cofit.fit.planning import Plan
from cofit.fit.precision import Lowering, Precision, accuracy, reference_scores
from cofit.fit.preflight import check
from cofit.fit.progress import Progress, silent
from cofit.fit.proposal import Base, Proposal, Proposer
from cofit.fit.removal import remove_channels
from cofit.fit.rounds import Outcome, adjusted
from cofit.fit.sensitivity import output_divergence
from cofit.fit.state import State
from cofit.fit.subject import Subject, load_subject
from cofit.fit.training import Trainer
from cofit.ir import Graph, load_graph, run_float, save_graph, trace
from cofit.structures import parse

_COST: TypeAdapter[Cost] = TypeAdapter(Cost)
_OUTCOME: TypeAdapter[Outcome] = TypeAdapter(Outcome)

ROUNDING_LOSS = 0.0025
"""Validation accuracy that int8 may cost before an epoch of quantisation-aware training."""

FINAL = (InfeasibleError, ModelError, TargetError, UnsupportedOpError)
"""Errors that a second try meets again."""

UNBOUNDED_LATENCY = 0.5
"""First latency target, relative to dense, of a budget that limits nothing but accuracy."""


def run_fit(
    config: FitConfig, progress: Progress = silent, subject: Subject | None = None
) -> FitResult:
    """Fit a network to a target under a budget. Stages are stored; a killed fit goes on.

    Args:
        config: what to do.
        progress: told (stage, done, all) along the way.
        subject: network and data in memory; loaded from the configuration if absent.

    Raises:
        InfeasibleError: no plan meets the hardware limits; says which binds and its minimum.
        CofitError: anything the caller can mend, before anything is written where possible.
    """
    check(config)
    threads = torch.get_num_threads()
    torch.set_num_threads(config.threads)
    try:
        return _Fitting(subject or load_subject(config), config, progress).run()
    finally:
        torch.set_num_threads(threads)


class _Fitting:
    def __init__(self, subject: Subject, config: FitConfig, progress: Progress) -> None:
        self._config = config
        self._progress = progress
        self._subject = subject
        self._device: Device = device(config.target)
        self._budget = Budget.parse(config.budget)
        self._state = State(config.out / "state", f"{config.key}-{subject.digest}")
        self._trainer = Trainer(subject, config, self._state.folder, progress)

    def run(self) -> FitResult:
        """Plan, train, compile and measure until the budget is met or the rounds are spent."""
        try:
            return self._rounds(self._given())
        except FINAL:  # the same fit can only end the same way, so another may have the folder
            self._state.discard()
            raise

    def _rounds(self, given: Graph) -> FitResult:
        float_accuracy = float(self._state.stage("given", lambda: self._validate(given)))
        seen = bool(self._state.stage("seen", lambda: self._seen(given, float_accuracy)))
        bases = [self._base(given, p) for p in self._device.precisions(self._config.precision)]
        limits = self._budget.resolve(bases[0].cost.totals())
        hardware = {m: v for m, v in limits.items() if m != "accuracy_drop"}
        if not hardware:
            hardware = {"latency": UNBOUNDED_LATENCY * bases[0].cost.latency_s}
        for metric, has in self._device.memory().items():
            hardware[metric] = min(hardware.get(metric, has), has)
        bases = self._striped(given, bases, hardware.get("ram", math.inf))
        goals = {**limits, **hardware}
        proposer = Proposer(
            given, self._sample(), bases, self._device, self._config, self._state, self._progress
        )
        outcomes: list[Outcome] = []
        margins: Mapping[str, float] = dict.fromkeys(hardware, 1.0)
        for number in range(self._config.rounds):
            try:
                proposal = proposer.propose(f"round{number}", hardware, margins)
            except InfeasibleError:
                if not outcomes:
                    raise
                break  # tightened beyond what is possible: the best so far is the answer
            outcome = self._round(f"round{number}", given, proposal, outcomes[-1:])
            outcomes.append(outcome)
            overruns = outcome.overruns(goals, float_accuracy)
            if seen:  # a drop on images the given network learnt by heart says little
                overruns.pop("accuracy_drop", None)
            if all(value <= 1 for value in overruns.values()):
                break
            if any(overruns[metric] > 1 for metric in hardware):
                margins = adjusted(proposal.margins, overruns)
            else:
                margins = proposal.margins
        best = min(outcomes, key=lambda o: o.rank(goals, float_accuracy))
        dense = bases[0].lowering.lower(given)
        return conclude(
            self._subject,
            self._config,
            self._state,
            self._device,
            Finding(given, dense, float_accuracy, seen, outcomes, best),
            self._progress,
        )

    def _given(self) -> Graph:
        """The trained float graph; trains the network first if it came without weights."""
        module = self._subject.module
        given = self._trace()
        self._state.begin()
        if not self._subject.untrained:
            return given
        file = self._state.path("pretrained.safetensors")
        if not file.exists():
            for precision in self._device.precisions(self._config.precision):
                self._device.check(self._lowering(precision).lower(given))
            self._trainer.from_scratch(module, given)
            write_tensors(file, module.state_dict())
            self._state.keep_time()
        module.load_state_dict(read_tensors(file))
        return self._trace()

    def _trace(self) -> Graph:
        subject = self._subject
        graph = trace(subject.module, subject.example, name=subject.identifier)
        offered = self._config.structures or self._device.families("int8")
        return permute_for_pairs(graph) if PAIRS in offered else graph

    def _lowering(self, precision: Precision) -> Lowering:
        return Lowering(precision, self._subject.calibration)

    def _validate(self, graph: Graph) -> float:
        return accuracy(reference_scores(graph), self._subject.data.validation)

    def _seen(self, given: Graph, validation: float) -> bool:
        """Whether the network came with weights that know the validation images too.

        Then it is as right on them as on as many training images, within two standard errors.
        """
        if self._subject.untrained:
            return False
        data = self._subject.data
        count = min(len(data.validation), len(data.train))
        train = Split(data.train.inputs[:count], data.train.targets[:count])
        right = accuracy(reference_scores(given), train)
        return validation >= right - 2 * math.sqrt(max(right * (1 - right), 1 / count) / count)

    def _base(self, given: Graph, precision: Precision) -> Base:
        def compute() -> Any:
            self._progress(f"dense {precision}", 0, 1)
            lowered = self._lowering(precision).lower(given)
            cost = self._device.cost(lowered)
            self._progress(f"dense {precision}", 1, 1)
            return _COST.dump_python(cost, mode="json")

        cost = _COST.validate_python(self._state.stage(f"dense-{precision}", compute))
        sample = self._sample()
        with torch.no_grad():
            scores = run_float(given, {given.inputs[0]: sample})[given.outputs[0]]
        lowering = self._lowering(precision)
        lowered = reference_scores(lowering.lower(given))(sample.numpy())
        return Base(lowering, cost, output_divergence(scores, torch.from_numpy(lowered)))

    def _striped(self, given: Graph, bases: list[Base], ram_bytes: float) -> list[Base]:
        """The bases, of programs in stripes from here on if whole ones exceed a limit of RAM."""
        if bases[0].cost.ram_bytes <= ram_bytes:
            return bases
        lowered = bases[0].lowering.lower(given)
        self._device = self._device.within(ram_bytes, lowered, bases[0].cost)

        def compute(base: Base) -> Any:
            return _COST.dump_python(self._device.cost(base.lowering.lower(given)), mode="json")

        stored = [
            self._state.stage(f"striped-{base.precision}", functools.partial(compute, base))
            for base in bases
        ]
        costs = map(_COST.validate_python, stored)
        return [replace(base, cost=cost) for base, cost in zip(bases, costs, strict=True)]

    def _sample(self) -> torch.Tensor:
        return self._subject.data.validation.inputs[: self._config.samples]

    def _round(
        self, label: str, given: Graph, proposal: Proposal, before: Sequence[Outcome]
    ) -> Outcome:
        """Train into a plan, going on from the round before it where that has its channels."""
        precision, plan = proposal.precision, proposal.plan

        def compute() -> Any:
            removals = {name: parse(text) for name, text in plan.removals.items()}
            start, removed = remove_channels(given, removals)
            if before and before[-1].plan.removals == plan.removals:
                start = load_graph(self._state.folder, f"{before[-1].label}-float")
            else:
                start = self._trainer.recovered(start, given)
            trained = start
            if plan.structures or plan.removals or before:
                trained = self._trainer.into_structures(start, given, plan.structures, label)
            lowering = self._lowering(precision)
            lowered = lowering.lower(trained, plan.weight_bits)
            if lowered.is_integer:
                trained, lowered = self._through_rounding(trained, lowered, given, plan, label)
            save_graph(trained, self._state.folder, f"{label}-float")
            save_graph(lowered, self._state.folder, f"{label}-lowered")
            self._progress(f"{label} measure", 0, 1)
            cost = self._device.cost(lowered)
            outcome = Outcome(label, plan, precision, removed, cost, self._validate(lowered))
            self._progress(f"{label} measure", 1, 1)
            return _OUTCOME.dump_python(outcome, mode="json")

        return _OUTCOME.validate_python(self._state.stage(label, compute))

    def _through_rounding(
        self, trained: Graph, lowered: Graph, given: Graph, plan: Plan, label: str
    ) -> tuple[Graph, Graph]:
        """An epoch of quantisation-aware training, kept only if it helps on validation."""
        rounded = self._validate(lowered)
        if self._validate(trained) - rounded <= ROUNDING_LOSS:
            return trained, lowered
        tuned = self._trainer.through_rounding(trained, lowered, given, label)
        again = self._lowering("int8").lower(tuned, plan.weight_bits)
        if self._validate(again) <= rounded:
            return trained, lowered
        return tuned, again
