"""Steps of the system: dense training, search, fine-tuning, merge, and the channel-pruned peers."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import nn

from cofit.core import derive_seed, torch_generator
from cofit.data import Dataset
from cofit.ir import Graph, channel_groups, keep_map, trace
from cofit.models.depthwise import SmallMobileNetV2
from cofit.regimes import (
    ActivationGates,
    ActivationRemoval,
    Distillation,
    Recipe,
    Regime,
    RegimeStack,
)
from cofit.reproductions.depthshrinker.network import Stages, narrowed, to_merge, units
from cofit.reproductions.harness import Step, accuracy, seeded, train


@dataclass(frozen=True)
class Settings:
    """What a scale does.

    Attributes:
        data: name of the data set.
        examples: training examples.
        stages: of the network; see `SmallMobileNetV2`.
        stem_stride: of the network.
        head: channels of the last convolution.
        keep: share of blocks that keep their activations; 0.4 in the released configuration.
        epochs: of dense training, search and fine-tuning.
        widths: shares of channels that the channel-pruned peers keep.
        learning_rate: of all trainings, at the first step.
        strength: of the latency term, savings in per cent of the dense latency.
        board: whether the programs are also emulated on a Cortex-M4.
        batch: images per call where throughput is timed.
        explore: epochs of the search with Gumbel noise on the slopes.
        removal: how activations leave in fine-tuning: "at once", "together" (all gradually) or
            "in turn" (block by block).
    """

    data: str
    examples: int
    stages: Stages
    stem_stride: int
    head: int
    keep: float = 0.4
    epochs: tuple[int, int, int] = (6, 3, 3)
    widths: tuple[float, ...] = (0.8, 0.6, 0.4)
    learning_rate: float = 0.1
    strength: float = 1e-4
    board: bool = True
    batch: int = 64
    explore: int = 0
    removal: Literal["at once", "together", "in turn"] = "at once"


DISTILLED = 0.7
"""Share of distillation in the fine-tuning loss, at temperature 1 (released configuration)."""


@dataclass(frozen=True)
class Stager:
    """Settings, data and a seed; one method per training.

    Attributes:
        settings: what is done.
        data: normalised.
        seed: of weights, order and augmentation.
    """

    settings: Settings
    data: Dataset
    seed: int

    @property
    def example(self) -> torch.Tensor:
        """One input, with the batch axis."""
        return self.data.test.inputs[:1]

    def empty(self) -> nn.Module:
        """The dense network before training."""
        s = self.settings
        build = partial(
            SmallMobileNetV2, len(self.data.classes), channels=self.data.input_shape[0],
            stages=s.stages, stem_stride=s.stem_stride, head=s.head,
        )  # fmt: skip
        return seeded(build, self.seed, "depthshrinker")

    def filled(self, state: Mapping[str, torch.Tensor]) -> nn.Module:
        """The dense network with trained weights, in eval mode."""
        model = self.empty()
        model.load_state_dict(dict(state))
        return model.eval()

    def dense(self, step: Step) -> nn.Module:
        """Train from scratch."""
        return self._trained(step, "dense", self.empty(), self.settings.epochs[0])

    def search(
        self, step: Step, model: nn.Module, savings: Mapping[str, float]
    ) -> tuple[nn.Module, ActivationGates]:
        """Train weights and slopes together, from a trained network.

        Args:
            step: of the study.
            model: changed in place.
            savings: in per cent of the dense latency, by block; others keep their activations.

        Returns:
            The network with identities for the activations that went, and the gates.
        """
        chosen = {path: names for path, names in units(model).items() if path in savings}
        gates = ActivationGates(
            chosen, self.settings.keep, savings=savings, strength=self.settings.strength,
            explore_epochs=self.settings.explore,
            generator=torch_generator(self.seed, "depthshrinker", "explore"),
        )  # fmt: skip
        trained = self._trained(step, "search", model, self.settings.epochs[1], gates)
        return trained, gates

    def finetune(
        self, step: Step, model: nn.Module, teacher: nn.Module, removed: tuple[str, ...],
        epochs: int | None = None,
    ) -> nn.Module:  # fmt: skip
        """Train a network in its mergeable form, with the dense one as its teacher.

        Args:
            step: of the study.
            model: the dense network, or that of a search; changed in place.
            teacher: dense.
            removed: blocks that lose their activations, as the settings say.
            epochs: those of fine-tuning without it.
        """
        how = self.settings.removal
        leaving = {} if how == "at once" else {b: units(teacher)[b] for b in removed}
        student = to_merge(model, removed, with_activations=bool(leaving))
        for name in (n for names in leaving.values() for n in names):
            owner, _, place = name.rpartition(".")  # a search has taken them out
            setattr(student.get_submodule(owner), place, nn.ReLU6())
        extra = [ActivationRemoval(leaving, in_turn=how == "in turn")] if leaving else []
        epochs = epochs or self.settings.epochs[2]
        return self._distilled(step, "finetune", student, teacher, epochs, extra)

    def pruned(self, step: Step, dense: nn.Module, width: float) -> nn.Module:
        """A channel-pruned peer: the epochs of search and fine-tuning, and the same teacher."""
        graph = trace(dense, self.example)
        student = prune_channels(copy.deepcopy(dense), graph, width)
        epochs = sum(self.settings.epochs[1:])
        return self._distilled(step, f"width{width}", student, dense, epochs)

    def accuracies(self, model: nn.Module) -> dict[str, float]:
        """On both splits that were not trained on."""
        return {
            "validation": accuracy(model, self.data.validation),
            "test": accuracy(model, self.data.test),
        }

    def _distilled(
        self, step: Step, name: str, student: nn.Module, teacher: nn.Module, epochs: int,
        extra: Sequence[Regime] = (),
    ) -> nn.Module:  # fmt: skip
        # alpha KD + (1 - alpha) CE, divided by 1 - alpha, for the task loss has weight 1
        kd = Distillation(teacher, temperature=1.0, alpha=DISTILLED / (1 - DISTILLED))
        scale = 1 - DISTILLED
        return self._trained(step, name, student, epochs, RegimeStack([kd, *extra]), scale)

    def _trained(
        self, step: Step, name: str, model: nn.Module, epochs: int, regime: Regime | None = None,
        scale: float = 1.0,
    ) -> nn.Module:  # fmt: skip
        recipe = Recipe(epochs, self.settings.learning_rate * scale)
        seed = derive_seed(self.seed, "depthshrinker", name)
        size = min(128, len(self.data.train))
        trained, _ = train(step, model, self.data, recipe, seed, regime, name, size)
        return trained


def prune_channels(model: nn.Module, graph: Graph, width: float) -> nn.Module:
    """Keep a share of every group of coupled channels: those of largest norm, in place.

    The norm of a channel is that of all weights that make it, batch norm folded in.

    Args:
        model: a trained `SmallMobileNetV2`.
        graph: its trace.
        width: share kept of each group, rounded up to whole channels.
    """
    kept: dict[str, dict[int, torch.Tensor]] = {}
    for group in channel_groups(graph):
        if not group.removable:
            continue
        energy = torch.zeros(group.size)
        for member in group.constants:
            if member.axis == 0 and member.tensor.endswith("weight"):
                rows = torch.tensor(member.indices).flatten()
                weight = torch.tensor(graph.tensors[member.tensor].data)
                energy += weight.flatten(1).square().sum(1)[rows]
        spare = group.size - max(1, -int(-group.size * width // 1))
        gone = energy.argsort(stable=True)[:spare].tolist()
        for name, axes in keep_map(graph, group, gone).items():
            for axis, rows_left in axes.items():
                kept.setdefault(name, {})[axis] = torch.from_numpy(rows_left)
    return narrowed(model, kept)
