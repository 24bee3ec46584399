"""Five ways to store a network in the same bytes, each trained for the same epochs."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import nn

from cofit.data import Dataset
from cofit.regimes import ADMM, Handle, Masked, OnGrid, Recipe, Regime, RegimeStack, Unified
from cofit.reproductions.harness import Step, train
from cofit.structures import Composition, FixedPoint, Structure, Unify

Way = Literal["admm", "one-shot", "progressive"]
"""How weights get into their structure."""

SHARES = (0.25, 0.5, 0.75, 1.0)
"""Of the blocks to be unified, by stage of the progressive regime."""

RHO, GROWTH = 3e-2, 100.0
"""Penalty of the first ADMM epoch, and of the last one relative to it."""


@dataclass(frozen=True)
class Contender:
    """A form of all compressed weights; its rate follows from the bytes it may take.

    Attributes:
        name: short, as in tables.
        form: structure family, for example "block1x8+int8".
        what: it stores.
    """

    name: str
    form: str
    what: str


def contenders(block: str, longer: str) -> tuple[Contender, ...]:
    """The five; `longer` blocks bring unification alone to the bytes of the others."""
    return (
        Contender("prune", f"block{block}+int8", "blocks pruned, the rest int8"),
        Contender("unify", f"unify{longer}", "every block unified"),
        Contender("both", f"unify{block}", "blocks pruned, the rest unified"),
        Contender("int4", f"block{block}+int4", "blocks pruned, the rest int4 per channel"),
        Contender("magnitude", "unstructured+int8", "weights pruned, the rest int8"),
    )


@dataclass(frozen=True)
class Epochs:
    """Epochs and peak learning rates of the stages of one training.

    Attributes:
        admm: towards the structure.
        retrain: within it.
        admm_rate, retrain_rate: of SGD.
    """

    admm: int
    retrain: int
    admm_rate: float
    retrain_rate: float


def trained(
    step: Step,
    dense: nn.Module,
    data: Dataset,
    seed: int,
    structures: Mapping[str, Structure],
    epochs: Epochs,
    *,
    batch: int,
    way: Way = "admm",
) -> tuple[nn.Module, tuple[float, ...]]:
    """A copy of the dense network trained into its structures, and its gaps during ADMM.

    One-shot projection skips ADMM and retrains for the epochs of both stages; so does the
    progressive regime, which unifies a growing share of the blocks (see `progressive`).
    """
    model = copy.deepcopy(dense)
    if way == "progressive":
        unified = {name: s for name, s in structures.items() if isinstance(s, Unify)}
        return progressive(step, model, data, seed, unified, epochs, batch=batch), ()
    goals = {name: _removing(structure) for name, structure in structures.items()}
    gaps = Gaps(goals)
    admm = ADMM(
        {name: (goal,) for name, goal in goals.items()},
        rho=RHO, growth=GROWTH ** (1 / max(epochs.admm - 1, 1)), stages=epochs.admm,
        stage_epochs=1,
    )  # fmt: skip
    left = epochs.retrain
    if way == "one-shot":
        admm.attach(model, next(iter(data.train.inputs.split(1))))
        admm.harden()
        left += epochs.admm
    else:
        recipe = Recipe(epochs.admm, epochs.admm_rate, weight_decay=0.0)
        watched = RegimeStack([gaps, admm])
        model, _ = train(step, model, data, recipe, seed, watched, "admm", batch)
    within = Recipe(left, epochs.retrain_rate)
    model, _ = train(step, model, data, within, seed, holding(structures), "retrain", batch)
    return model, tuple(gaps.seen)


def progressive(
    step: Step,
    model: nn.Module,
    data: Dataset,
    seed: int,
    structures: Mapping[str, Unify],
    epochs: Epochs,
    *,
    batch: int,
) -> nn.Module:
    """Unify a growing share of the blocks; between the stages train free weights and values.

    Blocks that are pruned or unified stay so: they are the ones whose projection loses nothing.
    The epochs of ADMM and retraining are split among the stages, the later ones getting more.
    """
    total, stages = epochs.admm + epochs.retrain, len(SHARES)
    for number, share in enumerate(SHARES):
        partly = {
            name: replace(structure, share=structure.share * share)
            for name, structure in structures.items()
        }
        with torch.no_grad():
            for name, structure in partly.items():
                weight = model.get_parameter(name)
                weight.copy_(structure.project(weight.detach()))
        length = total * (number + 1) // stages - total * number // stages
        if length:
            recipe = Recipe(length, epochs.retrain_rate)
            regime = holding(partly)
            model, _ = train(step, model, data, recipe, seed, regime, f"share {share}", batch)
    return model


class Gaps(Regime):
    """Watches sum ||W - project(W)|| / sum ||W|| at the start of each epoch and at the end.

    Args:
        structures: by weight name.
    """

    def __init__(self, structures: Mapping[str, Structure]) -> None:
        self.seen: list[float] = []
        self._structures = dict(structures)
        self._model: nn.Module | None = None

    def attach(self, model: nn.Module, sample: torch.Tensor) -> Handle:
        """Bind to the model, which is not changed."""
        self._model = model
        return Handle()

    def on_epoch(self, epoch: int) -> None:
        """Measure."""
        assert self._model is not None
        weights = {name: self._model.get_parameter(name).detach() for name in self._structures}
        away = sum(float((w - self._structures[n].project(w)).norm()) for n, w in weights.items())
        self.seen.append(away / sum(float(w.norm()) for w in weights.values()))

    def finalize(self, model: nn.Module) -> nn.Module:
        """Measure before others harden."""
        self.on_epoch(-1)
        return model

    def state_dict(self) -> dict[str, Any]:
        """What was seen."""
        return {"seen": list(self.seen)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Inverse of `state_dict`."""
        self.seen = list(state["seen"])


def holding(structures: Mapping[str, Structure]) -> Regime:
    """The regime that retrains weights within their structures."""
    unified = {name: s for name, s in structures.items() if isinstance(s, Unify)}
    if unified:
        return Unified(unified)
    grids = {
        name: part
        for name, s in structures.items()
        for part in (s.parts if isinstance(s, Composition) else (s,))
        if isinstance(part, FixedPoint)
    }
    return RegimeStack([Masked(structures), OnGrid(grids)])


def _removing(structure: Structure) -> Structure:
    """The part that removes weights: grids, which move from step to step, are for retraining."""
    if isinstance(structure, Composition) and isinstance(structure.parts[-1], FixedPoint):
        return structure.parts[0]
    return structure
