"""Stored layouts of weights: what the compiler executes, and its exact bytes."""

from cofit.core import UnknownNameError
from cofit.structures.formats import (
    bspc,
    csr,
    dense,
    fkw,
    grid,
    kept,
    lines,
    nm,
    ocb,
    packed,
    paired,
    polar,
    unify,
)
from cofit.structures.formats.layout import Decoder, Layout, four, index_type

_DECODERS: dict[str, Decoder] = {
    "dense": dense.decode,
    "csr": csr.decode,
    "ocb": ocb.decode,
    "fkw": fkw.decode,
    "kept": kept.decode,
    "nm": nm.decode,
    "bspc": bspc.decode,
    "polar": polar.decode,
    "lines": lines.decode,
    "paired": paired.decode,
    "packed": packed.decode,
    "unify": unify.decode,
}


def decoder(name: str) -> Decoder:
    """The decoder of a format, with or without "+int8" or "+int4".

    Raises:
        UnknownNameError: listing the known formats.
    """
    inner, _, last = name.rpartition("+")
    if last in ("int4", "int8"):
        return grid.decoder(decoder(inner or "dense"))
    if name not in _DECODERS:
        raise UnknownNameError("weight format", name, [*_DECODERS, "int8", "int4"])
    return _DECODERS[name]


__all__ = [
    "Decoder",
    "Layout",
    "bspc",
    "csr",
    "decoder",
    "dense",
    "fkw",
    "four",
    "grid",
    "index_type",
    "kept",
    "lines",
    "nm",
    "ocb",
    "packed",
    "paired",
    "polar",
    "unify",
]
