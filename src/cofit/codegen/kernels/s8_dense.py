"""int8 convolutions and linear layers without structure: two rows by two pixels of SMLAD."""

from __future__ import annotations

import numpy as np

from cofit.codegen.kernel import KernelCode
from cofit.codegen.kernels.s8_layer import (
    SHUFFLE,
    Int8,
    Rows,
    columns_of,
    layer_constants,
    pair_call,
    reject_weighted,
    requantise_support,
    weight_values,
)
from cofit.codegen.kernels.shares import count_of, declared
from cofit.codegen.machine import Machine
from cofit.ir import Graph, Op

NIBBLES = (0, 4, 2, 6, 1, 5, 3, 7)  # columns of eight in the nibbles of a word, lowest first
INT4_REACH = (1 << 31) // (16 * 255 * 8)  # columns whose sixteenfold sum surely fits int32


class S8Dense:
    """conv2d (grouped and dilated ones too) and linear; 4-bit weights two to a byte."""

    name = "s8-dense"

    def reject(self, graph: Graph, op: Op, machine: Machine) -> str | None:
        """Only what cannot be held in int32."""
        return reject_weighted(graph, op)

    def emit(self, graph: Graph, op: Op, machine: Machine) -> KernelCode:
        """Column by column for pairs of pixels."""
        columns = columns_of(graph, op)
        groups = columns.window.groups
        weight = weight_values(graph, op).transpose(0, 2, 3, 1).reshape(groups, -1, columns.length)
        quantisation = graph.tensors[op.inputs[1]].quantisation
        narrow = quantisation is not None and quantisation.bits == 4
        narrow = narrow and columns.length < INT4_REACH
        pack, function = (pack_dense4, "s8_dense4") if narrow else (pack_dense, "s8_dense")
        packed = np.concatenate([pack(part) for part in weight])
        declaration, constants = layer_constants(graph, op, Rows(packed), groups)
        shares = columns.shares(graph, op, machine)
        loop = columns.loop(pair_call(columns, function), shares)
        return KernelCode(
            declared(shares, f"{declaration}\n{loop}"),
            constants,
            (requantise_support(graph), f"{function}.h", *columns.support),
            columns.scratch_bytes,
            variant="int4" if narrow else "dense",
            shares=count_of(shares),
        )


def pack_dense(weight: Int8) -> Int8:
    """(K, n) int8 in the order of `s8_dense.h`; K * n bytes."""
    k, n = weight.shape
    fours, pairs = n // 4, k // 2 * 2
    body = weight[:, : fours * 4].reshape(k, fours, 4)[..., SHUFFLE]
    paired = body[:pairs].reshape(pairs // 2, 2, fours, 4).transpose(0, 2, 1, 3)
    rest = weight[:, fours * 4 :]
    return np.concatenate([paired.ravel(), body[pairs:].ravel(), rest.ravel()])


def pack_dense4(weight: Int8) -> Int8:
    """(K, n) of 4-bit values in the order of `s8_dense4.h`; K * ceil(n / 2) bytes."""
    k, n = weight.shape
    eights, pairs = n // 8, k // 2 * 2
    body = _nibbles(weight[:, : eights * 8].reshape(k, eights, 8)[..., NIBBLES])
    paired = body[:pairs].reshape(pairs // 2, 2, eights, 4).transpose(0, 2, 1, 3)
    rest = _nibbles(np.pad(weight[:, eights * 8 :], ((0, 0), (0, n % 2))))
    return np.concatenate([paired.ravel(), body[pairs:].ravel(), rest.ravel()])


def _nibbles(values: Int8) -> Int8:
    bits = values.view(np.uint8) & 15
    return (bits[..., 0::2] | bits[..., 1::2] << 4).view(np.int8)
