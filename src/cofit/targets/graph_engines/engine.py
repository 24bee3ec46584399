"""What an accelerator for graph aggregation is made of, from files with sources."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cofit.core import UnknownNameError
from cofit.core.quantities import HardwareFile

_TOP: dict[str, type] = {
    "name": str, "about": str, "source": dict, "engine": dict, "locator": dict,
}  # fmt: skip
_ENGINE = {
    "processing_elements": "count", "clock": "clock", "bandwidth": "rate", "buffer": "bytes",
}  # fmt: skip
_LOCATOR = {"detectors": "count", "searches": "count", "edges": "count"}


@dataclass(frozen=True)
class Locator:
    """The unit that finds islands while others aggregate.

    Attributes:
        detectors: nodes whose degree is compared in a cycle.
        searches: breadth-first engines.
        edges_per_cycle: that one of them visits.
    """

    detectors: float
    searches: float
    edges_per_cycle: float


@dataclass(frozen=True)
class GraphEngine:
    """An accelerator; a processing element adds one number in a cycle.

    Attributes:
        name: of the file.
        processing_elements: of all branches together.
        clock_hz: cycles per second.
        bandwidth_bytes_per_s: of the memory outside.
        buffer_bytes: for feature rows.
        locator: None where there is none.
        facts: what a report says of where the numbers come from.
    """

    name: str
    processing_elements: int
    clock_hz: float
    bandwidth_bytes_per_s: float
    buffer_bytes: int
    locator: Locator | None = None
    facts: Mapping[str, str] = field(default_factory=dict)

    @property
    def bytes_per_cycle(self) -> float:
        """Of the memory outside."""
        return self.bandwidth_bytes_per_s / self.clock_hz

    def lines(self, row_bytes: int) -> int:
        """Rows that the buffer holds."""
        return self.buffer_bytes // row_bytes


def graph_engines() -> tuple[str, ...]:
    """Names of the engines that come with cofit."""
    return tuple(sorted(path.stem for path in Path(__file__).parent.glob("*.toml")))


@functools.cache
def graph_engine(name: str) -> GraphEngine:
    """An engine that comes with cofit.

    Raises:
        UnknownNameError: there is none of that name.
    """
    if name not in graph_engines():
        raise UnknownNameError("graph engine", name, graph_engines())
    return read_graph_engine(Path(__file__).with_name(f"{name}.toml"))


def read_graph_engine(path: Path) -> GraphEngine:
    """An engine from a file.

    Raises:
        FileError: the file cannot be read.
        ConfigError: a key is unknown or absent, or a number lacks unit or source or is zero.
    """
    file = HardwareFile(path, "graph engine", _TOP, ("name", "about", "source", "engine"))
    top = file.document
    engine = file.numbers(top["engine"], "engine", _ENGINE)
    locator = None
    if "locator" in top:
        found = file.numbers(top["locator"], "locator", _LOCATOR)
        _positive(file, "locator", found)
        locator = Locator(found["detectors"], found["searches"], found["edges"])
    _positive(file, "engine", engine)
    return GraphEngine(
        name=top["name"],
        processing_elements=int(engine["processing_elements"]),
        clock_hz=engine["clock"],
        bandwidth_bytes_per_s=engine["bandwidth"],
        buffer_bytes=int(engine["buffer"]),
        locator=locator,
        facts={"engine": top["about"], **file.facts()},
    )


def _positive(file: HardwareFile, where: str, numbers: Mapping[str, float]) -> None:
    for key, value in numbers.items():
        if value <= 0:
            raise file.fail(f"{where}.{key} is 0; it must be above")
