"""The contenders at equal stored bytes on one dense network per seed, and what they show."""

from __future__ import annotations

import copy
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from cofit.data import Dataset, Split, load
from cofit.fit.peers import race
from cofit.fit.precision import Lowering
from cofit.ir import Graph, trace
from cofit.models import Normalise
from cofit.models.plain import ConvNet
from cofit.models.zoo import DIGITS, FASHION
from cofit.regimes import Recipe
from cofit.reproductions.harness import (
    COLOURS,
    Outcome,
    Scale,
    Step,
    Study,
    Table,
    accuracy,
    axes,
    bars,
    fewer,
    figure,
    measured,
    seeded,
    train,
)
from cofit.reproductions.micro_unification.claims import (
    ONE_SHOT,
    PROGRESSIVE,
    claims_of,
    points_of,
)
from cofit.reproductions.micro_unification.contenders import (
    Contender,
    Epochs,
    Way,
    contenders,
    trained,
)
from cofit.reproductions.micro_unification.storage import (
    Operations,
    operations,
    rate_for,
    stored,
)
from cofit.structures import Structure, family, parse
from cofit.targets import CortexM, HostTarget, target

WAYS: Mapping[str, Way] = {ONE_SHOT: "one-shot", PROGRESSIVE: "progressive"}
"""Of contenders that do not take ADMM."""

LEAST_CHANNELS = 16
"""Input channels of a layer that is compressed; the first layer stays as it is."""

BOARD = "cortex-m4:stm32f446"
WIDTHS = (32, 64, 128)


@dataclass(frozen=True)
class Settings:
    """What is trained, and for how long.

    Attributes:
        data: "fashion_mnist" (halved to 14x14) or "digits".
        train, test: images.
        widths: channels of the three pairs of layers.
        block: output x input channels of a block.
        longer: the same of unification alone.
        batch: images per step.
        dense, admm, retrain: epochs.
        deploy: whether programs for this CPU and a Cortex-M4 are made.
    """

    data: str
    train: int
    test: int
    widths: tuple[int, ...]
    block: str
    longer: str
    batch: int
    dense: int
    admm: int
    retrain: int
    deploy: bool

    @property
    def epochs(self) -> Epochs:
        """Epochs and rates of every contender."""
        return Epochs(self.admm, self.retrain, 1e-2, 2e-2)


SCALES: Mapping[Scale, Settings] = {
    "smoke": Settings("digits", 512, 200, (16, 16, 32), "1x8", "1x16", 32, 2, 1, 1, False),
    "standard": Settings("fashion_mnist", 8000, 10_000, WIDTHS, "1x8", "1x16", 64, 4, 3, 3, True),
    "full": Settings("fashion_mnist", 58_000, 10_000, WIDTHS, "1x8", "1x16", 64, 12, 6, 6, True),
}
SEEDS: Mapping[Scale, tuple[int, ...]] = {
    "smoke": (0,),
    "standard": (0, 1, 2),
    "full": (0, 1, 2, 3, 4),
}


def run(study: Study[Settings]) -> Outcome:
    """Train everything and compare."""
    settings = study.settings
    data = _data(settings)
    dense = {s: study.step(f"dense {s}", partial(_dense, data, settings, s)) for s in study.seeds}
    found: dict[str, list[dict[str, Any]]] = {}
    for seed in study.seeds:
        network = _loaded(settings, dense[seed])
        runs = [*contenders(settings.block, settings.longer)]
        both = next(c for c in runs if c.name == "both")
        others = [replace(both, name=name) for name in (ONE_SHOT, PROGRESSIVE)]
        for contender in [*runs, *others]:
            name = f"{contender.name} {seed}"
            work = partial(_contend, data, settings, seed, network, contender)
            found.setdefault(contender.name, []).append(study.step(name, work))
    deployed = None
    if settings.deploy:
        last = study.seeds[0]
        deployed = study.step(
            "deploy",
            partial(_deploy, data, settings, _loaded(settings, dense[last]), found["both"][0]),
        )
    return _outcome(settings, [dense[s] for s in study.seeds], found, deployed)


def _data(settings: Settings) -> Dataset:
    data = fewer(load(settings.data), settings.train, settings.test)
    halved = settings.data == "fashion_mnist"
    pixels = FASHION if halved else DIGITS
    train_, validation, test = (
        _prepared(part, pixels, halved) for part in (data.train, data.validation, data.test)
    )
    return replace(data, train=train_, validation=validation, test=test)


def _prepared(part: Split, pixels: Normalise, halved: bool) -> Split:
    inputs = pixels(part.inputs)
    return Split(F.avg_pool2d(inputs, 2) if halved else inputs, part.targets)


def _loaded(settings: Settings, results: Mapping[str, Any]) -> nn.Module:
    network = ConvNet(channels=1, widths=settings.widths)
    network.load_state_dict({n: results[f"state {n}"] for n in network.state_dict()})
    return network.eval()


def _state(model: nn.Module) -> dict[str, torch.Tensor]:
    return {f"state {name}": value.contiguous() for name, value in model.state_dict().items()}


def compressed(model: nn.Module) -> list[str]:
    """Names of the weights that contenders compress."""
    return [
        name for name, p in model.named_parameters() if p.dim() > 1 and p.shape[1] >= LEAST_CHANNELS
    ]


def _dense(data: Dataset, settings: Settings, seed: int, step: Step) -> dict[str, Any]:
    network = seeded(lambda: ConvNet(channels=1, widths=settings.widths), seed)
    recipe = Recipe(settings.dense, 0.1)
    model, _ = train(step, network, data, recipe, seed, size=settings.batch)
    count = operations(model, {}, data.test.inputs[:1])
    return {
        "accuracy": accuracy(model, data.test),
        "bytes": stored(model, {}).raw,
        **_counted(count),
        **_state(model),
    }


def _contend(
    data: Dataset,
    settings: Settings,
    seed: int,
    dense: nn.Module,
    contender: Contender,
    step: Step,
) -> dict[str, Any]:
    names = compressed(dense)
    budget = stored(dense, {}).raw
    longer = family(f"unify{settings.longer}")(1.0)
    shortened = copy.deepcopy(dense)
    with torch.no_grad():
        for name in names:
            weight = shortened.get_parameter(name)
            weight.copy_(longer.project(weight))
    budget = stored(shortened, dict.fromkeys(names, longer)).coded
    rate = 1.0 if contender.name == "unify" else rate_for(
        budget, dense, names, family(contender.form)
    )  # fmt: skip
    structures: dict[str, Structure] = dict.fromkeys(names, family(contender.form)(rate))
    model, gaps = trained(
        step, dense, data, seed, structures, settings.epochs,
        batch=settings.batch, way=WAYS.get(contender.name, "admm"),
    )  # fmt: skip
    size = stored(model, structures)
    return {
        "accuracy": accuracy(model, data.test),
        "structure": structures[names[0]].text,
        "raw": size.raw,
        "coded": size.coded,
        "gaps": list(gaps),
        **_counted(operations(model, structures, data.test.inputs[:1])),
        **_state(model),
    }


def _counted(count: Operations) -> dict[str, Any]:
    return {"multiplies": count.multiplies, "additions": count.additions}


def _deploy(
    data: Dataset, settings: Settings, dense: nn.Module, both: Mapping[str, Any], step: Step
) -> dict[str, Any]:
    """int8 programs of the dense and the unified network, on a Cortex-M4 and on this CPU."""
    example = data.test.inputs[:1]
    lowering = Lowering("int8", data.train.inputs[:256])
    model = _loaded(settings, both)
    marks = dict.fromkeys(compressed(model), parse(both["structure"]).text)
    integer = {
        "dense": lowering.lower(trace(dense, example)),
        "unified": lowering.lower(_marked(trace(model, example), marks)),
    }
    results: dict[str, Any] = {}
    board = target(BOARD)
    assert isinstance(board, CortexM)
    programs = {}
    for done, (name, graph) in enumerate(integer.items()):
        step.progress("programs", done, len(integer))
        cost = board.cost(graph)
        results[f"flash {name}"] = cost.flash_bytes
        results[f"instructions {name}"] = cost.instructions
        programs[name] = HostTarget().program(graph)
    calls = {name: program.run for name, program in programs.items()}
    results |= {f"seconds {n}": s for n, s in race(calls, example.numpy()).items()}
    return results


def _marked(graph: Graph, texts: Mapping[str, str]) -> Graph:
    tensors = {name: replace(graph.tensors[name], structure=text) for name, text in texts.items()}
    return graph.with_tensors(tensors)


def _outcome(
    settings: Settings,
    dense: list[dict[str, Any]],
    found: Mapping[str, list[dict[str, Any]]],
    deployed: Mapping[str, Any] | None,
) -> Outcome:
    return Outcome(
        claims_of(settings.longer, dense, found, deployed),
        [_table(dense, found)],
        _figure(dense, found),
    )


def _table(dense: list[dict[str, Any]], found: Mapping[str, list[dict[str, Any]]]) -> Table:
    header = ("contender", "structure", "accuracy %", "bytes", "bytes after zlib", "multiplies")
    rows = [_row("dense fp32", "", dense, "bytes", "bytes")]
    for name, entries in found.items():
        rows.append(_row(name, entries[0]["structure"], entries, "raw", "coded"))
    return Table(title="Contenders at equal stored bytes", columns=header, rows=tuple(rows))


def _row(
    name: str, structure: str, entries: list[dict[str, Any]], raw: str, coded: str
) -> tuple[str, ...]:
    means = [statistics.fmean(e[key] for e in entries) for key in (raw, coded, "multiplies")]
    return (name, structure, measured(points_of(entries), "").text, *(f"{m:,.0f}" for m in means))


def _figure(dense: list[dict[str, Any]], found: Mapping[str, list[dict[str, Any]]]) -> Any:
    drawn = figure(2)
    left = axes(drawn, "Accuracy at equal bytes", "", "test accuracy, %", (1, 2, 1))
    spreads = [measured(points_of(rows), "").spread for rows in found.values()]
    bars(left, {n: statistics.fmean(points_of(rows)) for n, rows in found.items()}, spreads)
    whole = statistics.fmean(points_of(dense))
    left.axhline(whole, color=COLOURS[1], linestyle=":", label="dense fp32")
    left.set_ylim(bottom=max(0.0, min(min(points_of(rows)) for rows in found.values()) - 3))
    left.legend(fontsize=8)
    right = axes(drawn, "Gap to the structure during ADMM", "epoch", "relative distance", (1, 2, 2))
    for colour, name in zip(COLOURS, ("prune", "unify", "both"), strict=False):
        gaps = found[name][0]["gaps"]
        right.plot(range(len(gaps)), gaps, marker="o", color=colour, label=name)
    right.set_yscale("log")
    right.legend(fontsize=8)
    return drawn
