"""Limits of the machine: measured, kept, and of a core as its cycle model states them."""

import json
from itertools import pairwise

import numpy as np
import pytest

from cofit.codegen.cortex_m import board
from cofit.core import Basis
from cofit.targets import Ceilings, cortex_m_ceilings, host_ceilings
from cofit.targets import ceilings as module
from cofit.targets.ceilings import Level, Probe, Rate, cache_bytes


@pytest.fixture(scope="module")
def measured() -> Ceilings:
    return module.measure_ceilings()


def test_limits_are_positive_and_nearer_levels_are_not_slower(measured: Ceilings) -> None:
    assert measured.basis is Basis.MEASURED
    assert [level.name for level in measured.levels] == [*cache_bytes(), "DRAM"]
    rates = [level.read.per_s for level in measured.levels]
    # generous: the machine may be shared, and a level is never really faster than one nearer by
    assert all(near > 0.5 * far > 0 for near, far in pairwise(rates))
    assert rates[0] > 1e9  # no loop that reads a byte at a time
    for rate in measured.macs.values():
        assert rate.per_s > 1e8 and rate.spread >= 0
    assert 0 < measured.step_s < 1e-4


def test_work_is_done_as_often_as_asked() -> None:
    """A loop that a compiler removed would take no longer for more work."""
    library = Probe()._library
    for name, count in (("float32", 200_000), ("int8", 200_000), ("step", 20_000)):
        function = getattr(library, f"ceiling_{name}")
        once = min(function(count) for _ in range(7))
        assert min(function(50 * count) for _ in range(3)) > 10 * once > 0, name
    block = np.ones(1 << 14, np.uint8)
    once = min(library.ceiling_read(block.ctypes.data, block.size, 1000) for _ in range(7))
    often = min(library.ceiling_read(block.ctypes.data, block.size, 50_000) for _ in range(3))
    assert often > 10 * once > 0


def test_they_are_measured_once_and_kept(
    measured: Ceilings, tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "cache_dir", lambda: tmp_path)
    calls: list[int] = []

    def measure() -> Ceilings:
        calls.append(1)
        return measured

    monkeypatch.setattr(module, "measure_ceilings", measure)
    assert host_ceilings() == measured
    assert host_ceilings() == measured
    assert len(calls) == 1
    (stored,) = tmp_path.rglob("*.json")
    document = json.loads(stored.read_text())
    assert document["macs"]["float32"]["spread"] == measured.macs["float32"].spread
    stored.write_text('{"of": "another version"}')
    assert host_ceilings() == measured
    assert len(calls) == 2


def test_a_core_does_two_products_and_a_word_per_cycle() -> None:
    m4 = cortex_m_ceilings(board("stm32f446"))
    clock = board("stm32f446").clock_hz
    assert m4.basis is Basis.MODELLED
    assert m4.macs["int8"].per_s == 2 * clock
    assert m4.levels[0].read.per_s == 4 * clock
    assert not m4.overlap
    assert cortex_m_ceilings(board("stm32f746")).overlap


def test_a_cache_keeps_what_it_holds_and_no_more() -> None:
    sizes = {"L1": 100, "L2": 1000, "DRAM": None}
    levels = tuple(Level(name, size, Rate(1.0)) for name, size in sizes.items())
    found = Ceilings(Basis.MEASURED, "", {"float32": Rate(1.0)}, "", levels, 0.0, True)
    assert found.shares(0) == found.shares(1) == found.shares(100) == {"L1": 1.0}
    assert found.shares(1000) == {"L1": 0.1, "L2": 0.9}
    assert found.shares(2000) == {"L1": 0.05, "L2": 0.45, "DRAM": 0.5}


def test_working_sets_lie_between_levels() -> None:
    caches = {"L1": 32 << 10, "L2": 512 << 10, "L3": 32 << 20}
    sets = module._working_sets(caches)
    assert list(sets) == ["L1", "L2", "L3", "DRAM"]
    assert sets["L1"] < 32 << 10 < sets["L2"] < 512 << 10 < sets["L3"] < 32 << 20 < sets["DRAM"]
    huge = module._working_sets({"L1": 48 << 10, "L2": 2 << 20, "L3": 512 << 20})
    assert huge["DRAM"] == module.DRAM_BYTES
