"""`cofit efficiency`: frames per joule of one network on platforms, with ranges."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cofit.cli.console import console, print_json, table
from cofit.cli.network import load_network
from cofit.core import ConfigError, TargetError, format_quantity
from cofit.targets.platforms import (
    Entry,
    describe,
    entry,
    parameters,
    rank,
    works_of,
)

FIRST_LINE = "modelled, not measured: platforms by their data sheets; ranges are 5 to 95 % of draws"
COLUMNS = ("platform", "precision", "latency", "frames/J", "range", "frames/J by board power")


def efficiency_command(
    model: str,
    names: Sequence[str],
    weights: Path | None,
    precisions: Sequence[str],
    draws: int,
    as_json: bool,
) -> None:
    """Print frames per joule on every platform and in every precision, and their order.

    Raises:
        ConfigError: no platform or no precision is named, or no draws are asked for.
        TargetError: the network fits none of the platforms.
    """
    if not names or not precisions:
        raise ConfigError(
            "--targets and --precisions need one name each; write for example --targets "
            "zcu102,snapdragon-855 --precisions int8"
        )
    found = {name: parameters(name) for name in names}
    graph = load_network(model, weights, None).graph
    entries: dict[tuple[str, str], Entry] = {}
    refusals: dict[str, TargetError] = {}
    for precision in precisions:
        works = works_of(graph, precision)
        for name, numbers in found.items():
            label = f"{name} {precision}"
            try:
                entries[name, precision] = entry(label, numbers, works, draws=draws)
            except TargetError as error:
                refusals[label] = error
    if not entries:
        raise next(iter(refusals.values()))
    ordered = sorted(entries.items(), key=lambda item: -item[1].interval()[0])
    rankings = [
        str(rank([first, second], measure))
        + (" by the boards' power" if measure == "board" else "")
        for (_, first), (_, second) in itertools.pairwise(ordered)
        for measure in ("model", "board")
    ]
    tags = {name: describe(numbers) for name, numbers in found.items()}
    if as_json:
        print_json(_document(graph.name, ordered, refusals, rankings, tags, draws))
        return
    out = console()
    out.print(f"{graph.name}: {FIRST_LINE} ({draws})")
    out.print(table(COLUMNS, [_row(key, each) for key, each in ordered], COLUMNS[2:]))
    for label, refusal in refusals.items():
        out.print(f"{label}: {refusal}")
    for text in rankings:
        out.print(f"order: {text}")
    for name, kinds in tags.items():
        counted = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
        out.print(f"note: {name}: {found[name].about}; numbers: {counted}")


def _row(key: tuple[str, str], each: Entry) -> tuple[str, ...]:
    value, low, high = each.interval()
    return (
        *key,
        format_quantity(float(each.estimate.latency_s[0]), "time"),
        f"{value:.3g}",
        f"{low:.3g} to {high:.3g}",
        f"{each.interval('board')[0]:.3g}",
    )


def _document(
    name: str,
    ordered: Sequence[tuple[tuple[str, str], Entry]],
    refusals: dict[str, TargetError],
    rankings: Sequence[str],
    tags: dict[str, dict[str, int]],
    draws: int,
) -> dict[str, Any]:
    rows = []
    for (platform, precision), each in ordered:
        value, low, high = each.interval()
        rows.append(
            {
                "platform": platform,
                "precision": precision,
                "basis": "modelled",
                "latency_s": float(each.estimate.latency_s[0]),
                "energy_j": float(each.estimate.energy_j[0]),
                "frames_per_j": value,
                "frames_per_j_range": [low, high],
                "board_frames_per_j": each.interval("board")[0],
            }
        )
    return {
        "format": "cofit.efficiency",
        "version": 1,
        "model": name,
        "basis": FIRST_LINE,
        "draws": draws,
        "platforms": rows,
        "refusals": {label: str(error) for label, error in refusals.items()},
        "rankings": list(rankings),
        "provenance": tags,
    }
