"""A summary as the texts that people read; the page and the terminal show the same."""

from __future__ import annotations

import math
from dataclasses import dataclass

from cofit.core import Basis, format_quantity
from cofit.core.units import Dimension
from cofit.fit.summary import LimitRow, PlanRow, Side, Summary, Tried
from cofit.report.numbers import Scale, count, error, points, ratio, signed_percent

METRICS = {
    "latency": "Latency",
    "flash": "Flash",
    "ram": "RAM",
    "energy": "Energy",
    "accuracy_drop": "Accuracy drop",
}

_COMPILED = {Basis.MEASURED.value, Basis.EMULATED.value}
"""Bases of targets that compile the program, so that its bytes are counted, not modelled."""


@dataclass(frozen=True)
class Comparison:
    """One line of before and after; `basis` says how the numbers were obtained."""

    quantity: str
    dense: str
    fitted: str
    change: str
    basis: str


@dataclass(frozen=True)
class Prediction:
    """Dense, predicted and found value of one layer in the unit of the column, and the error."""

    dense: str
    predicted: str
    found: str
    error: str


@dataclass(frozen=True)
class Layer:
    """One line of the plan."""

    op: str
    kind: str
    shape: str
    structure: str
    note: str
    rate: str
    bits: str
    macs: str
    kept: str
    loss: str
    considered: str
    latency: Prediction
    flash: Prediction


@dataclass(frozen=True)
class Plan:
    """The plan with the units of its columns and the sums of its layers."""

    layers: tuple[Layer, ...]
    latency: Scale
    flash: Scale
    found: str
    counted: str
    sum_macs: tuple[str, str]
    sum_latency: Prediction
    sum_flash: Prediction


def headline(summary: Summary) -> str:
    """One sentence: what was gained if the budget is met, what is over if not."""
    if not summary.met:
        over = [
            f"{METRICS[row.metric]} {quantity(row.fitted, row)} is over its limit of "
            f"{quantity(row.limit, row)}."
            for row in summary.limits
            if not row.met
        ]
        return " ".join(over) or summary.verdict
    dense, fitted = summary.dense, summary.fitted
    changes = _factor(dense.latency_s, fitted.latency_s, "faster", "slower")
    second = "flash"
    if summary.verification.ran:
        words = ("smaller in flash", "larger in flash")
        changes += _factor(dense.flash_bytes, fitted.flash_bytes, *words)
    else:
        second = "energy"
        words = ("less energy", "more energy")
        changes += _factor(dense.energy_j or 0.0, fitted.energy_j or 0.0, *words)
    gained = " and ".join(changes) + " than" if changes else f"Latency and {second} of"
    change = fitted.accuracy - summary.accuracy_given
    accuracy = f"{format_quantity(fitted.accuracy, 'fraction')} test accuracy"
    kept = points(change) if round(change, 4) else "unchanged"
    what = "program" if summary.verification.ran else "network, as modelled"
    return f"{gained} the dense {what}, at {accuracy} ({kept})."


def _factor(before: float, after: float, less: str, more: str) -> list[str]:
    if not before or not after or round(max(before / after, after / before), 2) == 1:
        return []
    if before > after:
        return [f"{ratio(before, after)} {less}"]
    return [f"{ratio(after, before)} {more}"]


def quantity(value: float, row: LimitRow) -> str:
    """A value of a limit; an accuracy drop is in points."""
    if row.metric == "accuracy_drop":
        return f"{100 * value + 0.0:.2f} points".replace("-", "−")
    return format_quantity(value, row.dimension)


def comparisons(summary: Summary) -> list[Comparison]:
    """Before and after, line by line."""
    dense, fitted, tested = summary.dense, summary.fitted, summary.data.test
    emulated = fitted.basis is Basis.EMULATED
    lines = [
        Comparison(
            "Accuracy",
            f"{format_quantity(dense.accuracy, 'fraction')}",
            f"{format_quantity(fitted.accuracy, 'fraction')}",
            points(fitted.accuracy - dense.accuracy),
            f"measured: {dense.correct} and {fitted.correct} of {tested:,} test samples, "
            + _judge(summary),
        ),
        Comparison("Arithmetic", dense.precision, fitted.precision, "", ""),
    ]

    def line(name: str, field: str, dimension: Dimension, basis: str) -> None:
        before, after = getattr(dense, field), getattr(fitted, field)
        if before is None and after is None:
            return
        lines.append(
            Comparison(
                name,
                format_quantity(before, dimension),
                format_quantity(after, dimension),
                ratio(before, after),
                basis,
            )
        )

    spreads = [s for s in (dense.spread, fitted.spread) if s is not None]
    spread = f", spread {100 * max(spreads):.1f} %" if spreads else ""
    cycles = ", cycle model on counted instructions" if emulated else ""
    line("Latency", "latency_s", "time", f"{basis(summary)}{cycles}{spread}, batch\u00a01")
    if summary.verification.ran:
        exact = {Basis.EMULATED: "measured, linked program", Basis.MEASURED: "measured, constants"}
        line("Flash", "flash_bytes", "bytes", exact.get(fitted.basis, basis(summary)))
        used = {
            Basis.EMULATED: "emulated, arena, data and stack",
            Basis.MEASURED: "measured, arena",
        }
        line("RAM", "ram_bytes", "bytes", used.get(fitted.basis, basis(summary)))
    line("Energy", "energy_j", "energy", "modelled")
    where = "counted in the program" if summary.verification.ran else "counted in the network"
    for name, field, text in (
        ("Instructions", "instructions", f"{basis(summary)}, counted"),
        ("MACs", "macs", where),
        ("Parameters", "parameters", f"non-zero, {where}"),
    ):
        before, after = getattr(dense, field), getattr(fitted, field)
        if before is not None or after is not None:
            lines.append(Comparison(name, count(before), count(after), ratio(before, after), text))
    return lines


def _judge(summary: Summary) -> str:
    """What decided the accuracy."""
    seen = summary.verification
    if not seen.ran or (seen.bit_exact and summary.fitted.basis is Basis.EMULATED):
        return seen.reference
    return "the program itself"


def basis(summary: Summary) -> str:
    """How the latencies of both sides were obtained."""
    sides: tuple[Side, Side] = (summary.dense, summary.fitted)
    return " / ".join(dict.fromkeys(side.basis.value for side in sides))


def plan(rows: tuple[PlanRow, ...]) -> Plan:
    """The plan layer by layer."""
    latency = Scale.of(
        [v for r in rows for v in (r.latency_dense_s, r.latency_predicted_s, r.latency_measured_s)],
        "time",
    )
    flash = Scale.of(
        [
            v
            for r in rows
            for v in (r.flash_dense_bytes, r.flash_predicted_bytes, r.flash_measured_bytes)
        ],
        "bytes",
    )
    bases = {row.basis.value for row in rows}
    return Plan(
        layers=tuple(_layer(row, latency, flash) for row in rows),
        latency=latency,
        flash=flash,
        found=next(iter(bases)) if len(bases) == 1 else "found",
        counted="measured" if bases <= _COMPILED else "found",
        sum_macs=(count(sum(r.macs for r in rows)), count(sum(r.kept_macs for r in rows))),
        sum_latency=_prediction(
            latency,
            sum(r.latency_dense_s for r in rows),
            sum(r.latency_predicted_s for r in rows),
            sum(r.latency_measured_s for r in rows),
        ),
        sum_flash=_prediction(
            flash,
            sum(r.flash_dense_bytes for r in rows),
            sum(r.flash_predicted_bytes for r in rows),
            sum(r.flash_measured_bytes for r in rows),
        ),
    )


def _layer(row: PlanRow, latency: Scale, flash: Scale) -> Layer:
    return Layer(
        op=row.op,
        kind=row.kind,
        shape="×".join(map(str, row.weight_shape)),
        structure=row.structure or "dense",
        note=row.note,
        rate=f"{row.rate:.2f}×",
        bits=str(row.bits),
        macs=count(row.macs),
        kept=count(row.kept_macs),
        loss=f"{row.loss:.2g}" if row.loss else "0",
        considered=str(row.considered),
        latency=_prediction(
            latency, row.latency_dense_s, row.latency_predicted_s, row.latency_measured_s
        ),
        flash=_prediction(
            flash, row.flash_dense_bytes, row.flash_predicted_bytes, row.flash_measured_bytes
        ),
    )


def _prediction(scale: Scale, dense: float, predicted: float, found: float) -> Prediction:
    return Prediction(
        scale.text(dense),
        scale.text(predicted),
        scale.text(found),
        signed_percent(error(predicted, found)),
    )


def chosen(summary: Summary) -> Tried | None:
    """The network among those tried that was kept: its validation accuracy, the nearest latency."""
    best = [t for t in summary.tried if t.accuracy == summary.search.validation_fitted]
    return min(best, key=lambda t: abs(t.latency_s - summary.fitted.latency_s), default=None)


def choices(rows: tuple[PlanRow, ...]) -> str:
    """How many joint plans the options allow: '480', '3 × 10¹²'."""
    exponent = sum(math.log10(max(row.considered, 1)) for row in rows)
    if exponent < 5:
        return count(math.prod(max(row.considered, 1) for row in rows))
    whole, lead = int(exponent), round(10 ** (exponent % 1))
    if lead == 10:
        whole, lead = whole + 1, 1
    digits = str(whole).translate(str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"{lead} × 10{digits}"


def limit_of(summary: Summary, metric: str) -> float | None:
    """The limit of a budget word, None without one."""
    return next((row.limit for row in summary.limits if row.metric == metric), None)


def verified(summary: Summary) -> str:
    """What the comparison with the reference found, in one sentence."""
    seen = summary.verification
    samples = f"{seen.samples:,} test input{'' if seen.samples == 1 else 's'}"
    if not seen.ran:
        return (
            f"{summary.target} is modelled, so no program ran on it: latency and energy are the "
            f"model's. The weights of all {seen.layers} layers were checked against their "
            f"structures and bits, and the network was run by the {seen.reference} on {samples}."
        )
    if seen.bit_exact:
        return f"Every output equals the {seen.reference} bit for bit on {samples}."
    return (
        f"The largest absolute difference from {seen.reference} is {seen.max_abs_error:.3g} "
        f"over {samples}."
    )


def validation_note(summary: Summary) -> str | None:
    """Why validation accuracy did not steer the search, in one sentence; None where it did."""
    search = summary.search
    if not search.validation_seen:
        return None
    there = format_quantity(search.validation_dense, "fraction")
    test = format_quantity(summary.accuracy_given, "fraction")
    return (
        f"The given weights seem to know the validation images ({there} there, {test} on test), "
        "so a drop on them is overstated and called for no other round; the test accuracy counts."
    )
