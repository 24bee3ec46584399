"""The first layers of a network in stripes of rows, so that no layer's whole output is alive.

A stage is a chain of ops that starts at the input of the graph. Its last output is made stripe by
stripe: each stripe takes the input rows that it depends on and runs through all ops before the
next begins (patches of the full width; Lin et al., MCUNetV2, 2021). Rows near the seam of two
stripes are computed for both: the halo. In NHWC with batch 1 rows are runs of bytes, so that a
stripe of the input and of the output are places in a buffer, and nothing is copied.

The stage is again a graph, of the same op kinds with fewer rows and with padding only where the
image ends: every kernel and the integer reference run it as it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from cofit.ir import Graph, Op, Tensor, attributes, kept_macs

_KINDS = ("conv2d", "maxpool2d", "avgpool2d", "activation")
Rows = tuple[int, int]  # first, end


@dataclass(frozen=True, eq=False)
class Schedule:
    """What is executed for a graph.

    Attributes:
        graph: equal to the given graph, op by op or in stripes.
        views: tensors that are a part of another one's buffer: its name and the byte.
        layers: op of the given graph by the output that stands for a stripe of it.
        stripes: stripes of the stage; 1 without a stage.
        halo_macs: multiply-accumulates that whole layers would not need.
    """

    graph: Graph
    views: Mapping[str, tuple[str, int]] = field(default_factory=dict)
    layers: Mapping[str, str] = field(default_factory=dict)
    stripes: int = 1
    halo_macs: int = 0

    def layer(self, output: str) -> str:
        """Name of the given op that an output belongs to."""
        return self.layers.get(output, output)

    def is_free(self, op: Op) -> bool:
        """Whether an op only cuts or joins rows where they lie."""
        return op.output in self.views.keys() - self.layers.keys() or op.output in self.joined

    @property
    def joined(self) -> frozenset[str]:
        """Outputs that stripes make up."""
        return frozenset(base for name, (base, _) in self.views.items() if name in self.layers)


def whole(graph: Graph) -> Schedule:
    """Every op at once."""
    return Schedule(graph)


def stage_ops(graph: Graph) -> tuple[Op, ...]:
    """The longest stage: ops from the input on that work row by row, without branches."""
    found: list[Op] = []
    current = graph.inputs[0]
    for op in graph.ops:
        alone = graph.consumers.get(current, ()) == (op,) and current not in graph.outputs
        reads = [name for name in op.inputs if graph.tensors[name].data is None]
        if not alone or reads != [current] or op.kind not in _KINDS:
            break
        if len(graph.tensors[current].shape) != 4 or graph.tensors[current].shape[0] != 1:
            break
        found.append(op)
        current = op.output
    return tuple(found)


def rows_read(graph: Graph, ops: Sequence[Op], rows: Rows) -> list[Rows]:
    """Rows of the input and of every op's output that rows of the last output depend on."""
    ranges = [rows]
    for op in reversed(ops):
        first, end = _span(graph, op, *ranges[0])
        height = graph.tensors[op.inputs[0]].shape[2]
        ranges.insert(0, (max(first, 0), min(end, height)))
    return ranges


def halo_macs(graph: Graph, ops: Sequence[Op], height: int) -> int:
    """Multiply-accumulates beyond those of whole layers, with stripes of `height` output rows."""
    total = 0
    for rows in edges(graph, ops, height):
        for op, (first, end) in zip(ops, rows_read(graph, ops, rows)[1:], strict=True):
            total += kept_macs(graph, op) * (end - first) // graph.tensors[op.output].shape[2]
    return total - sum(kept_macs(graph, op) for op in ops)


def edges(graph: Graph, ops: Sequence[Op], height: int) -> list[Rows]:
    """Output rows of each stripe; the last may have fewer."""
    rows = graph.tensors[ops[-1].output].shape[2]
    return [(first, min(first + height, rows)) for first in range(0, rows, height)]


def striped(graph: Graph, count: int, height: int) -> Schedule | None:
    """The first `count` ops in stripes of `height` rows.

    None if a stripe sees only padding, or a tensor has the name that a stripe would get.
    """
    ops, source, target = graph.ops[:count], graph.inputs[0], graph.ops[count - 1].output
    tensors = dict(graph.tensors)
    made: dict[str, Op] = {}
    views: dict[str, tuple[str, int]] = {}
    layers: dict[str, str] = {}
    parts: list[str] = []
    for index, rows in enumerate(edges(graph, ops, height)):
        ranges = rows_read(graph, ops, rows)
        if any(first >= end for first, end in ranges):
            return None
        held = ranges[0]
        current = f"{source}[{held[0]}:{held[1]}]"
        tensors[current] = _rows_of(graph.tensors[source], current, held)
        views[current] = (source, held[0] * row_bytes(graph.tensors[source]))
        made[current] = Op(current, _slice(graph.tensors[source], held), (source,))
        for op, here in zip(ops, ranges[1:], strict=True):
            output = f"{op.output}@{index}"
            tensors[output] = _rows_of(graph.tensors[op.output], output, here)
            on_rows = _on_rows(graph, op, held, here)
            made[output] = Op(output, on_rows, (current, *op.inputs[1:]))
            layers[output] = op.output
            current, held = output, here
        parts.append(current)
        views[current] = (target, rows[0] * row_bytes(graph.tensors[target]))
    if made.keys() & graph.tensors.keys():
        return None
    made[target] = Op(target, attributes.Concat(2), tuple(parts))
    everything = (*made.values(), *graph.ops[count:])
    lowered = Graph.build(graph.name, graph.inputs, graph.outputs, everything, tensors, graph.spec)
    extra = halo_macs(graph, ops, height)
    return Schedule(lowered, views, layers, len(parts), extra)


def _span(graph: Graph, op: Op, first: int, end: int) -> Rows:
    """Input rows under the windows of output rows, those outside the image included."""
    match op.attributes:
        case attributes.Conv2d() as conv:
            kernel, apart = graph.tensors[op.inputs[1]].shape[2], conv.dilation[0]
            stride, top = conv.stride[0], conv.padding[0]
        case attributes.MaxPool2d() | attributes.AvgPool2d() as pool:
            kernel, apart, stride, top = pool.kernel[0], 1, pool.stride[0], pool.padding[0]
        case _:
            return first, end
    return first * stride - top, (end - 1) * stride - top + (kernel - 1) * apart + 1


def _on_rows(graph: Graph, op: Op, held: Rows, rows: Rows) -> attributes.Attributes:
    """Attributes of an op that has the input rows `held` and computes the output rows `rows`."""
    match op.attributes:
        case attributes.Conv2d() | attributes.MaxPool2d() | attributes.AvgPool2d() as windowed:
            first, end = _span(graph, op, *rows)
            _, _, left, right = windowed.padding
            return replace(windowed, padding=(held[0] - first, end - held[1], left, right))
    return op.attributes


def _slice(tensor: Tensor, rows: Rows) -> attributes.Slice:
    _, channels, _, width = tensor.shape
    return attributes.Slice((0, 0, rows[0], 0), (1, channels, rows[1], width), (1, 1, 1, 1))


def _rows_of(tensor: Tensor, name: str, rows: Rows) -> Tensor:
    _, channels, _, width = tensor.shape
    return replace(tensor, name=name, shape=(1, channels, rows[1] - rows[0], width))


def row_bytes(tensor: Tensor) -> int:
    """Bytes of one row of an activation (1, C, H, W)."""
    return tensor.nbytes // tensor.shape[2]
