"""BNN-DM: Bayesian networks with shared products memorised, in software and as an engine.

X. Jia et al., "Efficient Computation Reduction in Bayesian Neural Networks Through Feature
Decomposition and Memorization", IEEE TNNLS 2021. A layer's weights are mu + sigma * eps; mu x and
sigma x are computed once for all voters that share the input. The engine's random numbers, bytes
and rounding are the same in the integer model, the Verilog and the mapped netlist. Engines take no
biases; the network they run has none.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

from cofit.data import load
from cofit.reproductions.bnn_dm.claims import (
    engine_table,
    flow_table,
    hardware_claims,
    software_claims,
    source_table,
)
from cofit.reproductions.bnn_dm.study import (
    Settings,
    counted,
    engines,
    images,
    on_chip,
    predicted,
    trained,
)
from cofit.reproductions.harness import Outcome, Reproduction, Study, axes, bars, figure


def run(study: Study[Settings]) -> Outcome:
    """Train; count, time and sample every flow; then simulate both engines."""
    settings, data = study.settings, images(study.settings)
    networks = [
        trained(study, data, settings.hidden, True, settings.epochs, seed, "")
        for seed in study.seeds
    ]
    x = data.test.inputs[0].flatten()
    counts = study.step("count", partial(counted, settings, networks[0], x))
    predictions = [
        study.step(f"predict seed {seed}", partial(predicted, settings, network, data, seed))
        for seed, network in zip(study.seeds, networks, strict=True)
    ]
    digits = load("digits")
    chip = trained(
        study, digits, (settings.chip_hidden,), False, settings.chip_epochs, study.seeds[0], "chip "
    )
    chips = {
        name: study.step(
            f"engine {name.replace(',', '')}", partial(on_chip, settings, name, chip, digits)
        )
        for name in engines(settings)
    }
    return Outcome(
        claims=[
            *software_claims(settings, counts, predictions),
            *hardware_claims(settings, chips),
        ],
        tables=[
            flow_table(counts, predictions),
            engine_table(settings, chips),
            source_table(),
        ],
        figure=_figure(counts, predictions, chips),
    )


def _figure(counts: Any, predictions: Any, chips: Any) -> Any:
    drawing = figure(columns=2)
    left = axes(drawing, "Flows", "", "multiplications (M)", (1, 2, 1))
    bars(left, {name: counts[name]["multiplications"] / 1e6 for name in predictions[0]})
    right = axes(drawing, "Engines on the network", "", "energy (nJ)", (1, 2, 2))
    bars(right, {name: 1e9 * chip["network"]["energy_j"] for name, chip in chips.items()})
    return drawing


_STANDARD = Settings(
    data="fashion_mnist",
    train=60000,
    test=1000,
    hidden=(200, 200),
    epochs=5,
    learning_rate=1e-3,
    voters=100,
    trees=((10, 10, 1), (5, 5, 4)),
    images=100,
    repeats=20,
    timed=7,
    chip_hidden=16,
    chip_epochs=200,
    chip_tree=(8, 4),
    chip_images=64,
    multipliers=16,
)

REPRODUCTION = Reproduction(
    name="bnn-dm",
    title="Bayesian networks with shared products memorised: fewer multiplications, and the engine",
    source="Jia, Yang, Liu, Wang, Cotofana, Zhao, IEEE TNNLS 32(4), 2021, arXiv 2005.03857",
    scales={
        "smoke": Settings(
            data="digits",
            train=600,
            test=100,
            hidden=(24,),
            epochs=20,
            learning_rate=1e-2,
            voters=20,
            trees=((5, 4),),
            images=10,
            repeats=4,
            timed=3,
            chip_hidden=8,
            chip_epochs=20,
            chip_tree=(4, 2),
            chip_images=64,
            multipliers=2,
            narrow=False,
        ),
        "standard": _STANDARD,
        "full": replace(_STANDARD, epochs=30, test=10000, images=500, repeats=50, chip_images=256),
    },
    seeds={"smoke": (0,), "standard": (0, 1, 2), "full": (0, 1, 2)},
    run=run,
)
