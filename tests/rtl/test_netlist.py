"""Netlists by hand: evaluation, toggles, energy, memories; no synthesis needed."""

import itertools
from typing import Any

import numpy as np
import pytest

from cofit.core import BuildError, VerificationError
from cofit.rtl import Simulator, default_table, edge_j, energy, read_netlist


def module(
    cells: dict[str, tuple[str, dict[str, list[Any]]]], **ports: list[Any]
) -> dict[str, Any]:
    return {
        "ports": {name: {"bits": bits} for name, bits in ports.items()},
        "cells": {
            name: {"type": kind, "connections": wires, "parameters": {"DEPTH": "100"}}
            for name, (kind, wires) in cells.items()
        },
    }


TRUTH = {
    "INV": lambda a, b, c: not a,
    "BUF": lambda a, b, c: a,
    "NAND2": lambda a, b, c: not (a and b),
    "NOR2": lambda a, b, c: not (a or b),
    "AND2": lambda a, b, c: a and b,
    "OR2": lambda a, b, c: a or b,
    "XOR2": lambda a, b, c: a != b,
    "XNOR2": lambda a, b, c: a == b,
    "AOI21": lambda a, b, c: not ((a and b) or c),
    "OAI21": lambda a, b, c: not ((a or b) and c),
    "MUX2": lambda a, b, c: b if c else a,
}


@pytest.mark.parametrize("kind", TRUTH)
def test_each_cell_computes_its_function(kind: str) -> None:
    """The simulator's and the Liberty file's functions are the same."""
    found = read_netlist(
        module({"g": (kind, {"A": [2], "B": [3], "C": [4], "Y": [5]})}, x=[2, 3, 4], y=[5])
    )
    table = list(itertools.product((0, 1), repeat=3))
    simulator = Simulator(found, len(table))
    simulator.set({"x": np.array(table)})
    y = simulator.finish(0, 5, 1)
    assert y.shape == (0, 1, 8)
    values = np.unpackbits(simulator._nets[found.ports["y"][0]].view(np.uint8), bitorder="little")
    text = default_table().functions[kind].replace("!", " not ").replace("&", " and ")
    text = text.replace("|", " or ").replace("A^B", "A != B")
    for (a, b, c), value in zip(table, values, strict=False):
        assert value == TRUTH[kind](a, b, c)
        assert value == eval(text.strip(), {"A": a, "B": b, "C": c})


def toggling() -> dict[str, Any]:
    """A flip-flop that inverts itself, watched by an XOR with an input."""
    return module(
        {
            "f": ("DFF", {"D": [3], "Q": [2]}),
            "i": ("INV", {"A": [2], "Y": [3]}),
            "x": ("XOR2", {"A": [2], "B": [4], "Y": [5]}),
        },
        x=[4],
        y=[5],
    )


def test_energy_of_a_toggling_flip_flop_in_closed_form() -> None:
    found = read_netlist(toggling())
    assert dict(found.cells()) == {"INV": 1, "XOR2": 1, "DFF": 1}
    assert found.logic_um2() == pytest.approx(0.532 + 1.596 + 4.522)
    assert found.depth == 1
    simulator = Simulator(found, 100)
    simulator.step(4)
    simulator.count()
    simulator.step(50)
    fF = 1e-15
    per_edge = (4.17 + 0.5 * 1.21 * (1.7 + 2.3) + 0.96 + 0.5 * 1.21 * 1.0 + 2.93) * fF
    spent = energy(simulator)
    assert spent.logic_j == pytest.approx(50 * per_edge)
    assert spent.clock_j == pytest.approx(50 * 1.0 * fF * 1.21)
    assert spent.leakage_j == pytest.approx(50 * 2e-9 * (14.4 + 36.2 + 79.1) * 1e-9)
    assert spent.total_j == spent.cells_j and spent.memory_j == {}
    assert edge_j(found, default_table())[:2].tolist() == [0, 0]


def test_toggles_are_counted_per_vector() -> None:
    """Vectors beside the counted ones fill the last word and must not count."""
    found = read_netlist(toggling())
    simulator = Simulator(found, 70)
    simulator.step()
    simulator.count()
    simulator.set({"x": np.arange(70) % 3 == 0})
    simulator.step(1)
    # the flip-flop turned in all vectors before, so the XOR turns where x does not
    turned = (np.arange(70) % 3 != 0).sum()
    assert simulator.toggles[found.ports["y"][0]] == turned


def test_loops_and_unknown_cells_are_refused() -> None:
    with pytest.raises(BuildError, match="loop"):
        read_netlist(module({"i": ("INV", {"A": [2], "Y": [2]})}, y=[2]))
    with pytest.raises(BuildError, match="cell l is a LATCH; known: INV"):
        read_netlist(module({"l": ("LATCH", {"D": [2], "Q": [3]})}, y=[3]))


def ram() -> dict[str, Any]:
    """A memory of four words of two bits, all pins outside."""
    wires = {
        "enable": [2], "write": [3], "address": [4, 5], "in": [6, 7], "out": [8, 9],
    }  # fmt: skip
    return module(
        {"m": ("ram", wires)}, enable=[2], write=[3], address=[4, 5], data=[6, 7], y=[8, 9]
    )


def test_memories_keep_words_per_vector_and_count_accesses() -> None:
    found = read_netlist(ram())
    simulator = Simulator(found, 4)
    simulator.count()
    values = np.arange(4)
    for address in range(4):
        simulator.set({"enable": 1, "write": 1, "address": address, "data": (values + address) % 4})
        simulator.step()
    simulator.set({"write": 0})
    for address in (2, 0):
        simulator.set({"address": address})
        simulator.step()
        bits = simulator._nets[list(found.ports["y"])][:, 0]
        read = [(int(bits[0]) >> v & 1) + 2 * (int(bits[1]) >> v & 1) for v in range(4)]
        assert read == ((values + address) % 4).tolist()
    assert simulator.writes.tolist() == [4] and simulator.reads.tolist() == [2]
    spent = energy(simulator).memory_j["m"]
    assert spent == pytest.approx(6 * default_table().sram_j(8, 2))
    simulator.set({"address": values})
    with pytest.raises(VerificationError, match="vectors disagree"):
        simulator.step()
