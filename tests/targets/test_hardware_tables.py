"""Every table of hardware that comes with cofit: units, sources, nodes, and what its reader says.

Wrong files of each kind have tests of their own; here every shipped file is broken in the same
four ways, so that no reader may skip what `HardwareFile` checks.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import cofit
from cofit.core import ConfigError
from cofit.core.quantities import KINDS
from cofit.rtl import read_table
from cofit.targets.arrays.presets import read_converters
from cofit.targets.arrays.tables import read_chip
from cofit.targets.dataflow import read_accelerator, read_energies
from cofit.targets.datapath.energy import read_datapath
from cofit.targets.graph_engines import read_graph_engine
from cofit.targets.heterogeneous.chip import read_chips
from cofit.targets.links import read_link_device
from cofit.targets.memory import read_memory
from cofit.targets.platforms.tables import read_parameters

ROOT = Path(cofit.__file__).parent
READERS: dict[str, Callable[[Path], object]] = {
    "rtl": read_table,
    "targets/arrays": read_converters,
    "targets/arrays/presets": read_chip,
    "targets/dataflow": read_energies,
    "targets/dataflow/presets": read_accelerator,
    "targets/datapath": read_datapath,
    "targets/graph_engines": read_graph_engine,
    "targets/heterogeneous": read_chips,
    "targets/links": read_link_device,
    "targets/memory": read_memory,
    "targets/platforms/presets": read_parameters,
}
FILES = sorted([*(ROOT / "targets").rglob("*.toml"), *(ROOT / "rtl").rglob("*.toml")])
PLAIN = ("node_nm", "level")
"""Integers that measure nothing, or are the node itself."""


def reader_of(path: Path) -> Callable[[Path], object]:
    return READERS[path.parent.relative_to(ROOT).as_posix()]


def numbers(entry: Any, where: str = "") -> Iterator[tuple[str, Any]]:
    """(place, what stands there) of every number, a stated one with its unit and source."""
    if isinstance(entry, dict):
        if "value" in entry:
            yield where, entry
            return
        for key, value in entry.items():
            if key not in PLAIN:
                yield from numbers(value, f"{where}.{key}")
    elif isinstance(entry, list):
        for index, value in enumerate(entry):
            yield from numbers(value, f"{where}[{index}]")
    elif isinstance(entry, int | float) and not isinstance(entry, bool):
        yield where, entry


def test_every_file_has_a_reader() -> None:
    assert {path.parent.relative_to(ROOT).as_posix() for path in FILES} == set(READERS)
    assert len(FILES) > 20


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_number_has_unit_and_source(path: Path) -> None:
    document = tomllib.loads(path.read_text(encoding="utf-8"))
    sources, used = document["source"], set()
    for where, entry in numbers(document):
        if isinstance(entry, dict):
            assert set(entry) == {"value", "unit", "source"}, where
            used.add(entry["source"])
        else:  # cells share one source and the units of their columns
            quantity = where.rpartition(".")[2]
            assert where.startswith(".cells.") and quantity in document["cells"]["units"], where
            used.add(document["cells"]["source"])
    assert used == set(sources), "a source that no number names, or the other way round"
    assert all(source["kind"] in KINDS and source["text"] for source in sources.values())


def moved(text: str) -> str:
    """The file with all of its sources at another node."""
    lines, inside = [], False
    for line in text.splitlines():
        if line.startswith("["):
            inside = line.startswith("[source.")
        if not (inside and line.startswith("node_nm")):
            lines.append(line)
        if inside and line.startswith("["):
            lines.append("node_nm = 7")
    return "\n".join(lines)


BREAKS: dict[str, Callable[[str], str]] = {
    "unknown key surprise": lambda text: text.replace("[source.", "[surprise]\n\n[source.", 1),
    ".unit is missing; add it": lambda text: re.sub(r'unit = "[^"]*", ', "", text, count=1),
    ".source is missing; add it": lambda text: re.sub(r', source = "[^"]*" }', " }", text, count=1),
    " at 7 nm, the ": moved,
}


@pytest.mark.parametrize("said", BREAKS)
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_each_reader_names_what_is_wrong(path: Path, said: str, tmp_path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    if said.startswith(" at") and not re.search(r'unit = "(.*J.*|[mn]?W|.m2|fF)"', text):
        assert path.stem in ("ddc", "gcod", "i-gcn")
        return  # no energy, power or area, which are what a node matters to
    broken = tmp_path / "mine.toml"
    broken.write_text(BREAKS[said](text), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"^mine\.toml: ") as caught:
        reader_of(path)(broken)
    assert said in str(caught.value) and "\n" not in str(caught.value)
