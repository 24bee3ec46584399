"""BNN-DM in hardware: integer model, Verilog, mapped netlist; the checks 1, 5 and 6 on bits."""

from pathlib import Path

import numpy as np
import pytest

from cofit.core import BuildError, ConfigError, MissingDependencyError
from cofit.reproductions import reproduce
from cofit.rtl import (
    Engine,
    Layer,
    Netlist,
    Simulator,
    VerilogSimulator,
    compute,
    drawn,
    energy,
    load,
    reset,
    source,
    sums,
    synthesise,
    yosys,
)

try:
    yosys()
except MissingDependencyError as missing:
    pytest.skip(str(missing), allow_module_level=True)

DESIGNS = {
    "standard": Engine(False, lanes=2, columns=12, rows=6, voters=4),
    "standard exact": Engine(False, lanes=2, columns=12, rows=6, voters=4, exact=True),
    "memorised": Engine(True, lanes=2, columns=12, rows=6, voters=4),
    "memorised, beta of 8 bits": Engine(
        True, lanes=2, columns=12, rows=6, voters=4, drop=7, block=2, fraction=5
    ),
}


def netlist(engine: Engine) -> Netlist:
    return synthesise(engine.verilog(ram=False), source("ram"), "layer")


def layer(vectors: int, rows: int, columns: int, voters: int) -> Layer:
    """Random operands; the first vectors hold the extremes, which would show an overflow."""
    draw = np.random.default_rng(0)
    mu = draw.integers(-128, 128, (vectors, rows, columns)).astype(np.int8)
    sigma = draw.integers(0, 128, (vectors, rows, columns)).astype(np.int8)
    x = draw.integers(-128, 128, (vectors, columns)).astype(np.int8)
    for vector, (m, value) in enumerate([(-128, -128), (127, -128), (-128, 127), (127, 127)]):
        mu[vector], sigma[vector], x[vector] = m, 127, value
    return Layer(mu, sigma, x, voters)


def run(design: Netlist, engine: Engine, operands: Layer) -> tuple[np.ndarray, Simulator]:
    simulator = Simulator(design, len(operands.x))
    reset(simulator)
    load(simulator, engine, operands)
    simulator.count()
    return compute(simulator, engine, operands), simulator


def expected(engine: Engine, operands: Layer) -> np.ndarray:
    eps = drawn(engine, operands.rows, operands.columns, operands.voters)
    return sums(engine, operands.mu, operands.sigma, operands.x, eps)


@pytest.mark.parametrize("block", [1, 2])
def test_01_fixed_point_flows_agree(block: int) -> None:
    operands = layer(300, 6, 12, 4)
    size = {"lanes": 2, "columns": 12, "rows": 6, "voters": 4, "block": block}
    exact = Engine(False, exact=True, **size)
    memorised, rounded = Engine(True, **size), Engine(False, **size)
    assert exact.unit == memorised.unit == 2**-6 and rounded.unit == 1
    whole = expected(memorised, operands)
    assert (expected(exact, operands) == whole).all()
    # a floor shift drops less than a unit per weight: N max|x| units in all
    gap = np.abs(expected(rounded, operands) - whole * memorised.unit)
    bound = operands.columns * np.abs(operands.x.astype(int)).max(axis=1)[:, None, None]
    assert (gap <= bound).all() and gap.max() > 0.4 * bound.max()


@pytest.mark.parametrize("name", DESIGNS)
def test_05_netlist_verilog_and_model_agree_on_1000_vectors(name: str) -> None:
    """Ragged sizes: the last row group and the last block are not full."""
    engine = DESIGNS[name]
    operands = layer(1000, 5, 11, 3)
    found, simulator = run(netlist(engine), engine, operands)
    wanted = expected(engine, operands)
    assert wanted.shape == (1000, 3, 5)
    assert (found == wanted).all()
    groups, passes = 3, 3 + 2 * engine.memorise
    assert simulator.busy_cycles == engine.cycles(5, 11, 3) == groups * 11 * passes
    assert simulator.cycles == 1 + simulator.busy_cycles + 3 + 1  # start, latency, the last look

    verilog = VerilogSimulator(engine)
    for vector in range(1000):
        one = Layer(operands.mu[vector], operands.sigma[vector], operands.x[vector : vector + 1], 3)
        assert (verilog.compute(one)[0] == wanted[vector]).all()
    assert verilog.busy_cycles == simulator.busy_cycles


def test_05_random_numbers_go_on_from_layer_to_layer() -> None:
    """Two layers of different sizes in one run, as a network needs."""
    engine = DESIGNS["memorised"]
    first, second = layer(64, 6, 12, 4), layer(64, 3, 7, 2)
    found, simulator = run(netlist(engine), engine, first)
    assert (found == expected(engine, first)).all()
    load(simulator, engine, second)
    draws = 3 * 12 * 4  # per lane, in the first layer
    eps = drawn(engine, 3, 7, 2, skip=draws)
    wanted = sums(engine, second.mu, second.sigma, second.x, eps)
    assert (compute(simulator, engine, second) == wanted).all()
    assert (wanted != expected(engine, second)).any()


def test_06_area_follows_the_source_and_the_netlist_is_what_is_simulated() -> None:
    engine = DESIGNS["standard"]
    whole = netlist(engine)
    text = engine.verilog(ram=False)
    cut = text.replace("scaled = sigma * eps", "scaled = eps")
    assert cut != text
    broken = synthesise(cut, source("ram"), "layer")
    lanes = engine.lanes
    assert whole.logic_um2() - broken.logic_um2() > 250 * lanes  # an 8x8 multiplier each
    operands = layer(64, 5, 11, 3)
    found, simulator = run(broken, engine, operands)
    assert (found != expected(engine, operands)).any()
    _, sound = run(whole, engine, operands)
    assert energy(sound).logic_j > 1.1 * energy(simulator).logic_j


def test_06_memories_are_counted() -> None:
    standard, memorised = (netlist(DESIGNS[name]) for name in ("standard", "memorised"))
    sizes = {ram.name: (ram.width, ram.depth) for ram in memorised.rams}
    assert sizes == {
        "mu_ram": (16, 36), "sigma_ram": (16, 36), "x_ram": (8, 12), "beta_ram": (30, 12),
    }  # fmt: skip
    assert memorised.memory_um2() - standard.memory_um2() == pytest.approx(30 * 12 * 2 * 0.346)
    operands = layer(64, 6, 12, 4)
    reads = {}
    for name in ("standard", "memorised"):
        _, simulator = run(netlist(DESIGNS[name]), DESIGNS[name], operands)
        reads[name] = dict(
            zip([ram.name for ram in simulator.netlist.rams], simulator.reads, strict=True)
        )
    size, voters = 3 * 12, 4
    assert reads["standard"] == {
        "mu_ram": size * voters, "sigma_ram": size * voters, "x_ram": size * voters
    }  # fmt: skip
    assert reads["memorised"] == {
        "mu_ram": size, "sigma_ram": size, "x_ram": 2 * size, "beta_ram": size * voters
    }  # fmt: skip


def pe(kind: str, parameters: str, ports: str) -> Netlist:
    """A processing element alone."""
    names = ", ".join(f".{port.split()[-1]}({port.split()[-1]})" for port in ports.split(", "))
    top = f"module top ({ports});\n    pe_{kind} #({parameters}) pe ({names});\nendmodule\n"
    return synthesise(source(f"pe_{kind}") + top, "", "top")


def test_06_processing_elements_have_the_known_size() -> None:
    """Against other synthesis of the same arithmetic (Nangate 45 nm): 1736, 1281 and 1110 um2.

    Ours have a register between two multiplications (standard) and after the one (memorised), which
    those did not; the flip-flops of these are taken off.
    """
    operands = (
        "input clk, input signed [7:0] mu, input signed [7:0] sigma, input signed [7:0] x, "
        "input signed [7:0] eps, input adds, input begins"
    )
    flop = 4.522
    base = pe("base", ".ACC(28)", f"{operands}, output signed [27:0] sum")
    assert base.logic_um2() - 18 * flop == pytest.approx(1736, rel=0.2)
    areas = []
    for drop in (0, 7):
        width = 15 - drop
        ports = (
            f"{operands}, input signed [{width - 1}:0] beta, input makes_beta, input makes_eta, "
            f"input of_eta, input ends, input row, output signed [{width - 1}:0] made, "
            "output signed [27:0] sum"
        )
        found = pe("dm", f".DROP({drop}), .BETA({width}), .ETA(22)", ports)
        areas.append(found.logic_um2() - (width + 8) * flop)
    assert areas[0] == pytest.approx(1281, rel=0.25)
    assert areas[1] == pytest.approx(1110, rel=0.25)
    assert base.logic_um2() > areas[0] > areas[1]


def test_bad_designs_and_layers_are_refused() -> None:
    for bad, text in (
        ({"lanes": 0}, "lanes is 0"), ({"columns": 1}, "columns is 1"), ({"fraction": 4}, "5 or 6"),
        ({"drop": 8}, "0 to 7"), ({"exact": True}, "standard flow"),
    ):  # fmt: skip
        with pytest.raises(ConfigError, match=text):
            Engine(True, **bad)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="memorised flow"):
        Engine(False, drop=1)
    good = layer(8, 5, 11, 3)
    with pytest.raises(ConfigError, match="sigma has -128"):
        Layer(good.mu, good.mu, good.x, 3)
    with pytest.raises(ConfigError, match="voters is 0"):
        Layer(good.mu, good.sigma, good.x, 0)
    with pytest.raises(ConfigError, match="int8"):
        Layer(good.mu.astype(np.int16), good.sigma, good.x, 3)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="has 11 columns"):
        good.check_fits(Engine(True, columns=8))
    with pytest.raises(BuildError, match="Yosys refused the design"):
        synthesise("module layer (input a\n", "", "layer")


def test_smoke_scale_runs_and_resumes(tmp_path: Path) -> None:
    first = reproduce("bnn-dm", "smoke", tmp_path, lambda *_: None)
    assert all(np.isfinite(claim.measured.values).all() for claim in first.claims)
    by_text = {claim.claim: claim for claim in first.claims}
    assert next(c for text, c in by_text.items() if "differ from the integer" in text).holds
    assert next(
        c for text, c in by_text.items() if "one layer that memorising saves, 20" in text
    ).holds
    # one layer cannot reach the published 4x, whatever the scale
    assert not next(
        c for text, c in by_text.items() if text.startswith("cycles of one layer")
    ).holds
    (tmp_path / "finding.json").unlink()
    steps = {p: p.stat().st_mtime_ns for p in (tmp_path / "steps").iterdir()}
    again = reproduce("bnn-dm", "smoke", tmp_path, lambda *_: None)
    assert again.claims == first.claims
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "steps").iterdir()} == steps
