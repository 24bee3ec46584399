"""The recurrent network and the ways to prune it, all in the same number of epochs."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from cofit.core import ConfigError
from cofit.data import Dataset
from cofit.models import GruSpeech, StreamingGru
from cofit.regimes import ADMM, Masked, Recipe, Regime, RegimeStack
from cofit.reproductions.harness import Step, train
from cofit.structures import BlockColumns, Structure

LAYERS = 2
LEARNING_RATE = 2e-3
ADMM_STAGES = 4


class SpeechGru(GruSpeech):
    """Two GRU layers over frames, some of them at a step, and a head on the last state.

    Args:
        features: of a frame.
        stack: frames of a step; those that fill no step at the end are not read.
        hidden: units of a layer.
        classes: of the head.
    """

    def __init__(self, features: int, stack: int, hidden: int, classes: int = 10) -> None:
        super().__init__(classes, features, hidden, stack, LAYERS)

    def streaming(self) -> StreamingGru:
        """The same weights, one step per call."""
        return StreamingGru(self.gru, self.head).eval()

    def pruned(self) -> list[str]:
        """Names of the weights that are pruned: all of the recurrence but the first layer's inputs.

        Those few columns stand for all that the network hears.
        """
        return [
            f"gru.weight_{side}_l{layer}"
            for layer in range(LAYERS)
            for side in ("ih", "hh")
            if (side, layer) != ("ih", 0)
        ]


@dataclass(frozen=True)
class Epochs:
    """Of one pruning; where there is one step only, it gets the epochs of both."""

    admm: int
    retrain: int

    @property
    def total(self) -> int:
        """Of all trainings of a pruning."""
        return 2 * (self.admm + self.retrain)


def prune(
    step: Step, model: SpeechGru, data: Dataset, structure: Structure, epochs: Epochs, seed: int,
    batch: int,
) -> nn.Module:  # fmt: skip
    """Drive the recurrent weights into a structure by ADMM and retrain what is left.

    Of `BlockColumns` that removes rows, columns go first and rows after, each by an ADMM and a
    retraining of its own.
    """
    names = model.pruned()
    stages: list[Structure] = [structure]
    if isinstance(structure, BlockColumns) and structure.row_rate > 1:
        stages = [structure.columns, structure]
    share = 2 // len(stages)
    trained: nn.Module = model
    for number, target in enumerate(stages):
        admm = ADMM(
            {name: (target,) for name in names},
            stages=ADMM_STAGES,
            stage_epochs=max(1, share * epochs.admm // ADMM_STAGES),
        )
        held: list[Regime] = [Masked(names)] if number else []
        for stage, regime, count in (
            (f"admm{number}", RegimeStack([admm, *held]), share * epochs.admm),
            (f"retrain{number}", Masked(names), share * epochs.retrain),
        ):
            recipe = Recipe(count, LEARNING_RATE, "adam")
            trained, _ = train(step, trained, data, recipe, seed, regime, stage, batch)
    for name in names:
        violation = structure.check(trained.get_parameter(name).detach())
        if violation is not None:
            raise ConfigError(f"{name} is not {structure.text} after pruning: {violation}")
    return trained


def fresh(
    step: Step, model: SpeechGru, data: Dataset, epochs: int, seed: int, batch: int, name: str
) -> nn.Module:
    """Dense training."""
    recipe = Recipe(epochs, LEARNING_RATE, "adam")
    trained, _ = train(step, model, data, recipe, seed, None, name, batch)
    return trained


def rate_over_all(model: SpeechGru) -> float:
    """All weights of layers over those that are not zero; the first layer's and the head count."""
    weights = [p.detach() for p in model.parameters() if p.dim() > 1]
    return sum(w.numel() for w in weights) / sum(int((w != 0).sum()) for w in weights)
