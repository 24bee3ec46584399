"""What a step of a program has to do: multiply-adds and bytes, from its graph and its constants."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from cofit.codegen import Constant, Source, Step
from cofit.codegen.emit import INPUT, OUTPUT
from cofit.codegen.kernels.s8_host_layer import LANES, TILE_ROWS
from cofit.codegen.kernels.s8_host_plane import QUADS, pair_tile
from cofit.codegen.machine import Machine
from cofit.ir import DType, Graph, Op
from cofit.ir.shapes import macs

WEIGHTS = ("weight", "weights")
PARAMETERS = (
    "bias", "multiplier", "shift", "rest", "idle", "zeros", "table", "table_sigmoid", "table_tanh",
)  # fmt: skip

WINOGRAD = "s8-host-dense-winograd"  # transforms its weights at run time
TRANSFORMED = ("f32-winograd", "f32-winograd-3x3")  # hold them transformed
_TILE = re.compile(r"(\d+)(?: outputs)? x (\d+) (?:pixels|rows)")
_PLANES = re.compile(r"(\d+) filters x (\d+) vectors of")
_SIDE = re.compile(r"_(ih|hh)$")  # of a recurrent layer, which has two of each constant
_SIZE = re.compile(r"(\d+)x\1 outputs")
_LISTED = ("f32-block", "f32-pattern", "s8-host-block")


@dataclass(frozen=True)
class Work:
    """Multiply-adds and bytes of one step.

    Attributes:
        macs_dense: of the layer if no weight were left out.
        macs_kept: by weights that are not zero.
        macs_executed: that the kernel does: what it pads with is in, what it skips is not; minimal
            filtering counts the products it is left with.
        weight_bytes: stored weights.
        index_bytes: lists that say where kept weights belong.
        parameter_bytes: other constants (biases, scales).
        input_bytes: activations read.
        output_bytes: activations written.
        register_bytes: that loads move into registers at full width while the kernel runs, where
            its register tile is known, else 0. A load of one element takes as long as a full one.
    """

    macs_dense: int
    macs_kept: int
    macs_executed: int
    weight_bytes: int
    index_bytes: int
    parameter_bytes: int
    input_bytes: int
    output_bytes: int
    register_bytes: int = 0

    @property
    def constant_bytes(self) -> int:
        """Weights, lists and parameters."""
        return self.weight_bytes + self.index_bytes + self.parameter_bytes

    @property
    def nbytes(self) -> int:
        """Bytes that must move at least once."""
        return self.constant_bytes + self.input_bytes + self.output_bytes


def work_of(source: Source, step: Step) -> Work:
    """The work of a step of a program."""
    graph, constants = source.graph, step.code.constants
    dense = macs(graph, step.op) if step.op is not None else 0
    executed = executed_macs(graph, step)
    output_bytes = _activation_bytes(source, step.writes)
    weights = _bytes_of(constants, WEIGHTS)
    parameters = _bytes_of(constants, PARAMETERS)
    rest = step.constant_bytes - weights - parameters
    if step.kind == "embedding":  # of the table, only the rows of the tokens are read
        weights, parameters, rest = output_bytes, 0, 0
    return Work(
        macs_dense=dense,
        macs_kept=_kept_macs(graph, step.op, dense),
        macs_executed=executed,
        weight_bytes=weights,
        index_bytes=rest,
        parameter_bytes=parameters,
        input_bytes=sum(input_bytes(source, step).values()),
        output_bytes=output_bytes,
        register_bytes=register_bytes(source.machine, graph, step, executed),
    )


def executed_macs(graph: Graph, step: Step) -> int:
    """Multiply-adds of the kernel: every stored weight meets every output position."""
    op = step.op
    if op is not None and op.kind in ("gru", "lstm"):
        stored_weights = sum(
            c.values.size for c in step.code.constants if _SIDE.sub("", c.name) in WEIGHTS
        )
        return graph.tensors[op.output].shape[1] * stored_weights
    if op is None or op.kind not in ("conv2d", "linear"):
        return 0 if op is None else macs(graph, op)
    stored = next((c for c in step.code.constants if c.name in WEIGHTS), None)
    if stored is None:
        return 0 if "no channel kept" in step.code.variant else macs(graph, op)
    shape = graph.tensors[op.output].shape
    elements = stored.values.size * (2 if step.code.variant == "int4" else 1)
    elements += 8 * sum(c.values.size for c in step.code.constants if c.name == "signs")
    if step.kernel in (WINOGRAD, *TRANSFORMED):
        size = winograd_size(step.code.variant)
        tiles = math.prod(-(-n // size) for n in shape[2:])
        taps = _winograd_taps(size)
        factors = ((size + taps - 1) / taps) ** 2 if step.kernel == WINOGRAD else 1
        return round(elements * tiles * factors)
    return elements * math.prod(shape[2:] if op.kind == "conv2d" else shape[:-1])


def winograd_size(kernel: str) -> int:
    """Outputs along an edge of a tile of minimal filtering, 1 for other kernels.

    Args:
        kernel: its variant, also behind its name.
    """
    size = _SIZE.search(kernel)
    return int(size[1]) if size else 1


def _winograd_taps(size: int) -> int:
    """Weights in each direction; 3x3 outputs are those of 4x4 kernels."""
    return 4 if size == 3 else 3


def winograd_saving(size: int) -> float:
    """Products of a convolution for one of minimal filtering with size x size outputs.

    3x3 outputs are those of 7x7 kernels of stride 2, taken for 4x4 ones on four times the channels.
    """
    if size == 3:
        return (7 * size / (2 * (size + 3))) ** 2
    return (3 * size / (size + 2)) ** 2


def register_bytes(machine: Machine, graph: Graph, step: Step, executed: int) -> int:
    """Bytes that a kernel with a known register tile loads; 0 for other kernels and machines."""
    if machine.vector_floats == 1 or not executed:
        return 0
    per_tile = _tile(machine, graph, step)
    if per_tile is None:
        return 0
    products, loads, vector_bytes = per_tile
    return round(executed / products * loads * vector_bytes)


def _tile(machine: Machine, graph: Graph, step: Step) -> tuple[int, int, int] | None:
    """Products and loads of one step of a register tile, and the bytes of a vector."""
    lanes, index = machine.vector_floats, int(step.kernel in _LISTED)
    if step.kernel.startswith("s8-host") and step.op is not None and step.op.kind != "matmul":
        weight = graph.weight(step.op)
        if weight is None or step.kernel == "s8-host-depthwise":
            return None
        if tile := _TILE.search(step.code.variant):  # of quads
            outputs, pixels = int(tile[1]), int(tile[2])
            vectors = outputs // QUADS.rows
            return 4 * outputs * pixels, vectors + pixels + index, 4 * QUADS.rows
        narrow = weight.shape[0] <= LANES or (weight.structure or "").startswith("block8x")
        wide, rows = pair_tile(machine), LANES if narrow else TILE_ROWS
        vectors = -(-rows // wide.lanes)
        return 2 * rows * wide.pixels, vectors + wide.pixels + index, 4 * min(rows, wide.lanes)
    if step.kernel == "f32-planes" and (planes := _PLANES.search(step.code.variant)):
        filters, vectors = int(planes[1]), int(planes[2])
        return filters * vectors * lanes, filters + vectors + 1, 4 * lanes
    if step.kernel.startswith("f32-") and (tile := _TILE.search(step.code.variant)):
        outputs, pixels = int(tile[1]), int(tile[2])
        vectors = -(-outputs // lanes)
        return outputs * pixels, vectors + pixels + index, 4 * min(lanes, outputs)
    return None


def _kept_macs(graph: Graph, op: Op | None, dense: int) -> int:
    weights = () if op is None else graph.weights(op)
    held = [weight.data for weight in weights if weight.data is not None]
    if not held:
        return dense
    kept = sum(int((data != 0).sum()) for data in held)
    return dense * kept // max(sum(data.size for data in held), 1)


def _bytes_of(constants: tuple[Constant, ...], names: tuple[str, ...]) -> int:
    return sum(c.values.nbytes for c in constants if _SIDE.sub("", c.name) in names)


def input_bytes(source: Source, step: Step) -> dict[str, int]:
    """Bytes that a step reads of each activation."""
    if step.kind == "slice":  # reads what it writes
        return {step.reads[0]: _activation_bytes(source, step.writes)}
    return {name: _activation_bytes(source, name) for name in step.reads}


def _activation_bytes(source: Source, name: str) -> int:
    graph = source.graph
    if name in (INPUT, OUTPUT):
        held = graph.inputs[0] if name == INPUT else graph.outputs[0]
        return graph.tensors[held].size * DType.F32.nbytes
    return graph.tensors[name].nbytes
