"""What is claimed of the data path's energy, from the stored steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from cofit.core import Basis
from cofit.reproductions.hamming_codesign.claims import PUBLISHED
from cofit.reproductions.hamming_codesign.datapath import POSITIONS, activities
from cofit.reproductions.hamming_codesign.study import MEASURES, Settings
from cofit.reproductions.harness import Claim, Table, at_least, at_most, measured, sources
from cofit.targets.datapath import datapath

Priced = Sequence[dict[str, Any]]
"""Stored steps, one per seed."""


def datapath_claims(settings: Settings, plain: Priced, aware: Priced) -> list[Claim]:
    """Of whole networks: natural order over training, clustering and orders per segment."""
    height = settings.height
    before = [_network(found, height, "natural") for found in plain]
    after = [_network(found, height, "clustered") for found in aware]
    ratios = [a[0] / b[0] for a, b in zip(before, after, strict=True)]
    most = sum(energy / rest for energy, rest in before) / len(before)
    note = (
        f"int8 inverted residuals on {settings.data}, input-stationary, {height} units, "
        f"{POSITIONS} output positions of one test image per layer; 45 nm cells, without clock, "
        "leakage and wires"
    )
    return [
        Claim(
            claim="energy of the whole data path, weights, activations and partial sums, "
            f"{height} operands per segment: natural order over training, clustering and orders "
            "per segment",
            published=PUBLISHED, measured=measured(ratios, "x"),
            limit=f"{most:.2f}x: what is left if no weight toggles, the sums as they are",
            basis=Basis.MODELLED, rule=at_least(2.85), note=note,
            reason="sums and activations toggle whatever the order of the weights",
        ),
    ]  # fmt: skip


def gate_claims(settings: Settings, found: dict[str, Any]) -> list[Claim]:
    """Of the table against the netlist."""
    table, gates = np.array(found["table"]), np.array(found["gates"])
    moving = gates > 0
    wrong = np.abs(table[moving] / gates[moving] - 1)
    note = "every layer in two orders, first seed; zero delay"
    return [
        Claim(
            claim="correlation of a stream's energy by its flips with that of the gates",
            published="highly correlated (abstract)",
            measured=measured(float(np.corrcoef(table, gates)[0, 1]), ""), limit="1",
            basis=Basis.SIMULATED, rule=at_least(0.9), note=note,
        ),
        Claim(
            claim="mean error of a stream's energy by its flips",
            published="not published; our bar 10 %",
            measured=measured(100 * float(wrong.mean()), "%"), limit="0",
            basis=Basis.SIMULATED, rule=at_most(10.0), note=note,
        ),
    ]  # fmt: skip


def datapath_table(settings: Settings, plain: Priced, aware: Priced) -> Table:
    """Flips and energy of a network's data path, first seed."""
    rows = []
    arms = [(measure, plain, measure) for measure in MEASURES]
    for height in dict.fromkeys((settings.height, min(settings.heights))):
        base = _network(plain[0], height, "natural")[0]
        for name, steps, measure in (*arms, ("trained, clustered", aware, "clustered")):
            each = activities(steps[0], height, measure)
            sums = [
                sum(getattr(a, f"{part}_flips") / share for a, share in each)
                for part in ("weight", "input", "sum")
            ]
            energy = _network(steps[0], height, measure)[0]
            rows.append((
                str(height), name, *(f"{value:.3g}" for value in sums), f"{1e9 * energy:.4g}",
                f"{base / energy:.2f}",
            ))  # fmt: skip
    return Table(
        title="Data path of the whole network on real operands, first seed",
        columns=(
            "segment", "measure", "weight flips", "activation flips", "sum flips", "energy (nJ)",
            "natural over it (x)",
        ),
        rows=tuple(rows),
    )  # fmt: skip


def datapath_sources() -> Table:
    """Where the energies come from."""
    return sources(datapath=datapath().facts)


def _network(found: dict[str, Any], height: int, measure: str) -> tuple[float, float]:
    """Joules of all layers and positions, and what they would be if no weight toggled."""
    each = activities(found, height, measure)
    return (
        sum(a.energy_j / share for a, share in each),
        sum(a.rest_j / share for a, share in each),
    )
