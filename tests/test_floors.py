"""Every room imports only rooms on lower floors."""

import ast
from pathlib import Path

import pytest

import cofit

FLOORS = {
    "core": 0,
    "ir": 1,
    "structures": 2, "models": 2, "data": 2,
    "codegen": 3,
    "targets": 4, "dynamo": 4,
    "rtl": 4,  # its netlist simulator is C, built by codegen
    "regimes": 5,
    "search": 6, "graphs": 6, "federated": 6, "robustness": 6, "media": 6,
    "fit": 7,
    "reproductions": 8,
    "report": 9,
    "cli": 10,  # the architecture puts it beside report; it calls report, never the reverse
}  # fmt: skip
ROOT = Path(cofit.__file__).parent
FILES = sorted(path for path in ROOT.rglob("*.py") if path.parent != ROOT)


def imported_rooms(source: str, package: list[str]) -> set[str]:
    """Rooms of cofit that a file of `package` (for example ["cofit", "ir"]) imports."""
    modules: list[list[str]] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            modules += [alias.name.split(".") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            base = base + (node.module.split(".") if node.module else [])
            modules += [[*base, alias.name] for alias in node.names]
    return {parts[1] for parts in modules if parts[0] == "cofit" and len(parts) > 1}


def violations(source: str, package: list[str]) -> set[str]:
    room = package[1]
    return {
        other
        for other in imported_rooms(source, package)
        if other != room and other in FLOORS and FLOORS[other] >= FLOORS[room]
    }


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_room_imports_only_lower_rooms(path: Path) -> None:
    package = ["cofit", *path.relative_to(ROOT).parts[:-1]]
    assert package[1] in FLOORS, f"room {package[1]!r} has no floor; give it one"
    assert violations(path.read_text(), package) == set()


def test_every_room_is_found() -> None:
    assert {path.relative_to(ROOT).parts[0] for path in FILES} >= {"core", "ir", "cli"}


@pytest.mark.parametrize(
    ("source", "room", "found"),
    [
        ("import cofit.targets.contract", "ir", {"targets"}),
        ("from cofit import structures", "data", {"structures"}),
        ("from cofit.data.load import x", "models", {"data"}),
        ("from ..fit import plan", "regimes", {"fit"}),
        ("def f():\n    from cofit.cli import main", "fit", {"cli"}),
        (
            "from cofit.core import Cost\nfrom . import x\nfrom .y import z\nimport torch",
            "ir",
            set(),
        ),
    ],
)
def test_violations_are_seen(source: str, room: str, found: set[str]) -> None:
    assert violations(source, ["cofit", room]) == found
