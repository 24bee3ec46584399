"""Graph engines: files with sources, and cycles by closed forms."""

from pathlib import Path

import numpy as np
import pytest

from cofit.core import ConfigError, TargetError, UnknownNameError
from cofit.targets.graph_engines import (
    Work,
    balance,
    branch_cycles,
    dealt,
    graph_engine,
    graph_engines,
    island_cycles,
    read_graph_engine,
    single_cycles,
)


def test_engines_come_with_numbers_and_sources() -> None:
    assert graph_engines() == ("gcod", "i-gcn")
    for name in graph_engines():
        engine = graph_engine(name)
        assert engine.processing_elements == 4096 and engine.clock_hz == 330e6
        assert {"engine", "recalled", "chosen"} <= set(engine.facts)
    gcod = graph_engine("gcod")
    assert gcod.bytes_per_cycle == pytest.approx(460e9 / 330e6)
    assert gcod.lines(64) == 8 * 2**20 // 64
    with pytest.raises(UnknownNameError, match="gcod, i-gcn"):
        graph_engine("awb")


def test_files_without_unit_or_with_zero_are_refused(tmp_path: Path) -> None:
    folder = Path(__file__).parents[2] / "src/cofit/targets/graph_engines"
    text = (folder / "gcod.toml").read_text(encoding="utf-8")
    broken = tmp_path / "x.toml"
    broken.write_text(text.replace('value = 4096, unit = "units",', "value = 4096,"))
    with pytest.raises(ConfigError, match=r"engine\.processing_elements\.unit is missing"):
        read_graph_engine(broken)
    broken.write_text(text.replace("value = 460", "value = 0"))
    with pytest.raises(ConfigError, match=r"engine\.bandwidth is 0"):
        read_graph_engine(broken)


def test_a_single_engine_takes_the_longer_of_adding_and_loading() -> None:
    engine = graph_engine("gcod")
    found = single_cycles(Work(40_960, 100, 0.5), engine)
    assert found.total == found.compute == 20
    found = single_cycles(Work(4096, engine.bytes_per_cycle * 7), engine)
    assert found.total == found.memory == pytest.approx(7)


def test_islands_wait_one_by_one() -> None:
    engine = graph_engine("i-gcn")
    line = engine.bytes_per_cycle
    found = island_cycles([4096 * 3, 4096], [line, 5 * line], 640, 128, engine)
    assert found.compute == pytest.approx(3 + 5) and found.memory == pytest.approx(6)
    assert found.hidden == pytest.approx(640 / 64 + 128 / 64) == found.total
    with pytest.raises(TargetError, match="'gcod' has no locator"):
        island_cycles([1], [1], 1, 1, graph_engine("gcod"))


def test_branches_share_in_proportion_and_the_slowest_decides() -> None:
    engine = graph_engine("gcod")
    work = [Work(3 * 4096, 0, 0.5), Work(4096, 0)]
    slow, fast = branch_cycles(work, engine)
    assert (slow.elements, fast.elements) == (3072, 1024)
    assert slow.compute == 8 and fast.compute == 4  # 4 cycles of work for all, half of it idle
    even = branch_cycles([Work(100, 50), Work(300, 10)], engine)
    assert even[0].memory == even[1].memory == pytest.approx(60 / engine.bytes_per_cycle)
    with pytest.raises(ConfigError, match="at least one that adds"):
        branch_cycles([Work(0, 5)], engine)


def test_balance_and_dealing() -> None:
    assert balance([4, 4, 4]) == 1 and balance([1, 3]) == pytest.approx(2 / 3)
    assert balance([]) == balance([0, 0]) == 1
    assert dealt([5, 1, 1, 1], 2) == pytest.approx(4 / 6)
    assert dealt(np.ones(64), 8) == 1
    for bad in (Work, lambda *_: Work(1, 1, 0)):
        with pytest.raises(ConfigError, match="not below 0"):
            bad(-1, 0)
