"""Which structure or precision would make a layer faster, priced on the layer alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch

from cofit.core import CostRow, format_quantity
from cofit.fit.explanation import Advice, Alone, Layer
from cofit.fit.precision import Precision
from cofit.fit.programs import ProgramDevice
from cofit.fit.progress import Progress
from cofit.ir import Graph, Op, Tensor, attributes
from cofit.structures import Structure, detect, family, parse
from cofit.targets import OpSignature, signature_of, time_together

RATES = (2.0, 4.0, 8.0)
FAMILIES = 2
"""How many of a device's families are priced at every rate, its first ones."""

LEAST_RATE = 1.25
"""Zeros of fewer weights than this removes are what rounding left, not a structure."""

OTHER_RATE = 4.0
"""Rate at which pruning is priced in the precision that a layer does not have."""

WORTH = 0.05
"""Layers that alike take less of the time are explained without being measured alone."""

MOST_PRICED = 4
"""Kinds of layers measured alone, those that take most time."""

LEAST_GAIN = 0.05
"""Of a layer's time; less is not worth a change, nor above the noise of a clock."""

MOST = 4


@dataclass(frozen=True)
class Form:
    """What a layer could be; `exact` if its weights are that already."""

    structure: Structure | None
    precision: Precision
    bits: int
    exact: bool = False


@dataclass(frozen=True)
class Advised:
    """A layer measured alone, how many other forms were priced, and those worth a change."""

    alone: Alone
    considered: int
    advice: tuple[Advice, ...]


def advise(
    graph: Graph, device: ProgramDevice, layers: Sequence[Layer], progress: Progress
) -> dict[str, Advised]:
    """Price the layers worth it as they are, dense, and in a few other forms.

    Layers that are alike count together and are priced once.

    Args:
        graph: of the program.
        device: what it runs on, with its cost table.
        layers: of the program.
        progress: called with (stage, steps done, all steps).

    Returns:
        By op name.
    """
    alike: dict[str, list[Layer]] = {}
    for layer in layers:
        if layer.weight_shape:
            op = graph.producer[layer.op]
            signature = _signature(graph, op, _as_it_is(graph, op))
            alike.setdefault(signature.text, []).append(layer)
    shares = {text: sum(layer.share for layer in group) for text, group in alike.items()}
    worth = sorted((t for t in shares if shares[t] >= WORTH), key=lambda t: -shares[t])
    found: dict[str, Advised] = {}
    for index, text in enumerate(worth[:MOST_PRICED]):
        progress("pricing layers alone", index, len(worth[:MOST_PRICED]))
        # weights differ where shapes do not: so may what their zeros satisfy
        forms = {row.op: list(_forms(graph, graph.producer[row.op], device)) for row in alike[text]}
        wanted = list(dict.fromkeys(form for own in forms.values() for form in own))
        op = graph.producer[alike[text][0].op]
        now = _as_it_is(graph, op)
        own, dense, *others = _prices(
            device, [_signature(graph, op, form) for form in (now, _dense(now), *wanted)]
        )
        prices = dict(zip(wanted, others, strict=True))
        for layer in alike[text]:
            rows = [(form, prices[form]) for form in forms[layer.op]]
            found[layer.op] = _advised(layer, now, own, dense, rows)
    return found


def _prices(device: ProgramDevice, signatures: Sequence[OpSignature]) -> list[CostRow]:
    """On this machine timed in turn; emulated counts are the same whenever they are taken."""
    if not device.emulated:
        return time_together(signatures)
    device.table.fill(signatures)
    return [device.table.row(signature) for signature in signatures]


def _advised(
    layer: Layer, now: Form, own: CostRow, dense: CostRow, forms: list[tuple[Form, CostRow]]
) -> Advised:
    alone = Alone(
        latency_s=own.latency_s,
        kernel=own.note.partition(";")[0],
        dense_s=dense.latency_s,
        dense_kernel=dense.note.partition(";")[0],
    )
    found = [_advice(layer, own, form, row, now) for form, row in forms]
    gaining = [advice for advice in found if advice.gain_s > LEAST_GAIN * layer.latency_s]
    return Advised(alone, len(forms), _best(gaining))


def _best(found: list[Advice]) -> tuple[Advice, ...]:
    """The fastest without a change of weights, then the fastest of each rate and precision."""
    kept: dict[tuple[bool, str, int, float], Advice] = {}
    for advice in sorted(found, key=lambda a: a.latency_s):
        key = (advice.exact, advice.precision, advice.bits, 0.0 if advice.exact else advice.rate)
        kept.setdefault(key, advice)
    ordered = sorted(kept.values(), key=lambda a: (not a.exact, a.latency_s))
    fewer = [a for a in ordered if not _pointless(a, ordered)]
    return tuple(fewer[:MOST])


def _pointless(advice: Advice, others: Sequence[Advice]) -> bool:
    """Whether a form that keeps more weights in the same precision is as fast."""
    return not advice.exact and any(
        other.rate < advice.rate
        and (other.precision, other.bits) == (advice.precision, advice.bits)
        and other.latency_s <= advice.latency_s
        for other in others
    )


def _advice(layer: Layer, own: CostRow, form: Form, row: CostRow, now: Form) -> Advice:
    ratio = row.latency_s / own.latency_s if own.latency_s else 1.0
    latency = layer.latency_s * ratio
    structure = None if form.structure is None else form.structure.text
    times = (
        f"{format_quantity(layer.latency_s, 'time')} to {format_quantity(latency, 'time')} "
        f"({1 / max(ratio, 1e-12):.1f}x, {row.basis} on the layer alone)"
    )
    if form.exact:
        text = (
            f"its zeros satisfy {structure}, but the weight is compiled as "
            f"{layer.structure or 'dense'}: compile it with --structure {structure}: {times}"
        )
    else:
        words: list[str] = [] if form.precision == now.precision else [form.precision]
        words += [f"int{form.bits} weights"] if form.bits < min(now.bits, 8) else []
        words += [structure or "dense"] if structure or now.structure or not words else []
        text = f"{' '.join(words)}: {times}"
    return Advice(
        structure=structure,
        precision=form.precision,
        bits=form.bits,
        rate=1.0 if form.structure is None else form.structure.rate,
        latency_s=latency,
        gain_s=layer.latency_s - latency,
        exact=form.exact,
        basis=row.basis,
        text=text,
    )


def _as_it_is(graph: Graph, op: Op) -> Form:
    weight = graph.weight(op)
    assert weight is not None
    structure = None if weight.structure is None else parse(weight.structure)
    precision: Precision = "int8" if graph.is_integer else "fp32"
    bits = weight.quantisation.bits if weight.quantisation is not None else 32
    return Form(structure, precision, bits)


def _dense(now: Form) -> Form:
    return Form(None, now.precision, now.bits)


def _forms(graph: Graph, op: Op, device: ProgramDevice) -> Iterator[Form]:
    """Other forms of a layer: what its zeros satisfy, a few structures, the other precision."""
    weight, now = graph.weight(op), _as_it_is(graph, op)
    assert weight is not None
    seen = {now.structure.text if now.structure else None}
    prunable = getattr(op.attributes, "groups", 1) == 1
    names = [name for name in device.families(now.precision) if name != "channel"][:FAMILIES]
    zeros = satisfied(weight, device.families(now.precision)) if prunable else []
    for structure in zeros:
        if now.structure is None and structure.text not in seen:
            seen.add(structure.text)
            yield Form(structure, now.precision, now.bits, exact=True)
    if now.structure is not None:
        yield _dense(now)
    present = max([now.structure.rate if now.structure else 1.0, *(s.rate for s in zeros)])
    rates = [present, *(r for r in RATES if r > 1.2 * present)] if present > 1 else list(RATES)
    for structure in _structures(weight, names if prunable else [], rates):
        if structure.text not in seen:
            yield Form(structure, now.precision, now.bits)
    if device.emulated:
        if now.bits > 4 and now.structure is None:
            yield Form(None, "int8", 4)
        return
    other: Precision = "fp32" if now.precision == "int8" else "int8"
    bits = 8 if other == "int8" else 32
    yield Form(None, other, bits)
    names = [name for name in device.families(other) if name != "channel"][:1]
    for structure in _structures(weight, names if prunable else [], [OTHER_RATE]):
        yield Form(structure, other, bits)


def satisfied(weight: Tensor, families: Sequence[str]) -> list[Structure]:
    """Structures that the zeros of a weight have: of the families given, else of any."""
    if weight.data is None:
        return []
    values = torch.from_numpy(weight.data)
    own = [detect(values, [name]) for name in families]
    found = own if any(own) else [detect(values)]
    return [
        structure for structure in found if structure is not None and structure.rate >= LEAST_RATE
    ]


def _structures(
    weight: Tensor, names: Sequence[str], rates: Sequence[float]
) -> Iterator[Structure]:
    for name in names:
        for rate in rates:
            structure = family(name)(rate)
            if structure.applies(weight.shape) is None:
                yield structure


def _signature(graph: Graph, op: Op, form: Form) -> OpSignature:
    """Without the fused activation, which costs next to nothing: more layers are alike."""
    text = None if form.structure is None else form.structure.text
    bits = 8 if form.precision == "fp32" else form.bits
    found = signature_of(graph, op, text, "float32" if form.precision == "fp32" else "int8", bits)
    if isinstance(op.attributes, attributes.Conv2d | attributes.Linear):
        found = replace(found, attributes=replace(op.attributes, fused="none"))
    return found
