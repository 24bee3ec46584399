"""The diagnosis: every source, rate, seed and arm, as resumable steps, and what they say."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict
from torch import nn

from cofit.core import ConfigError, write_json
from cofit.data import Dataset
from cofit.reproductions.harness import Step, Study
from cofit.reproductions.harness.study import identity
from cofit.reproductions.lottery_lr.arms import ARMS, Arm, Trial, fingerprint
from cofit.reproductions.lottery_lr.masks import Masks, density, mask_source
from cofit.reproductions.lottery_lr.overlap import layerwise, moved, pooled
from cofit.reproductions.lottery_lr.verdict import Margins, verdict

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Grid:
    """What is tried.

    Attributes:
        rates: learning rates at the first step, ascending: small ones, then the sufficient one.
        sources: of masks; see `masks.mask_source`.
        sparsity: share of weights that go.
        epochs: of every phase.
        batch: examples per step.
        share: p, the share of largest weights whose overlap is reported.
    """

    rates: tuple[float, ...] = (0.01, 0.1)
    sources: tuple[str, ...] = ("global", "admm:unstructured")
    sparsity: float = 0.9
    epochs: int = 4
    batch: int = 128
    share: float = 0.2


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True)


class Memory(_Frozen):
    """What a weight remembers.

    Attributes:
        ratio: R_p, layers compared each for itself and counted together.
        z: its distance from chance in standard deviations.
        pooled: R_p over all layers at once.
        moved: mean change of magnitude relative to the mean magnitude before.
    """

    ratio: float
    z: float
    pooled: float
    moved: float


class Trained(_Frozen):
    """A phase: which one, what it reached, what it cost.

    Attributes:
        source: of the mask; "" for the dense phase.
        rate: learning rate at the first step.
        seed: of weights and order.
        arm: "dense" or an arm.
        accuracy: by split.
        epochs: trained, those of the dense phase it builds on included.
        steps: of the optimiser, likewise.
        density: share of weights that are not zero in the end.
        mask: fingerprint of the mask; "" for the dense phase.
        memory: of the dense weights: initial to trained; of an arm: trained dense to final.
    """

    source: str
    rate: float
    seed: int
    arm: str
    accuracy: dict[str, float]
    epochs: int
    steps: int
    density: float
    mask: str
    memory: Memory


SHARES = (0.1, 0.2, 0.3, 0.4, 0.5)
"""Of largest weights, at which the overlap of initial and trained dense weights is tabulated."""


class Curve(_Frozen):
    """R_p and its distance from chance at each p of `SHARES`, of one dense training."""

    rate: float
    seed: int
    ratios: tuple[float, ...]
    z: tuple[float, ...]


class TicketReport(_Frozen):
    """All phases, a verdict per source of masks, and what dense trainings remember."""

    phases: tuple[Trained, ...]
    verdicts: dict[str, str]
    curves: tuple[Curve, ...] = ()

    def of(self, arm: str, rate: float, source: str = "") -> tuple[Trained, ...]:
        """The phases of an arm, one per seed."""
        return tuple(p for p in self.phases if (p.arm, p.rate, p.source) == (arm, rate, source))

    def accuracies(self, arm: str, rate: float, source: str = "") -> tuple[float, ...]:
        """Test accuracy per seed."""
        return tuple(p.accuracy["test"] for p in self.of(arm, rate, source))


def ticket_check(
    build: Callable[[], nn.Module],
    data: Dataset,
    folder: Path,
    grid: Grid | None = None,
    seeds: Sequence[int] = (0, 1, 2),
    progress: Progress = lambda stage, done, total: None,
    margins: Margins | None = None,
) -> TicketReport:
    """Find out whether a network has winning tickets, and how to spend its training budget.

    Stores initial and trained weights and masks in the folder, and the report as `tickets.json`;
    a run that was stopped goes on.

    Args:
        build: makes the network, drawing weights from the global generator.
        data: classes and their examples.
        folder: of this check.
        grid: what is tried.
        seeds: three or more.
        progress: called with (stage, done, total).
        margins: what counts as a difference of accuracy, 0.5 points without it.

    Raises:
        ConfigError: fewer than three seeds, a sparsity or share that is not in (0, 1), or a folder
            of another check.
    """
    grid = grid or Grid()
    mark = identity("ticket-check", "full", {**asdict(grid), "data": data.name}, tuple(seeds))
    marked = folder / "grid.txt"
    if marked.exists() and marked.read_text() != mark:
        raise ConfigError(f"folder {str(folder)!r} holds another check; choose another folder")
    folder.mkdir(parents=True, exist_ok=True)
    marked.write_text(mark)
    study = Study("full", grid, tuple(seeds), folder, progress)
    report = run_grid(study, grid, build, data, margins)
    write_json(folder / "tickets.json", report.model_dump(mode="json"))
    return report


def run_grid(
    study: Study[Any],
    grid: Grid,
    build: Callable[[], nn.Module],
    data: Dataset,
    margins: Margins | None = None,
) -> TicketReport:
    """Every phase as a step of a study."""
    for source in grid.sources:  # wrong names and sparsities are refused before anything trains
        mask_source(source, grid.sparsity)
    if not 0 < grid.share < 1:
        raise ConfigError(f"share {grid.share} of largest weights; it must be in (0, 1)")
    phases: list[Trained] = []
    curves: list[Curve] = []
    for rate in grid.rates:
        for seed in study.seeds:
            trial = Trial(build, data, rate, grid.epochs, seed, grid.batch)
            found, curve = _phases(study, grid, trial)
            phases.extend(found)
            curves.append(curve)
    report = TicketReport(phases=tuple(phases), verdicts={}, curves=tuple(curves))
    if len(study.seeds) < 3:
        return report
    return report.model_copy(update={"verdicts": _verdicts(report, grid, margins)})


def _verdicts(report: TicketReport, grid: Grid, margins: Margins | None) -> dict[str, str]:
    found = {}
    for source in grid.sources:
        by_rate: dict[float, Mapping[str, Sequence[float]]] = {
            rate: {
                "dense": report.accuracies("dense", rate),
                **{arm: report.accuracies(arm, rate, source) for arm in ARMS},
            }
            for rate in grid.rates
        }
        found[source] = verdict(by_rate, margins)
    return found


def _phases(study: Study[Any], grid: Grid, trial: Trial) -> tuple[list[Trained], Curve]:
    """All phases of one trial, and the curve of its dense training."""
    where = f"{trial.rate:g} {trial.seed}"
    weights = trial.weights

    def memory(before: Mapping[str, torch.Tensor], after: Mapping[str, torch.Tensor]) -> Memory:
        a, b = ({name: state[name] for name in weights} for state in (before, after))
        found = layerwise(a, b, grid.share)
        together = pooled(a, b, grid.share).ratio
        return Memory(ratio=found.ratio, z=found.z, pooled=together, moved=moved(a, b))

    def dense(step: Step) -> dict[str, Any]:
        phase = trial.dense(step)
        initial = trial.initial()
        row = Trained(
            source="", rate=trial.rate, seed=trial.seed, arm="dense", accuracy=phase.accuracy,
            epochs=phase.epochs, steps=phase.steps, density=1.0, mask="",
            memory=memory(initial, phase.state),
        )  # fmt: skip
        stored = {"initial": initial, "trained": phase.state}
        tensors = {f"{key}/{n}": v for key, state in stored.items() for n, v in state.items()}
        return {**tensors, "row": row.model_dump(mode="json")}

    first = study.step(f"dense {where}", dense)
    base = Trained.model_validate(first["row"])
    initial, trained = _under(first, "initial/"), _under(first, "trained/")
    rows = [base]
    for name in grid.sources:
        label = name.replace(":", "-").replace("@", " at ")
        source = mask_source(name, grid.sparsity)
        found = study.step(
            f"masks {label} {where}",
            partial(trial.masks, source=source, initial=initial, trained=trained),
        )
        masks = {key: value.bool() for key, value in found.items()}

        def run(step: Step, arm: Arm, name: str = name, masks: Masks = masks) -> dict[str, Any]:
            phase = trial.arm(step, arm, masks, initial, trained)
            row = Trained(
                source=name, rate=trial.rate, seed=trial.seed, arm=arm, accuracy=phase.accuracy,
                epochs=base.epochs + phase.epochs, steps=base.steps + phase.steps,
                density=density({n: phase.state[n] != 0 for n in weights}),
                mask=fingerprint(masks), memory=memory(trained, phase.state),
            )  # fmt: skip
            return {"row": row.model_dump(mode="json")}

        for arm in ARMS:
            done = study.step(f"{arm} {label} {where}", partial(run, arm=arm))
            rows.append(Trained.model_validate(done["row"]))
    before, after = ({n: state[n] for n in weights} for state in (initial, trained))
    overlaps = [layerwise(before, after, share) for share in SHARES]
    curve = Curve(
        rate=trial.rate, seed=trial.seed, ratios=tuple(o.ratio for o in overlaps),
        z=tuple(o.z for o in overlaps),
    )  # fmt: skip
    return rows, curve


def _under(values: Mapping[str, Any], prefix: str) -> dict[str, torch.Tensor]:
    return {
        name.removeprefix(prefix): value
        for name, value in values.items()
        if name.startswith(prefix)
    }
