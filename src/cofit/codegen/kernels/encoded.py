"""The encoding of a weight that carries a structure, or why there is none to compile."""

from __future__ import annotations

import functools
import math

import numpy as np

from cofit.core import StructureError
from cofit.ir import Graph, Op, Tensor
from cofit.structures import Composition, Encoding, FixedPoint, Structure, parse
from cofit.structures.formats import ocb
from cofit.structures.formats.matrix import ORDERS

LINE_OUTPUTS = 16
"""Of a block that word lines become."""


def encoding_of(graph: Graph, op: Op, formats: tuple[str, ...]) -> Encoding | str:
    """Encoding of the op's weight if it is in one of the formats, else the reason it is not.

    Only `weight.structure` is looked at, never the zeros: a weight without a structure runs dense.
    """
    weight = graph.weight(op)
    if weight is None:
        return f"{op.kind} has no weight"
    groups = getattr(op.attributes, "groups", 1)
    if weight.structure is not None and groups != 1:
        return f"{weight.structure} on a convolution of {groups} groups"
    return weight_encoding(weight, formats)


def weight_encoding(weight: Tensor, formats: tuple[str, ...]) -> Encoding | str:
    """Encoding of a weight if it is in one of the formats, else the reason it is not."""
    if weight.structure is None:
        return "the weight has no structure"
    try:
        encoding = _encode(weight)
    except StructureError as error:
        return f"{weight.structure} does not hold: {error}"
    if encoding is None:
        return f"{weight.structure} removes no weights"
    if encoding.format not in formats:
        return f"{weight.structure} is stored as {encoding.format}, not {' or '.join(formats)}"
    return encoding


def too_dense(encoding: Encoding, limit: float) -> str | None:
    """The reason to run dense if more than `limit` of the weight is stored, else None."""
    stored = encoding.arrays["values"].size / max(math.prod(encoding.shape), 1)
    return (
        f"density {stored:.2f} is above {limit}, where dense code is faster"
        if stored > limit
        else None
    )


def lines_as_blocks(encoding: Encoding) -> Encoding:
    """Kept word lines as blocks, which have loops: a line is kept by all outputs alike.

    Blocks are as wide as lines of one position are neighbouring channels, up to four.
    """
    m, channels = encoding.parameters["m"], encoding.shape[1]
    neighbours = math.gcd(m, channels) if ORDERS[encoding.parameters["order"]] == "c" else 1
    return ocb.encode(encoding.decode(), LINE_OUTPUTS, math.gcd(neighbours, 4))


@functools.lru_cache(maxsize=8)
def _encode(weight: Tensor) -> Encoding | None:
    assert weight.structure is not None and weight.data is not None
    structure = _without_grid(parse(weight.structure))
    if structure is None:
        return None
    encoding = structure.encode(np.asarray(weight.data, np.float32))
    return lines_as_blocks(encoding) if encoding.format == "lines" else encoding


def _without_grid(structure: Structure) -> Structure | None:
    """The part that removes weights; a grid of values means nothing to float code."""
    parts = structure.parts if isinstance(structure, Composition) else (structure,)
    kept = tuple(part for part in parts if not isinstance(part, FixedPoint))
    if not kept:
        return None
    return kept[0] if len(kept) == 1 else Composition(kept)
