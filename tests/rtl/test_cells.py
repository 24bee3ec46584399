"""The table of cells: what it holds, and what it refuses."""

from pathlib import Path

import pytest

from cofit.core import ConfigError, FileError
from cofit.rtl import default_table, read_table

TEXT = (Path(__file__).parents[2] / "src/cofit/rtl/cells.toml").read_text(encoding="utf-8")


def test_the_default_table_in_si_units() -> None:
    table = default_table()
    assert table.node_nm == 45 and table.voltage_v == 1.1 and table.clock_hz == 5e8
    assert table.cells["NAND2"].area_um2 == 0.798
    assert table.cells["DFF"].energy_j == pytest.approx(4.17e-15)
    # the two published sizes, and half the energy of 8 KiB at a quarter of its size
    assert table.sram_j(8 * 8192, 64) == pytest.approx(10e-12)
    assert table.sram_j(32 * 8192, 64) == pytest.approx(20e-12)
    assert table.sram_j(2 * 8192, 64) == pytest.approx(5e-12)
    assert set(table.sources) == {"library", "horowitz", "bitcell", "choice"}
    assert all(text.split(":")[0] in ("published", "chosen") for text in table.sources.values())


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ("node_nm = 45\n\n[source.library]", "nodes = 45\n\n[source.library]", "unknown key nodes"),
        ('unit = "V", ', "", "supply.voltage.unit is missing"),
        ('unit = "V"', 'unit = "mV"', "supply.voltage.unit is 'mV'; known: V"),
        ('value = 1.1, unit = "V", source = "library"', 'value = 1.1, unit = "V"',
         "supply.voltage.source is missing"),
        ('source = "bitcell"', 'source = "somebody"', "sram.bit_area.source is 'somebody'; known"),
        ('node_nm = 45\ntext = "Mistry', 'node_nm = 28\ntext = "Mistry',
         "sram.bit_area comes from 'bitcell' at 28 nm, the table is at 45 nm"),
        ('node_nm = 45\ntext = "Nangate', 'node_nm = 28\ntext = "Nangate', "at 28 nm, the table"),
        ('kind = "chosen"', 'kind = "guessed"', "is 'guessed'; known: published"),
        ("area = 1.862", "area = -1", "cells.MUX2.area.value is -1; it must be a number"),
        ("area = 1.862", "area = 0", "cells.MUX2.area is 0; it must be above zero"),
        ('area = "um2"', 'area = "acres"', "cells.INV.area.unit is 'acres'; known: um2, mm2"),
        ('leakage = "nW", ', "", "cells.units.leakage is missing"),
        ("[cells.DFF]", "[cells.LATCH]", "unknown key cells.LATCH"),
        ("node_nm = 45", "node_nm = ", "is not TOML"),
    ],
)  # fmt: skip
def test_bad_tables_are_refused(old: str, new: str, text: str, tmp_path: Path) -> None:
    assert old in TEXT
    path = tmp_path / "mine.toml"
    path.write_text(TEXT.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"mine\.toml") as error:
        read_table(path)
    assert text in str(error.value)


def test_an_absent_table_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"absent\.toml"):
        read_table(tmp_path / "absent.toml")
