"""`cofit cost`: one network on several targets, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cofit.cli.console import console, print_json, table
from cofit.cli.network import Network, choose_precision, load_network
from cofit.core import ConfigError, Cost, CostRow, TargetError, format_quantity
from cofit.core.quantities import KINDS
from cofit.fit.precision import Precision
from cofit.report import check_plot, plot_costs
from cofit.targets import Modelled, Platform, target

COLUMNS = ("latency", "flash", "RAM", "energy", "instructions", "MACs", "basis")
QUANTITIES = COLUMNS[:-1]


def cost_command(
    model: str,
    names: Sequence[str],
    weights: Path | None,
    data: str | None,
    precision: str,
    per_op: bool,
    plot: Path | None,
    as_json: bool,
) -> None:
    """Print the cost of a network on each target, and draw it where a file is given.

    A target that it does not fit gets the reason.

    Raises:
        TargetError: it fits none of the targets.
    """
    if not names:
        raise ConfigError("--targets is empty; write for example --targets host,cortex-m4")
    if plot is not None:
        check_plot(plot)
    chosen = {name: choose_precision(name, precision) for name in names}
    network = load_network(model, weights, data)
    costs: dict[str, Cost | TargetError] = {}
    for name, arithmetic in chosen.items():
        try:
            costs[name] = target(name).cost(network.lowered(arithmetic))
        except TargetError as error:
            costs[name] = error
    refusals = [cost for cost in costs.values() if isinstance(cost, TargetError)]
    if len(refusals) == len(costs):
        raise refusals[0]
    notes = [n for n in network.notes if "int8" in chosen.values() or not n.startswith("int8")]
    notes += [f"{name}: {text}" for name in chosen for text in _provenance(name, per_op or as_json)]
    if plot is not None:
        drawn = {c.target: c for c in costs.values() if isinstance(c, Cost)}
        plot_costs(network.name, drawn, plot)
    if as_json:
        print_json(_document(network, chosen, costs, notes, per_op))
    else:
        _print(network, chosen, costs, notes, per_op)
        if plot is not None:
            console().print(f"plot: {plot}")


def _provenance(name: str, full: bool) -> list[str]:
    """What a modelled target's numbers rest on."""
    found = target(name)
    if not isinstance(found, Modelled | Platform):
        return []
    facts = found.facts()
    if full:
        return [f"{kind}: {text}" for kind, text in facts.items()]
    kinds = ", ".join(kind for kind in KINDS if kind in facts)
    node = f" at {facts['node']}" if "node" in facts else ""
    return [f"modelled{node}; --per-op lists which numbers are {kinds}"]


def _document(
    network: Network,
    chosen: dict[str, Precision],
    costs: dict[str, Cost | TargetError],
    notes: Sequence[str],
    per_op: bool,
) -> dict[str, Any]:
    rows = []
    for name, cost in costs.items():
        row: dict[str, Any] = {"target": name, "precision": chosen[name]}
        if isinstance(cost, Cost):
            row |= {
                "target": cost.target,
                "basis": _basis(cost),
                "latency_s": cost.latency_s,
                "flash_bytes": cost.flash_bytes,
                "ram_bytes": cost.ram_bytes,
                "energy_j": cost.energy_j,
                "instructions": cost.instructions,
                "macs": cost.macs,
            }
            if per_op:
                row["rows"] = [asdict(entry) for entry in cost.rows]
        else:
            row["error"] = str(cost)
        rows.append(row)
    return {
        "format": "cofit.cost",
        "version": 1,
        "model": network.name,
        "notes": list(notes),
        "targets": rows,
    }


def _print(
    network: Network,
    chosen: dict[str, Precision],
    costs: dict[str, Cost | TargetError],
    notes: Sequence[str],
    per_op: bool,
) -> None:
    out = console()
    found = {name: cost for name, cost in costs.items() if isinstance(cost, Cost)}
    rows = [
        (cost.target, chosen[name], *_quantities(cost), _basis(cost))
        for name, cost in found.items()
    ]
    out.print(table(("target", "precision", *COLUMNS), rows, QUANTITIES))
    for name, cost in costs.items():
        if isinstance(cost, TargetError):
            out.print(f"{name}: {cost}")
    for note in notes:
        out.print(f"note: {note}")
    for cost in found.values() if per_op else ():
        lines = [(row.op, row.kind, *_quantities(row), row.basis, row.note) for row in cost.rows]
        out.print(f"\n{network.name} on {cost.target}")
        out.print(table(("op", "kind", *COLUMNS, "note"), lines, QUANTITIES))


def _quantities(cost: Cost | CostRow) -> tuple[str, ...]:
    return (
        format_quantity(cost.latency_s, "time"),
        format_quantity(cost.flash_bytes, "bytes"),
        format_quantity(cost.ram_bytes, "bytes"),
        format_quantity(cost.energy_j, "energy"),
        "–" if cost.instructions is None else f"{cost.instructions:,}",
        f"{cost.macs:,}",
    )


def _basis(cost: Cost) -> str:
    return "+".join(sorted({str(row.basis) for row in cost.rows}))
