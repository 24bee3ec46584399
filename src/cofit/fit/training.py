"""Training a graph's weights: from scratch, into structures, and through the rounding of int8."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from cofit.core import derive_seed
from cofit.fit.config import PRETRAIN_EPOCHS, FitConfig
from cofit.fit.progress import Progress
from cofit.fit.reconstruct import reconstruct
from cofit.fit.sensitivity import output_divergence
from cofit.fit.subject import Subject
from cofit.ir import Graph, Tensor, load_graph, run_float, save_graph
from cofit.ir.module import GraphModule
from cofit.regimes import (
    ADMM,
    QAT,
    Batches,
    Checkpoint,
    Distillation,
    Held,
    Masked,
    Recipe,
    Regime,
    RegimeStack,
    Renormalise,
    Unified,
    unfuse,
)
from cofit.regimes import fit as train
from cofit.regimes.train import Criterion
from cofit.structures import Structure, Unify, couples_filters, holds_by_zeros, parse

ADMM_SHARE = 0.4
"""Share of a round's epochs that draws the weights to their structures; the rest retrains."""

CHECKPOINT_STEPS = 50

DIVERGENCES = 0.02, 1.0
RATES = 3e-4, 3e-3
"""Learning rates at these divergences and beyond (see `suited_rate`)."""

ROUNDING_SHARE = 0.3
"""Share of that learning rate that training through rounding takes."""


@dataclass(frozen=True)
class Trainer:
    """Trains graphs of one subject under one configuration.

    Attributes:
        subject: data and the given network.
        config: epochs, batch size, learning rate, seed.
        folder: where checkpoints lie while a training runs.
        progress: told (stage, steps done, all steps).
    """

    subject: Subject
    config: FitConfig
    folder: Path
    progress: Progress

    def from_scratch(self, module: nn.Module, graph: Graph) -> None:
        """Train the given module itself (with its own normalisation), in place.

        `graph` is its trace; it tells whether outputs are scores or probabilities.
        """
        recipe = Recipe(self.config.pretrain_epochs or PRETRAIN_EPOCHS, learning_rate=0.1)
        scores = scores_only(graph) is graph
        self._run(
            "pretrain", module, recipe, Regime(), F.cross_entropy if scores else _of_probabilities
        )

    def recovered(self, graph: Graph, dense: Graph) -> Graph:
        """A narrowed graph whose layers make up for the inputs they lost (see `reconstruct`)."""
        return reconstruct(graph, dense, self.subject.calibration, {}, self.progress)

    def into_structures(
        self, graph: Graph, teacher: Graph, structures: Mapping[str, Structure], label: str
    ) -> Graph:
        """Draw weights to their structures by ADMM, harden, make up for what is lost, retrain.

        A graph that is in its structures already is only retrained.

        Args:
            graph: float graph to start from; structures it bears are given up.
            teacher: dense graph to distil from.
            structures: by weight name; empty means plain fine-tuning.
            label: names the round in checkpoints and in the progress.

        Returns:
            The graph with new weights, each in its structure and bearing its text.
        """
        within = all(
            structure.check(torch.from_numpy(graph.tensors[name].data)) is None
            for name, structure in structures.items()
        )
        graph = _unstructured(graph)
        first = 0 if within else max(1, round(self.config.epochs * ADMM_SHARE))
        rest = max(1, self.config.epochs - first)
        hardened = graph
        if not within:
            hardened = self._stored(
                f"{label}-hardened",
                lambda: self._hardened(graph, teacher, structures, first, label),
            )
        regimes = _keeping(structures)
        trained = self._stored(
            f"{label}-retrained",
            lambda: self._shaped(
                hardened, teacher, regimes, self._recipe(rest, hardened, teacher),
                f"{label}-retrain", structures,
            ),
        )  # fmt: skip
        trained = _members_again(trained, structures)
        changed = {
            name: replace(trained.tensors[name], structure=structure.text)
            for name, structure in structures.items()
        }
        return trained.with_tensors(changed)

    def _stored(self, stem: str, compute: Callable[[], Graph]) -> Graph:
        """A graph that is computed once, also by a fit that is killed later."""
        if not (self.folder / f"{stem}.json").exists():
            save_graph(compute(), self.folder, stem)
        return load_graph(self.folder, stem)

    def _hardened(
        self,
        graph: Graph,
        teacher: Graph,
        structures: Mapping[str, Structure],
        epochs: int,
        label: str,
    ) -> Graph:
        """Weights in their structures, not yet retrained."""
        admm = ADMM(
            {name: (structure,) for name, structure in structures.items()},
            rho=1e-3,
            stages=epochs,
            stage_epochs=1,
            growth=10 ** (3 / max(epochs - 1, 1)) if epochs > 1 else 10.0,
        )
        recipe = self._recipe(epochs, graph, teacher)
        drawn = self._shaped(graph, teacher, [admm], recipe, f"{label}-admm", structures)
        solved = {name: s for name, s in structures.items() if holds_by_zeros(s)}
        found = reconstruct(drawn, graph, self.subject.calibration, solved, self.progress)
        return _members_again(found, structures)

    def through_rounding(self, graph: Graph, integer: Graph, teacher: Graph, label: str) -> Graph:
        """One epoch of quantisation-aware training on the integer graph's grids."""
        kept = {w.name: parse(w.structure) for _, w in graph.weighted() if w.structure is not None}
        regimes: list[Regime] = [
            Distillation(GraphModule(scores_only(teacher))),
            *_keeping(kept),
        ]
        module = GraphModule(scores_only(graph))
        recipe = self._recipe(1, graph, teacher, ROUNDING_SHARE)
        stack = RegimeStack([*regimes, QAT(integer)])
        self._run(f"{label}-qat", module, recipe, stack)
        return _with_weights(graph, module)

    def _recipe(self, epochs: int, graph: Graph, teacher: Graph, share: float = 1.0) -> Recipe:
        """Adam, whose steps do not grow with the gradient.

        Folding normalisation into the weights leaves channels of very different norms, on which
        plain gradient steps that are right for one channel wreck another.
        """
        x = self.subject.calibration
        with torch.no_grad():
            wanted, found = (run_float(g, {g.inputs[0]: x})[g.outputs[0]] for g in (teacher, graph))
        rate = self.config.learning_rate or suited_rate(output_divergence(wanted, found))
        return Recipe(epochs, rate * share, optimiser="adam")

    def _shaped(
        self,
        graph: Graph,
        teacher: Graph,
        regimes: list[Regime],
        recipe: Recipe,
        label: str,
        structures: Mapping[str, Structure],
    ) -> Graph:
        open_graph = unfuse(scores_only(graph))
        module = GraphModule(open_graph)
        distillation = Distillation(GraphModule(scores_only(teacher)))
        # folding scales each filter by itself, which sets that couple filters do not survive
        coupled = any(couples_filters(s) for s in structures.values())
        normalise = [] if coupled else [Renormalise(open_graph)]
        stack = RegimeStack([distillation, *regimes, *normalise])
        self._run(label, module, recipe, stack)
        return _with_weights(graph, module)

    def _run(
        self,
        label: str,
        module: nn.Module,
        recipe: Recipe,
        regime: Regime,
        criterion: Criterion = F.cross_entropy,
    ) -> None:
        data = self.subject.data
        batches = Batches(
            data.train.inputs,
            data.train.targets,
            size=min(self.config.batch_size, len(data.train)),
            seed=derive_seed(self.config.seed, label),
            augment=self.subject.augment,
        )
        checkpoint = Checkpoint(self.folder / f"{label}.ckpt", every=CHECKPOINT_STEPS)
        train(
            module, batches, recipe, regime, criterion=criterion,
            checkpoint=checkpoint, progress=self.progress, stage=label,
        )  # fmt: skip
        checkpoint.path.unlink(missing_ok=True)


def suited_rate(divergence: float) -> float:
    """Peak learning rate for a network whose outputs diverge this far from the dense one's.

    A network that is nearly right forgets more than it learns at a rate that one which must learn
    anew needs. Between the two it grows as a power of the divergence.
    """
    low, high = map(math.log, DIVERGENCES)
    place = (math.log(max(divergence, 1e-30)) - low) / (high - low)
    slow, fast = map(math.log, RATES)
    return math.exp(slow + min(max(place, 0.0), 1.0) * (fast - slow))


def _keeping(structures: Mapping[str, Structure]) -> list[Regime]:
    """What keeps members in their structures while they are trained."""
    unified = {name: s for name, s in structures.items() if isinstance(s, Unify)}
    zeros = [name for name, s in structures.items() if holds_by_zeros(s)]
    rest = {name: (s,) for name, s in structures.items() if name not in {*unified, *zeros}}
    regimes: list[Regime] = [Masked(zeros)] if zeros else []
    regimes += [Unified(unified)] if unified else []
    return [*regimes, Held(rest)] if rest else regimes


def scores_only(graph: Graph) -> Graph:
    """The graph without a softmax at its end: class scores are what trains well."""
    last = graph.producer[graph.outputs[0]]
    if last.kind != "softmax":
        return graph
    return Graph.build(graph.name, graph.inputs, last.inputs, graph.ops, graph.tensors)


def _members_again(graph: Graph, structures: Mapping[str, Structure]) -> Graph:
    """Weights in sets of values projected anew where folding a normalisation took them out."""
    moved: dict[str, Tensor] = {}
    for name, structure in structures.items():
        data = torch.from_numpy(graph.tensors[name].data)
        if not holds_by_zeros(structure) and structure.check(data) is not None:
            moved[name] = replace(graph.tensors[name], data=structure.project(data).numpy())
    return graph.with_tensors(moved)


def _unstructured(graph: Graph) -> Graph:
    return graph.with_tensors({w.name: replace(w, structure=None) for _, w in graph.weighted()})


def _with_weights(graph: Graph, module: GraphModule) -> Graph:
    trained = module.to_graph().tensors
    names = [name for name, tensor in graph.tensors.items() if tensor.data is not None]
    return graph.with_tensors(
        {name: replace(graph.tensors[name], data=trained[name].data) for name in names}
    )


def _of_probabilities(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return F.nll_loss(outputs.clamp_min(1e-9).log(), targets)
