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

from cofit.core import Basis
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
    Claim,
    Outcome,
    Scale,
    Step,
    Study,
    Table,
    above_spread,
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
from cofit.reproductions.micro_unification.contenders import (
    Contender,
    Epochs,
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

LEAST_CHANNELS = 16
"""Input channels of a layer that is compressed; the first layer stays as it is."""

BOARD = "cortex-m4:stm32f446"
ONE_SHOT = "one-shot"
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
        for contender in [*runs, replace(both, name=ONE_SHOT)]:
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
    one_shot = contender.name == ONE_SHOT
    model, gaps = trained(
        step, dense, data, seed, structures, settings.epochs,
        batch=settings.batch, one_shot=one_shot,
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
    claims = [*_trained_claims(dense, found), *_counted_claims(settings, dense, found)]
    if deployed is not None:
        claims += _deployed_claims(deployed)
    return Outcome(claims, [_table(dense, found)], _figure(dense, found))


def _points(rows: list[dict[str, Any]]) -> list[float]:
    return [100 * row["accuracy"] for row in rows]


def _differences(a: list[float], b: list[float]) -> list[float]:
    return [x - y for x, y in zip(a, b, strict=True)]


def _trained_claims(
    dense: list[dict[str, Any]], found: Mapping[str, list[dict[str, Any]]]
) -> list[Claim]:
    points = {name: _points(rows) for name, rows in found.items()}
    both, whole = found["both"], _points(dense)
    alone = [max(a, b) for a, b in zip(points["prune"], points["unify"], strict=True)]
    sizes = [row["coded"] for rows in found.values() for row in rows]
    spread = 100 * (max(sizes) / min(sizes) - 1)
    ratio = [d["bytes"] / row["coded"] for d, row in zip(dense, both, strict=True)]
    equal = f"equal bytes after zlib: within {spread:.1f} % of each other"
    return [
        Claim(
            claim="accuracy of unified and pruned blocks over the better of each alone",
            published="unify and prune together reach the state of the art (abstract; no table "
            "could be read)",
            measured=measured(_differences(points["both"], alone), "points"),
            limit="accuracy of the dense network",
            basis=Basis.MEASURED, rule=above_spread(), note=equal,
        ),
        Claim(
            claim="accuracy of unified and pruned blocks over pruned int8 blocks",
            published="pruning is the special case v = 0 of unification (abstract)",
            measured=measured(_differences(points["both"], points["prune"]), "points"),
            limit="accuracy of the dense network",
            basis=Basis.MEASURED, rule=above_spread(), note=equal,
        ),
        Claim(
            claim="accuracy lost to the dense network",
            published="state of the art compression at low loss (abstract); the bar of 1 point is "
            "ours",
            measured=measured(_differences(whole, points["both"]), "points"),
            limit="0 where the dense network is redundant",
            basis=Basis.MEASURED, rule=at_most(1.0),
        ),
        Claim(
            claim="bytes of fp32 weights over those of unified and pruned blocks, zlib included",
            published="not published; the bar is the limit of unification alone at 16 a block",
            measured=measured(ratio, "x"),
            limit="32 n / (n + 16) / (1 - q_p): 10.7x over the kept part at n = 8, 16x at n = 16",
            basis=Basis.MEASURED, rule=at_least(14.0),
            note="the first layer, batch norm and biases stay fp32; weights are counted",
        ),
        Claim(
            claim="accuracy of ADMM over one-shot projection with the same epochs",
            published="ADMM is the method (abstract)",
            measured=measured(_differences(points["both"], points[ONE_SHOT]), "points"),
            limit="accuracy of the dense network",
            basis=Basis.MEASURED, rule=at_least(0.0),
        ),
        Claim(
            claim="distance of weights to their structure, start of ADMM over its end",
            published="not published; the bar is ours",
            measured=measured([row["gaps"][0] / row["gaps"][-1] for row in both], "x"),
            limit="none: the distance may reach 0",
            basis=Basis.MEASURED, rule=at_least(10.0),
        ),
    ]  # fmt: skip


def _counted_claims(
    settings: Settings, dense: list[dict[str, Any]], found: Mapping[str, list[dict[str, Any]]]
) -> list[Claim]:
    n = int(settings.longer.partition("x")[2])
    unify = found["unify"]
    fewer_multiplies = [
        d["multiplies"] / row["multiplies"] for d, row in zip(dense, unify, strict=True)
    ]
    energy = [_energy(d) / _energy(row) for d, row in zip(dense, unify, strict=True)]
    return [
        Claim(
            claim="multiplies of the dense network over those of the unified one",
            published=f"n - 1 additions and 1 multiply instead of n (method), n = {n}",
            measured=measured(fewer_multiplies, "x"),
            limit=f"{n}x, if every layer were unified",
            basis=Basis.MEASURED, rule=at_least(0.5 * n),
            note="counted from the trained weights in the traced layers",
        ),
        Claim(
            claim="energy of fp32 arithmetic, dense over unified",
            published="not published; operation energies of Horowitz, ISSCC 2014",
            measured=measured(energy, "x"),
            limit=f"{4.6 * n / (0.9 * n + 3.7):.2f}x at n = {n}, 5.1x at any",
            basis=Basis.MODELLED, rule=at_least(2.0),
            note="arithmetic alone, no memory; multiplies cost 3.7 pJ, additions 0.9 pJ",
        ),
    ]  # fmt: skip


def _energy(row: Mapping[str, Any]) -> float:
    return Operations(row["multiplies"], row["additions"]).energy_j


def _deployed_claims(found: Mapping[str, Any]) -> list[Claim]:
    return [
        Claim(
            claim="flash of the int8 program on a Cortex-M4, dense over unified and pruned",
            published="not published",
            measured=measured(found["flash dense"] / found["flash unified"], "x"),
            limit="8 n / (n + 8) / (1 - q_p) for the weights alone; code and biases stay",
            basis=Basis.EMULATED, rule=at_least(2.0),
            note=f"{found['flash dense']} to {found['flash unified']} bytes; instructions "
            f"{found['instructions dense']} to {found['instructions unified']}",
        ),
        Claim(
            claim="latency on this CPU of the unified int8 program over the dense one",
            published="not published: on a CPU whose multiply costs an addition, unification "
            "saves storage, not time",
            measured=measured(found["seconds unified"] / found["seconds dense"], "x"),
            limit="0, were pruned blocks skipped",
            basis=Basis.MEASURED, rule=at_most(1.2),
            note="one thread, A/B/A/B; both run the dense vector kernel",
        ),
    ]  # fmt: skip


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
    return (name, structure, measured(_points(entries), "").text, *(f"{m:,.0f}" for m in means))


def _figure(dense: list[dict[str, Any]], found: Mapping[str, list[dict[str, Any]]]) -> Any:
    drawn = figure(2)
    left = axes(drawn, "Accuracy at equal bytes", "", "test accuracy, %", (1, 2, 1))
    spreads = [measured(_points(rows), "").spread for rows in found.values()]
    bars(left, {n: statistics.fmean(_points(rows)) for n, rows in found.items()}, spreads)
    whole = statistics.fmean(_points(dense))
    left.axhline(whole, color=COLOURS[1], linestyle=":", label="dense fp32")
    left.set_ylim(bottom=max(0.0, min(min(_points(rows)) for rows in found.values()) - 3))
    left.legend(fontsize=8)
    right = axes(drawn, "Gap to the structure during ADMM", "epoch", "relative distance", (1, 2, 2))
    for colour, name in zip(COLOURS, ("prune", "unify", "both"), strict=False):
        gaps = found[name][0]["gaps"]
        right.plot(range(len(gaps)), gaps, marker="o", color=colour, label=name)
    right.set_yscale("log")
    right.legend(fontsize=8)
    return drawn
