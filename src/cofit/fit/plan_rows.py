"""The plan of a fit as the report shows it: per op, what was chosen and how the prediction held."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

from cofit.core import Basis, Cost, CostRow
from cofit.fit.planning import LayerPlan, Plan
from cofit.fit.summary import PlanRow
from cofit.ir import Graph, Op, kept_macs, macs


def plan_rows(
    plan: Plan, dense: Graph, fitted: Graph, dense_cost: Cost, fitted_cost: Cost
) -> tuple[PlanRow, ...]:
    """A row per op with weights; both of a recurrent op's weights were chosen for in one.

    Args:
        plan: what was chosen.
        dense: the graph that it changes, lowered.
        fitted: the graph that came of it, lowered.
        dense_cost: of the program of `dense`.
        fitted_cost: of that of `fitted`.
    """
    before = {row.op: row for row in dense_cost.rows}
    after = {row.op: row for row in fitted_cost.rows}
    rows = []
    for name, group in itertools.groupby(plan.layers, key=lambda layer: layer.op):
        layers = list(group)
        op = fitted.producer[name]
        dense_macs, kept = macs(dense, dense.producer[name]), executed_macs(fitted, op, after[name])
        shapes = [weight.shape for weight in dense.weights(dense.producer[name])]
        rows.append(
            PlanRow(
                op=name,
                kind=op.kind,
                weight_shape=_joined(shapes),
                structure=", ".join(text for layer in layers for text in _done(layer, plan))
                or None,
                rate=dense_macs / max(kept, 1),
                bits=layers[0].chosen.bits,
                macs=dense_macs,
                kept_macs=kept,
                loss=sum(layer.chosen.loss for layer in layers),
                considered=math.prod(layer.considered for layer in layers),
                note=_note(layers, shapes),
                basis=after[name].basis,
                latency_dense_s=before[name].latency_s,
                latency_predicted_s=sum(layer.chosen.latency_s for layer in layers),
                latency_measured_s=after[name].latency_s,
                flash_dense_bytes=before[name].flash_bytes,
                flash_predicted_bytes=sum(layer.chosen.flash_bytes for layer in layers),
                flash_measured_bytes=after[name].flash_bytes,
            )
        )
    return tuple(rows)


def executed_macs(graph: Graph, op: Op, row: CostRow | None) -> int:
    """Multiply-accumulates: those of the compiled graph, or as a model counts them."""
    if row is not None and row.basis is Basis.MODELLED:
        return row.macs
    return kept_macs(graph, op)


def _done(layer: LayerPlan, plan: Plan) -> list[str]:
    """What was done to a weight: channels removed, then a structure on what remained."""
    done = [plan.removals.get(layer.weight), layer.chosen.structure]
    return [f"{layer.side} {text}".strip() for text in done if text]


def _joined(shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    """Of weights side by side: the matrices of a recurrent op have the same rows."""
    if len(shapes) == 1:
        return shapes[0]
    return (shapes[0][0], sum(shape[1] for shape in shapes))


def _note(layers: Sequence[LayerPlan], shapes: Sequence[tuple[int, ...]]) -> str:
    notes = [f"{layer.side}: {layer.note}" if layer.side else layer.note
             for layer in layers if layer.note]  # fmt: skip
    now = [layer.shape for layer in layers]
    if now != list(shapes):
        notes.insert(0, f"now {'x'.join(map(str, _joined(now)))}")
    return "; ".join(notes)
