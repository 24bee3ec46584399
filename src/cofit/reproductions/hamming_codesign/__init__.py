"""Hamming co-design: order, cluster and train streamed weights so that fewer bits toggle.

M. Li et al., "Improving Efficiency in Neural Network Accelerator Using Operands Hamming Distance
Optimization", arXiv 2002.05293. Here: the metric, orders of output channels with their bound,
segments, clusters of input channels, training, and the energy of weights, activations and partial
sums by a table over flips, which gate-level simulation made.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

from cofit.core import MissingDependencyError
from cofit.data import Dataset
from cofit.ir import Graph
from cofit.reproductions.hamming_codesign.claims import (
    laplace_claims,
    laplace_table,
    layer_table,
    network_claims,
    network_table,
)
from cofit.reproductions.hamming_codesign.datapath import priced, through_gates
from cofit.reproductions.hamming_codesign.datapath_claims import (
    datapath_claims,
    datapath_sources,
    datapath_table,
    gate_claims,
)
from cofit.reproductions.hamming_codesign.streams import streams
from cofit.reproductions.hamming_codesign.study import (
    Settings,
    counted,
    differing,
    images,
    laplace_ratios,
    quantised,
    trained,
    tuned,
    with_weights,
)
from cofit.reproductions.harness import Claim, Outcome, Reproduction, Study, axes, figure
from cofit.rtl import yosys


def run(study: Study[Settings]) -> Outcome:
    """Table of Laplace weights, then per seed: train, fine-tune at every strength, permute."""
    settings = study.settings
    laplace = {}
    for encoding in settings.encodings:
        laplace[encoding] = study.step(
            f"laplace {encoding}", partial(laplace_ratios, settings, encoding)
        )
    data = images(settings)
    plain, aware, changed, names = [], [], [], []
    plain_paths: list[dict[str, Any]] = []
    aware_paths: list[dict[str, Any]] = []
    gates: list[Claim] = []
    for seed in study.seeds:
        graph = trained(study, data, seed)
        arms = {s: tuned(study, data, graph, seed, s) for s in settings.strengths}
        base = arms[settings.strengths[0]]
        within = [s for s in settings.strengths[1:] if _allowed(arms[s], base, settings)]
        chosen = arms[max(within, default=settings.strengths[1])]
        plain.append(counted(study, data, graph, base))
        aware.append(counted(study, data, graph, chosen))
        integer = quantised(with_weights(graph, base), data)
        names = [stream.name for stream in streams(integer, settings.encoding)]
        found = study.step(f"identical seed {seed}", partial(differing, settings, integer, data))
        changed.append(found["differing"])
        for steps, arm in ((plain_paths, base), (aware_paths, chosen)):
            network = quantised(with_weights(graph, arm), data)
            name = f"datapath {arm['name']}"
            steps.append(study.step(name, partial(priced, network, settings, data)))
        if seed == study.seeds[0]:
            gates = _gates(study, data, integer)
    return Outcome(
        claims=[
            *laplace_claims(settings, laplace),
            *network_claims(settings, plain, aware, changed),
            *datapath_claims(settings, plain_paths, aware_paths),
            *gates,
        ],
        tables=[
            laplace_table(settings, laplace),
            network_table(settings, plain, aware),
            layer_table(settings, plain[0], aware[0], names),
            datapath_table(settings, plain_paths, aware_paths),
            datapath_sources(),
        ],
        figure=_figure(settings, laplace),
    )


def _gates(study: Study[Settings], data: Dataset, graph: Graph) -> list[Claim]:
    """Claims about the netlist; none where there is no program to synthesise it with."""
    try:
        yosys()
    except MissingDependencyError:
        return []
    return gate_claims(
        study.settings,
        study.step("gates", partial(through_gates, graph, study.settings, data)),
    )


def _allowed(found: dict[str, Any], base: dict[str, Any], settings: Settings) -> bool:
    return bool(base["validation"] - found["validation"] <= settings.allowed_loss)


def _figure(settings: Settings, laplace: dict[str, Any]) -> Any:
    drawing = figure()
    panel = axes(
        drawing, "Laplace weights", "operands per segment", "natural flips / flips in order (x)"
    )
    for encoding, table in laplace.items():
        line = panel.plot(
            settings.laplace_heights, table["reduction"], "o-", label=encoding.replace("_", " ")
        )
        panel.plot(
            settings.laplace_heights, table["ceiling"], ":", color=line[0].get_color(),
            label="its ceiling",
        )  # fmt: skip
    panel.set_xscale("log", base=2)
    panel.set_yscale("log", base=2)
    panel.legend(fontsize=8, frameon=False)
    return drawing


_CIFAR = Settings(
    data="cifar10",
    train=20000,
    test=5000,
    stages=((1, 16, 1, 1), (4, 24, 1, 2), (4, 32, 2, 1), (4, 48, 1, 2)),
    stem_stride=2,
    head=96,
    epochs=10,
    tune_epochs=3,
    strengths=(0.0, 2.0, 4.0),
    heights=(1, 4, 8, 16, 32),
    identical=1000,
    laplace=5,
)

REPRODUCTION = Reproduction(
    name="hamming-codesign",
    title="Weights ordered, clustered and trained so that streamed operands toggle fewer bits",
    source="Li, Li, Chuang, Lai, Chandra, 2019, arXiv 2002.05293",
    scales={
        "smoke": Settings(
            data="digits",
            train=600,
            test=200,
            stages=((1, 8, 1, 1), (3, 12, 2, 2)),
            stem_stride=1,
            head=24,
            epochs=2,
            tune_epochs=1,
            strengths=(0.0, 1.0),
            heights=(1, 16),
            identical=40,
            laplace=1,
            laplace_heights=(96, 16, 4),
        ),
        "standard": _CIFAR,
        "full": replace(_CIFAR, epochs=60, tune_epochs=20, strengths=(0.0, 1.0, 2.0, 4.0, 8.0)),
    },
    seeds={"smoke": (0,), "standard": (0, 1, 2), "full": (0, 1, 2)},
    run=run,
)
