"""`cofit list`: what cofit knows by name."""

from __future__ import annotations

from collections.abc import Callable

from rich.console import Group
from rich.table import Table

from cofit.cli.console import console, table
from cofit.cli.reproduce import default_folder
from cofit.core import UnknownNameError, format_quantity
from cofit.data import known_data
from cofit.graphs import known_graphs
from cofit.models import known_models
from cofit.reproductions import known_reproductions, reproduction, state
from cofit.reproductions.harness import SCALES
from cofit.structures import family, known_families
from cofit.targets import CortexM, Modelled, Platform, cpu_name, known_targets, target


def list_command(what: str | None) -> None:
    """Print one list, or all of them.

    Raises:
        UnknownNameError: no such list.
    """
    if what is not None and what not in LISTS:
        raise UnknownNameError("list", what, LISTS)
    out = console()
    for name, make in LISTS.items():
        if what in (None, name):
            if what is None:
                out.print(f"\n{name}")
            out.print(make())


def _targets() -> Table:
    rows = []
    for name in known_targets():
        found = target(name)
        if isinstance(found, Modelled):
            facts = found.facts()
            rows.append((name, f"modelled, {facts['node']}", facts["accelerator"], "–", "–"))
        elif isinstance(found, Platform):
            rows.append((name, "modelled", found.facts()["platform"], "–", "–"))
        elif not isinstance(found, CortexM):
            rows.append((name, "this CPU, measured", cpu_name(), "–", "–"))
        elif ":" in name:
            clock = f"emulated core, {found.board.clock_hz / 1e6:g} MHz"
            flash, ram = (
                format_quantity(n, "bytes")
                for n in (found.board.flash_bytes, found.board.ram_bytes)
            )
            rows.append((name, clock, found.board.source, flash, ram))
        else:
            rows.append((name, f"short for {found.name}", "", "", ""))
    return table(("target", "what", "source", "flash", "RAM"), rows, ("flash", "RAM"))


def _structures() -> Table:
    rows = []
    for name in known_families():
        form = family(name)
        rate = f"{form.least_rate:g}" if form.fixed else f"{form.least_rate:g} or more"
        rows.append((name, rate, form(max(4.0, form.least_rate)).text if not form.fixed else name))
    return table(("family", "rate", "example"), rows)


def _models() -> Table:
    rows = [
        (m.name, "×".join(map(str, m.input_shape)), str(m.classes), m.data or "–", m.description)
        for m in known_models()
    ]
    return table(("model", "input", "outputs", "data", "what"), rows, ("outputs",))


def _data() -> Group:
    here = {True: "yes", False: "no, see COFIT_DATA"}
    rows = [
        (s.name, "×".join(map(str, s.input_shape)), here[s.available()], s.description)
        for s in known_data()
    ]
    sizes = ("nodes", "edges", "features", "classes")
    graphs = [
        (
            graph.name,
            *(f"{getattr(graph, size):,}" for size in sizes),
            here[graph.available()],
            graph.description,
        )
        for graph in known_graphs()
    ]
    return Group(
        table(("data", "input", "here", "what"), rows),
        "",
        table(("graph", *sizes, "here", "what"), graphs, sizes),
    )


def _reproductions() -> Table:
    rows = [
        (name, reproduction(name).title, *(state(default_folder(name, s)) for s in SCALES))
        for name in known_reproductions()
    ]
    return table(("reproduction", "what", *SCALES), rows)


LISTS: dict[str, Callable[[], Table | Group]] = {
    "targets": _targets,
    "structures": _structures,
    "models": _models,
    "data": _data,
    "reproductions": _reproductions,
}
