"""What is claimed of single bit-widths, and the rules that decide."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cofit.core import Basis
from cofit.reproductions.harness import (
    Claim,
    above_spread,
    at_least,
    at_most,
    between,
    measured,
)

Rows = Mapping[str, list[dict[str, Any]]]

RECALL = "ranking recalled, not read: 1 to 2 bits without depthwise layers, 4 bits with them"


def claims_of(found: Mapping[str, Rows]) -> list[Claim]:
    """All rows, from the results by network and way."""
    plain, depthwise = found["plain"], found["depthwise"]
    short = _short(plain)
    claims = [
        Claim(
            claim="accuracy of 2 bits over 8 bits at equal size, without depthwise layers",
            published=RECALL,
            measured=measured(_over(plain, "2 bit", "8 bit"), "points"),
            limit="accuracy of the float network of that width",
            basis=Basis.MEASURED, rule=above_spread(), reason=short,
        ),
        Claim(
            claim="accuracy of 4 bits over the best other width, with depthwise layers",
            published=RECALL,
            measured=measured(
                _differences(_points(depthwise, "4 bit"), _best_other(depthwise)), "points"
            ),
            limit="accuracy of the float network of that width",
            basis=Basis.MEASURED, rule=at_least(0.0), reason=short,
        ),
        Claim(
            claim="loss from 4 bits to 1 bit, with depthwise layers over without",
            published=RECALL,
            measured=measured(
                _differences(_over(depthwise, "4 bit", "1 bit"), _over(plain, "4 bit", "1 bit")),
                "points",
            ),
            limit="512 different 3x3 filters at 1 bit in a depthwise layer",
            basis=Basis.MEASURED, rule=above_spread(), reason=short,
        ),
    ]  # fmt: skip
    claims.append(
        Claim(
            claim="accuracy of 1 bit below the worst other width, with depthwise layers",
            published=RECALL,
            measured=measured(
                _differences(_worst_other(depthwise), _points(depthwise, "1 bit")), "points"
            ),
            limit="512 different 3x3 filters at 1 bit in a depthwise layer",
            basis=Basis.MEASURED, rule=above_spread(), reason=short,
        )
    )  # fmt: skip
    for network, rows in found.items():
        claims += _of_network(network, rows)
    return claims


def _of_network(network: str, rows: Rows) -> list[Claim]:
    chosen, short = _chosen(rows), _short(rows)
    entries = [e for name, row in rows.items() if name != "float" for e in row]
    deviation = [100 * abs(e["bytes"] / e["budget"] - 1) for e in entries]
    narrowest, base = rows["1 bit"], rows["8 bit"]
    macs = [n["macs"] / b["macs"] for n, b in zip(narrowest, base, strict=True)]
    return [
        Claim(
            claim=f"{network}: accuracy of the bit-width chosen on validation over mixed "
            "precision aimed at zero degradation",
            published="a single bit-width beats mixed precision at the same size (abstract)",
            measured=measured(
                _differences(chosen, _points(rows, "zero degradation")), "points"
            ),
            limit="accuracy of the float network of that width",
            basis=Basis.MEASURED, rule=above_spread(), reason=short,
            note="both widened to the same bytes and trained alike",
        ),
        Claim(
            claim=f"{network}: accuracy of the bit-width chosen on validation over bits by "
            "sensitivity",
            published="not published; a stronger baseline of ours",
            measured=measured(_differences(chosen, _points(rows, "sensitivity")), "points"),
            limit="accuracy of the float network of that width",
            basis=Basis.MEASURED, rule=at_least(0.0), reason=short,
        ),
        Claim(
            claim=f"{network}: accuracy of the bit-width chosen on validation over random bits",
            published="not published; the weak baseline",
            measured=measured(_differences(chosen, _points(rows, "random")), "points"),
            limit="accuracy of the float network of that width",
            basis=Basis.MEASURED, rule=above_spread(), reason=short,
            note="a draw per seed; as many bytes, trained alike",
        ),
        Claim(
            claim=f"{network}: accuracy lost from floats to 8 bits at one width",
            published="not published; the bar is ours",
            measured=measured(_over(rows, "float", "8 bit"), "points"),
            limit="0",
            basis=Basis.MEASURED, rule=at_most(0.5), reason=short,
        ),
        Claim(
            claim=f"{network}: packed bytes off the budget, at most",
            published="comparison at equal size (abstract)",
            measured=measured(max(deviation), "%"),
            limit="0.5 % or the step of a whole channel",
            basis=Basis.MEASURED, rule=at_most(0.5),
            reason="whole channels: no multiplier gives a size nearer to the budget",
            note=f"{len(entries)} packed files; headers of at most "
            f"{max(e['headers'] for e in entries)} bytes are not counted",
        ),
        Claim(
            claim=f"{network}: multiply-accumulates of 1 bit over 8 bits at equal size",
            published="not published: size alone hides that work grows with the square of width",
            measured=measured(macs, "x"),
            limit="8x without layers whose width is fixed",
            basis=Basis.MEASURED, rule=between(1.0, 8.0),
        ),
    ]  # fmt: skip


def _points(rows: Rows, name: str) -> list[float]:
    return [100 * entry["accuracy"] for entry in rows[name]]


def _over(rows: Rows, one: str, other: str) -> list[float]:
    return _differences(_points(rows, one), _points(rows, other))


def _differences(a: list[float], b: list[float]) -> list[float]:
    return [x - y for x, y in zip(a, b, strict=True)]


def _singles(rows: Rows) -> list[str]:
    return [name for name in rows if name.endswith(" bit")]


def _best_other(rows: Rows) -> list[float]:
    others = [_points(rows, name) for name in _singles(rows) if name != "4 bit"]
    return [max(seed) for seed in zip(*others, strict=True)]


def _worst_other(rows: Rows) -> list[float]:
    others = [_points(rows, name) for name in _singles(rows) if name != "1 bit"]
    return [min(seed) for seed in zip(*others, strict=True)]


def _chosen(rows: Rows) -> list[float]:
    """Test points, seed by seed, of the bit-width of best mean validation accuracy."""
    best = max(_singles(rows), key=lambda name: sum(e["validation"] for e in rows[name]))
    return _points(rows, best)


def _short(rows: Rows) -> str:
    epochs = rows["8 bit"][0]["recipe"]["epochs"]
    return (
        f"after {epochs} epochs the ways are as far apart as seeds are; trainings long enough to "
        "tell them apart (`--scale full`) were not run"
    )
