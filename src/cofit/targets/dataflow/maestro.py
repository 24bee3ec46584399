"""Mapping files of MAESTRO: the language of its directives, read into values.

A dataflow is a list of directives, outer first. `TemporalMap(size, offset) d` gives every step
`size` indices of dimension d and moves on by `offset`; `SpatialMap` does so over units;
`Cluster(n)` opens an inner level of n units. X and Y count input positions, X' and Y' outputs.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from cofit.core import ConfigError, FileError
from cofit.targets.dataflow.layer import Layer

TOKEN = re.compile(
    r"(?P<skip>\s+|//[^\n]*|/\*.*?\*/)|(?P<word>[A-Za-z_][\w.\-]*['’]?)|(?P<number>\d+)|(?P<sign>.)",
    re.DOTALL,
)
NAMES = ("N", "G", "K", "C", "R", "S", "Y", "X", "Y'", "X'", "M")
GROUPED = ("DSCONV", "NGCONV")
TYPES = ("CONV", "TRCONV", "FC", "GEMM", *GROUPED)

T = TypeVar("T")

Size = int | str
"""A number, or the name of a dimension whose size it is."""


@dataclass(frozen=True)
class Directive:
    """One map of a dimension.

    Attributes:
        spatial: over units, else over time.
        size: indices of one step.
        offset: from step to step.
        dim: as written, for example "Y'".
    """

    spatial: bool
    size: Size
    offset: Size
    dim: str


@dataclass(frozen=True)
class MaestroMapping:
    """Directives of every cluster level, outer first, and the units of each inner level."""

    levels: tuple[tuple[Directive, ...], ...]
    clusters: tuple[Size, ...]


@dataclass(frozen=True)
class MaestroLayer:
    """A layer of a network file, and its mapping if the file gives one."""

    layer: Layer
    mapping: MaestroMapping | None


def read_maestro(path: Path) -> tuple[MaestroLayer, ...]:
    """Layers of a network or mapping file.

    Raises:
        FileError: the file cannot be read.
        ConfigError: it is not in the language; the text names the line.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise FileError(f"cannot read the mapping {path}: {error.strerror}") from error
    return parse_network(text, path.name)


def parse_network(text: str, name: str = "network") -> tuple[MaestroLayer, ...]:
    """As `read_maestro`, of a text."""
    return _Parser(text, name).network()


def parse_dataflow(text: str, name: str = "dataflow") -> MaestroMapping:
    """A dataflow that stands alone, `Dataflow { ... }`."""
    return _Parser(text, name).dataflow()


class _Parser:
    """Recursive descent over the tokens of one file."""

    def __init__(self, text: str, name: str) -> None:
        self._name = name
        self._tokens: list[tuple[str, int]] = []
        line = 1
        for match in TOKEN.finditer(text):
            if match.lastgroup != "skip":
                self._tokens.append((match[0].replace("’", "'"), line))
            line += match[0].count("\n")
        self._next = 0
        self._constants: dict[str, int] = {}

    def network(self) -> tuple[MaestroLayer, ...]:
        """The whole file."""
        while self._optional("Constant"):
            key = self._word()
            self._constants[key] = self._integer()
            self._take(";")
        self._take("Network")
        self._word()
        layers = tuple(self._block(self._layer))
        if self._next < len(self._tokens):
            raise self._fail("only one network may stand here")
        return layers

    def dataflow(self) -> MaestroMapping:
        """A `Dataflow { ... }`."""
        self._take("Dataflow")
        levels: list[list[Directive]] = [[]]
        clusters: list[Size] = []
        for entry in self._block(self._directive):
            if isinstance(entry, Directive):
                levels[-1].append(entry)
            else:
                clusters.append(entry)
                levels.append([])
        return MaestroMapping(tuple(tuple(level) for level in levels), tuple(clusters))

    def _layer(self) -> MaestroLayer:
        self._take("Layer")
        name = self._word()
        kind, sizes, stride, mapping = "CONV", dict[str, int](), {"X": 1, "Y": 1}, None
        self._take("{")
        while not self._optional("}"):
            key = self._tokens[self._next][0]
            if key == "Dataflow":
                mapping = self.dataflow()
                continue
            self._next += 1
            if key == "Type":
                self._optional(":")
                kind = self._word()
                if kind not in TYPES:
                    raise self._fail(f"layer type {kind!r} is unknown; known: {', '.join(TYPES)}")
            elif key == "Stride":
                stride |= self._sizes()
            elif key == "Dimensions":
                sizes = self._sizes()
            else:
                raise self._fail(f"{key!r} is no entry of a layer")
            self._optional(";")
        if kind == "GEMM" and mapping is not None:
            mapping = _renamed(mapping, {"M": "Y'", "N": "K", "K": "C"})
        return MaestroLayer(self._made(name, kind, sizes, stride), mapping)

    def _made(self, name: str, kind: str, sizes: dict[str, int], stride: dict[str, int]) -> Layer:
        if kind == "GEMM":
            return Layer.gemm(sizes["M"], sizes["K"], sizes["N"], name)
        size = {key: sizes.get(key, 1) for key in NAMES}
        if kind == "DSCONV":
            groups, filters, channels = size["C"], size["K"] * size["C"], size["C"]
        else:
            groups = size["G"]
            filters, channels = groups * size["K"], groups * size["C"]
        if size["R"] > size["Y"] or size["S"] > size["X"]:
            raise self._fail(f"the kernel of layer {name!r} is larger than its input")
        return Layer(
            name,
            n=size["N"],
            k=filters,
            c=channels,
            y=(size["Y"] - size["R"]) // stride["Y"] + 1,
            x=(size["X"] - size["S"]) // stride["X"] + 1,
            r=size["R"],
            s=size["S"],
            stride=(stride["Y"], stride["X"]),
            groups=groups,
        )

    def _directive(self) -> Directive | Size:
        word = self._word()
        self._take("(")
        if word == "Cluster":
            units = self._size()
            self._take(",")
            self._take("P")
            self._close()
            return units
        if word not in ("TemporalMap", "SpatialMap"):
            raise self._fail(f"{word!r} is no directive; known: TemporalMap, SpatialMap, Cluster")
        size = self._size()
        self._take(",")
        offset = self._size()
        self._take(")")
        dim = self._word()
        if dim not in NAMES:
            raise self._fail(f"dimension {dim!r} is unknown; known: {', '.join(NAMES)}")
        self._take(";")
        return Directive(word == "SpatialMap", size, offset, dim)

    def _close(self) -> None:
        self._take(")")
        self._take(";")

    def _size(self) -> Size:
        if self._optional("Sz"):
            self._take("(")
            dim = self._word()
            self._take(")")
            return dim
        return self._integer()

    def _sizes(self) -> dict[str, int]:
        def pair() -> tuple[str, int]:
            key = self._word()
            self._optional(":")
            value = self._integer()
            self._optional(",")
            return key, value

        return dict(self._block(pair))

    def _block(self, entry: Callable[[], T]) -> Iterator[T]:
        self._take("{")
        while not self._optional("}"):
            yield entry()

    def _integer(self) -> int:
        token = self._word()
        if token in self._constants:
            return self._constants[token]
        if not token.isdigit():
            raise self._fail(f"{token!r} is neither a number nor a constant")
        return int(token)

    def _word(self) -> str:
        if self._next >= len(self._tokens):
            raise self._fail("the file ends too early")
        self._next += 1
        return self._tokens[self._next - 1][0]

    def _optional(self, token: str) -> bool:
        found = self._next < len(self._tokens) and self._tokens[self._next][0] == token
        self._next += found
        return found

    def _take(self, token: str) -> None:
        if not self._optional(token):
            found = self._tokens[self._next][0] if self._next < len(self._tokens) else "the end"
            self._next += 1
            raise self._fail(f"{token!r} is expected, found {found!r}")

    def _fail(self, text: str) -> ConfigError:
        line = self._tokens[min(self._next, len(self._tokens)) - 1][1] if self._tokens else 1
        return ConfigError(f"{self._name}, line {line}: {text}")


def _renamed(mapping: MaestroMapping, names: dict[str, str]) -> MaestroMapping:
    """The same mapping over dimensions of other names."""
    return replace(
        mapping,
        levels=tuple(
            tuple(replace(directive, dim=names[directive.dim]) for directive in level)
            for level in mapping.levels
        ),
    )
