"""A reproduction that tests plant into the room: it trains, counts its steps, can be killed."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cofit.core import Basis
from cofit.data import load
from cofit.regimes import Recipe
from cofit.reproductions.harness import (
    Claim,
    Outcome,
    Reproduction,
    Step,
    Study,
    Table,
    accuracy,
    at_least,
    at_most,
    axes,
    bars,
    fewer,
    figure,
    measured,
    seeded,
    train,
)

LOG = Path("calls.txt")


@dataclass(frozen=True)
class Settings:
    epochs: int


class Killed(BaseException):
    """As kill -9 would: nothing gets to clean up."""


def _trained(step: Step, settings: Settings, seed: int) -> dict[str, Any]:
    with LOG.open("a") as log:
        log.write(step.name + "\n")
    data = fewer(load("digits"), 640)
    model = seeded(lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), seed)
    trained, ledger = train(step, model, data, Recipe(settings.epochs, 0.5), seed)
    return {
        "accuracy": accuracy(trained, data.test),
        "macs": ledger.macs,
        "weight": next(trained.parameters()).detach(),
    }


def _run(study: Study[Settings]) -> Outcome:
    rows = [
        study.step(f"train {s}", lambda step, s=s: _trained(step, study.settings, s))  # type: ignore[misc]
        for s in study.seeds
    ]
    found = [row["accuracy"] for row in rows]
    assert all(isinstance(row["weight"], torch.Tensor) for row in rows)
    drawn = figure()
    heights = dict(zip(map(str, study.seeds), found, strict=True))
    bars(axes(drawn, "accuracy", "seed", "fraction"), heights)
    claims = [
        Claim(claim="learns digits", published="not published", measured=measured(found, ""),
              limit="<= 1", basis=Basis.MEASURED, rule=at_least(0.7), note="test part",
              reason="too short"),
        Claim(claim="needs no training", published="never", measured=measured(rows[0]["macs"], ""),
              limit=">= 0", basis=Basis.MODELLED, rule=at_most(0), reason="it does"),
    ]  # fmt: skip
    table = Table(title="Accuracies", columns=("seed", "a|b"), rows=(("0", f"{found[0]:.3f}"),))
    return Outcome(claims, [table], drawn)


REPRODUCTION = Reproduction(
    "planted", "A linear classifier", "nobody, never",
    {"smoke": Settings(4), "standard": Settings(3), "full": Settings(4)},
    {"smoke": (0, 1), "standard": (0, 1, 2), "full": (0, 1, 2)},
    _run,
)  # fmt: skip
