"""An explanation in the terminal: where the time goes, then what to know of the slowest layers."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from cofit.core import format_quantity
from cofit.fit import Explanation
from cofit.fit.explanation import Layer
from cofit.report.numbers import Scale, minus
from cofit.report.terminal import MOST_LAYERS, plain, plain_table

MOST_EXPLAINED = 8
"""The terminal gives reasons for so many layers, the slowest; --json and --html for all."""


def print_explanation(explanation: Explanation, console: Console) -> None:
    """Limits of the machine, every layer beside them, and sentences about the slowest."""
    console.print(plain(f"{explanation.program} on {explanation.target}", "bold"))
    console.print(plain(headline(explanation)))
    console.print(plain(ceilings(explanation), "dim"))
    console.print()
    console.print(_layers(explanation))
    hidden = len(explanation.layers) - MOST_LAYERS
    if hidden > 0:
        console.print(plain(f"and {hidden} more layers, see --json or --html", "dim"))
    for layer, others in told(explanation)[:MOST_EXPLAINED]:
        console.print()
        console.print(plain(f"{title(layer, others)}  {layer.kernel}", "bold"))
        for sentence in layer.why:
            console.print(plain(f"  {sentence}"))
        for advice in layer.advice:
            mark, style = ("!", "bold") if advice.exact else (">", "")
            console.print(plain(f"  {mark} {advice.text}", style))
    if any(not a.exact for layer in explanation.layers for a in layer.advice):
        console.print()
        console.print(plain(caution(), "dim"))
    for note in explanation.notes:
        console.print(plain(f"note: {note}"))


def headline(explanation: Explanation) -> str:
    """The program's time, its limit, and how the time was obtained."""
    spread = "" if explanation.spread is None else f", spread {100 * explanation.spread:.1f} %"
    limit = explanation.limit_s
    times = explanation.latency_s / limit if limit else 0.0
    return (
        f"{format_quantity(explanation.latency_s, 'time')} ({explanation.basis}{spread}), "
        f"{times:.1f} times the {format_quantity(limit, 'time')} that its work needs at the limits "
        f"of the machine; {explanation.precision}"
    )


def ceilings(explanation: Explanation) -> str:
    """The limits of the machine in one line."""
    limits = explanation.limits
    levels = ", ".join(f"{level.name} {level.bytes_per_s / 1e9:.3g}" for level in limits.levels)
    return (
        f"Limits ({limits.basis}) of {limits.machine}: {limits.macs_per_s / 1e9:.3g} G "
        f"multiply-adds/s by {limits.instruction}; GB/s: {levels}"
    )


def caution() -> str:
    """What predicted gains leave out."""
    return (
        "Lines with > change weights: 'cofit fit' weighs their accuracy. Gains are the layer's "
        "time by the ratio of the two forms alone."
    )


def told(explanation: Explanation) -> list[tuple[Layer, int]]:
    """The slowest of each kind of layer, and how many more are like it; by the time of the kind."""
    alike: dict[tuple[object, ...], list[Layer]] = {}
    for layer in explanation.layers:
        if layer.why or layer.advice:
            form = (layer.structure, layer.zeros, layer.binds, bool(layer.advice))
            sizes = (layer.weight_shape, layer.input_bytes, layer.output_bytes)
            alike.setdefault((layer.kernel, *form, *sizes), []).append(layer)
    groups = sorted(alike.values(), key=lambda group: -sum(layer.latency_s for layer in group))
    return [(max(group, key=lambda layer: layer.latency_s), len(group) - 1) for group in groups]


def title(layer: Layer, others: int) -> str:
    """The layer, and how many are like it."""
    return f"{layer.op} and {others} like it" if others else layer.op


def _layers(explanation: Explanation) -> Table:
    scale = Scale.of([layer.latency_s for layer in explanation.layers], "time")
    unit = scale.unit
    parts = (unit, "share", f"compute {unit}", f"memory {unit}", f"overhead {unit}", "reached")
    headings = ("layer", "structure", "kept MACs", *parts, "binds")
    table = plain_table(headings, right=(2, 3, 4, 5, 6, 7, 8))
    for layer in explanation.layers[:MOST_LAYERS]:
        slowest = max(layer.memory_s.values(), default=0.0)
        times = (layer.compute_s, slowest, layer.overhead_s)
        cells = (
            layer.op,
            structure_of(layer),
            f"{layer.macs_kept:,}",
            scale.text(layer.latency_s),
            f"{100 * layer.share:.1f} %",
            *(minus(scale.text(value)) for value in times),
            f"{100 * layer.reached:.0f} %",
            layer.binds,
        )
        table.add_row(*map(plain, cells))
    return table


def structure_of(layer: Layer) -> str:
    """The structure of a weight; of zeros compiled as dense, what they satisfy."""
    if not layer.weight_shape:
        return "–"
    if layer.structure is None and layer.zeros is not None:
        return f"dense ({layer.zeros} ignored)"
    return layer.structure or "dense"
