"""Why a layer takes the time it takes, in sentences that follow from its measured facts."""

from __future__ import annotations

import re

from cofit.core import Basis, format_quantity
from cofit.fit.explanation import Layer, Limits
from cofit.targets.roofline import COMPUTE, OVERHEAD
from cofit.targets.work import winograd_saving, winograd_size

PRUNED = 1.05
"""Rate from which a layer counts as pruned: below, zeros may be accidents."""

SLOW_CLOCK = 0.9
NOISY = 0.2

STEP_SHARE = 0.2
"""Part of a layer's time from which an empty step is worth mentioning."""

LIST_SHARE = 0.1
"""Bytes of lists beside those of weights from which they are worth mentioning."""

ARITHMETIC = ("activation", "softmax", "layernorm", "gru", "lstm")
OTHER = "arithmetic that is no multiply-add: exponentials, divisions, roots, comparisons"

_NARROW = re.compile(r"block \d+x\d+, ([124]) outputs")


def reasons(layer: Layer, limits: Limits) -> tuple[str, ...]:
    """Sentences about one layer, the most useful first; none of a layer that only takes time."""
    if layer.kernel == "":
        return ()
    found = [*_zeros(layer), *_pruning(layer), _binding(layer, limits)]
    found += [*_streamed(layer, limits), *_small(layer, limits)]
    found += [*_instructions(layer), *_nothing_faster(layer)]
    return tuple(sentence for sentence in found if sentence)


def notes_of(limits: Limits, spread: float | None) -> tuple[str, ...]:
    """What to keep in mind when reading the whole."""
    notes = []
    if limits.over_fp32 is not None and limits.basis is Basis.MEASURED:
        notes.append(
            f"int8 multiply-adds peak at {limits.over_fp32:.1f}x those of fp32 on this CPU "
            f"({limits.instruction}): where compute binds, precision alone wins no more"
        )
    if limits.clock is not None and limits.clock < SLOW_CLOCK:
        notes.append(
            f"the CPU gave {limits.clock:.0%} of its measured peak while the program was timed: "
            "it is shared or throttled, and every layer seems further from its limit than it is"
        )
    if spread is not None and spread > NOISY:
        notes.append(
            f"the series of measurements spread by {spread:.0%}; the fastest is shown, run again "
            "on a quiet machine"
        )
    return tuple(notes)


def _zeros(layer: Layer) -> list[str]:
    """Zeros that the kernel multiplies all the same."""
    if layer.rate < PRUNED or not _multiplies_all(layer):
        return []
    zero = f"{1 - layer.density:.0%} of its weights are zero, but {layer.kernel} multiplies them"
    if layer.structure is not None:
        return [f"{zero}: no kernel here skips the zeros of {layer.structure}"]
    shape = f" (they satisfy {layer.zeros})" if layer.zeros else ""
    return [f"{zero}: the weight was compiled without a structure{shape}"]


def _pruning(layer: Layer) -> list[str]:
    """Why a pruned layer is not faster by its rate."""
    if layer.rate < PRUNED or _multiplies_all(layer):
        return []
    found = []
    alone = layer.alone
    if alone is not None and alone.latency_s:
        gain = alone.dense_s / alone.latency_s
        found.append(
            f"pruned {layer.rate:.1f}x, and alone {gain:.1f}x as fast as dense"
            + (f" ({alone.dense_kernel})" if alone.dense_kernel != alone.kernel else "")
        )
        if (size := winograd_size(alone.dense_kernel)) > 1:
            found.append(
                f"the dense kernel needs {winograd_saving(size):g}x fewer multiplications itself "
                "(Winograd), so pruning must first win that back"
            )
    if layer.index_bytes > LIST_SHARE * max(layer.weight_bytes, 1):
        found.append(
            f"lists of kept weights add {format_quantity(layer.index_bytes, 'bytes')} to "
            f"{format_quantity(layer.weight_bytes, 'bytes')} of weights"
        )
    if narrow := _NARROW.search(layer.kernel):
        found.append(f"blocks of {narrow[1]} outputs leave most lanes of a vector empty")
    return found


def _binding(layer: Layer, limits: Limits) -> str:
    reached = f"{layer.reached:.0%} of its time"
    if layer.binds == COMPUTE:
        work = f"{layer.macs_executed:,} multiply-adds at the peak of {limits.instruction}"
        return f"compute binds: {work} take {reached}"
    if layer.binds == OVERHEAD:
        what = "multiply-adds" if layer.macs_executed else "bytes"
        rest = OTHER if layer.kind in ARITHMETIC else "calls, edges, copies and rounding"
        return (
            f"overhead binds: its {what} need {format_quantity(layer.limit_s, 'time')} at the "
            f"limit, {reached}; the rest is {rest}"
        )
    if layer.instructions is not None:
        return f"loads and stores bind: with the multiplications they take {reached}"
    moved = format_quantity(layer.traffic_bytes.get(layer.binds, 0), "bytes")
    tile = " into the register tile" if layer.binds == limits.levels[0].name else ""
    return f"{layer.binds} binds: loading {moved}{tile} takes {reached}"


def _streamed(layer: Layer, limits: Limits) -> list[str]:
    """Weights beyond the second level, which a kernel reads once for every band of pixels."""
    held = next((level.capacity_bytes for level in limits.levels[1:2]), None)
    if layer.binds == COMPUTE or held is None or layer.weight_bytes <= held:
        return []
    return [
        f"its {format_quantity(layer.weight_bytes, 'bytes')} of weights do not fit "
        f"{limits.levels[1].name}: every pass over them comes from further away"
    ]


def _small(layer: Layer, limits: Limits) -> list[str]:
    """Layers so small that being called counts."""
    if not limits.step_s or layer.latency_s * STEP_SHARE > limits.step_s:
        return []
    step = format_quantity(limits.step_s, "time")
    return [f"it is small: an empty step takes {step} with its clock"]


def _instructions(layer: Layer) -> list[str]:
    """Instructions of an emulated layer for each multiply-add."""
    counted, macs = layer.instructions, layer.macs_executed
    if counted is None or not macs:
        return []
    total = counted.multiply + counted.memory + counted.arithmetic + counted.branch
    return [
        f"{total / macs:.2f} instructions per multiply-add where SMLAD allows 0.50: "
        f"{counted.multiply / macs:.2f} multiply, {counted.memory / macs:.2f} load and store, "
        f"{counted.arithmetic / macs:.2f} widen, address and round, "
        f"{counted.branch / macs:.2f} branch"
    ]


def _nothing_faster(layer: Layer) -> list[str]:
    if not layer.considered or layer.advice:
        return []
    return [f"none of {layer.considered} other structures and precisions priced would be faster"]


def _multiplies_all(layer: Layer) -> bool:
    """Whether the kernel does the work of a dense one; minimal filtering does less than that."""
    saving = winograd_saving(winograd_size(layer.kernel))
    return layer.macs_executed * saving >= layer.macs_dense / PRUNED
