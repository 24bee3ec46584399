"""Stored layouts of weights: what the compiler executes, and its exact bytes."""

from cofit.core import UnknownNameError
from cofit.structures.formats import csr, dense, fkw, grid, kept, nm, ocb, packed, unify
from cofit.structures.formats.layout import Decoder, Layout, four, index_type

_DECODERS: dict[str, Decoder] = {
    "dense": dense.decode,
    "csr": csr.decode,
    "ocb": ocb.decode,
    "fkw": fkw.decode,
    "kept": kept.decode,
    "nm": nm.decode,
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
    "csr",
    "decoder",
    "dense",
    "fkw",
    "four",
    "grid",
    "index_type",
    "kept",
    "nm",
    "ocb",
    "packed",
    "unify",
]
