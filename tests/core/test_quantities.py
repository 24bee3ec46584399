"""Hardware files: numbers in the units that code counts in, and errors that name the key."""

from __future__ import annotations

from pathlib import Path

import pytest

from cofit.core import ConfigError, FileError
from cofit.core.quantities import KINDS, SCALES, HardwareFile

TOP: dict[str, type] = {"node_nm": int, "source": dict, "part": dict}
KNOWN = {"read": "energy per bit", "size": "capacity", "pin": "capacitance", "rate": "clock"}
GOOD = """
node_nm = 45

[source.book]
kind = "published"
text = "a book"

[source.us]
kind = "chosen"
text = "no better number"

[part]
read = { value = 32, unit = "pJ/64 bit", source = "book" }
size = { value = 2, unit = "KiB", source = "us" }
pin = { value = 1.5, unit = "fF", source = "book" }
rate = { value = 0.5, unit = "GHz", source = "us" }
"""


def read(path: Path, text: str) -> tuple[HardwareFile, dict[str, float]]:
    path.write_text(text, encoding="utf-8")
    sheet = HardwareFile(path, "thing", TOP, TOP)
    return sheet, sheet.numbers(sheet.document["part"], "part", KNOWN)


def test_numbers_and_where_they_come_from(tmp_path: Path) -> None:
    sheet, numbers = read(tmp_path / "a.toml", GOOD)
    assert numbers == pytest.approx(
        {"read": 0.5, "size": 2 * 1024 * 8, "pin": 1.5e-15, "rate": 5e8}
    )
    assert sheet.facts() == {
        "published": "part.read, part.pin: a book",
        "chosen": "part.size, part.rate: no better number",
    }
    assert set(sheet.facts()) <= set(KINDS) and "capacitance" in SCALES


def test_rows_of_a_table_are_named_by_the_first_and_the_last(tmp_path: Path) -> None:
    rows = "\n".join(f'{i} = {{ value = {i}, unit = "pJ", source = "book" }}' for i in range(1, 12))
    path = tmp_path / "a.toml"
    path.write_text(GOOD.replace("[part]", f"[row]\n{rows}\n\n[part]"), encoding="utf-8")
    sheet = HardwareFile(path, "thing", {**TOP, "row": dict}, TOP)
    sheet.numbers(sheet.document["row"], "row", {str(i): "energy" for i in range(1, 12)})
    sheet.numbers(sheet.document["part"], "part", KNOWN)
    assert sheet.facts()["published"] == "row.1 to 11, part.read, part.pin: a book"


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ("[part]", "[part]\nwidth = 1", "unknown key part.width; known: pin, rate, read, size"),
        ("node_nm = 45", "nodes = 45", "unknown key nodes"),
        ("pin = {", "# {", "part.pin is missing; add it"),
        (' unit = "fF",', "", "part.pin.unit is missing; add it"),
        (', source = "us" }\npin', " }\npin", "part.size.source is missing; add it"),
        ('unit = "fF"', 'unit = "F"', "part.pin.unit is 'F'; known: fF"),
        ('unit = "pJ/64 bit"', 'unit = "pJ"', "known: pJ/bit, pJ/16 bit and so on"),
        ('source = "us" }\npin', 'source = "them" }\npin', "source is 'them'; known: book, us"),
        ("value = 1.5", "value = true", "part.pin.value is True; it must be a number"),
        ("value = 1.5", "value = -1", "it must be a number, not negative"),
        ('{ value = 1.5, unit = "fF", source = "book" }', "1.5", "part.pin is 1.5; write { value"),
        ('text = "a book"', 'text = "a book"\nnode_nm = 65',
         "part.read comes from 'book' at 65 nm, the thing is at 45 nm; scale it"),
        ('kind = "published"', 'kind = "guessed"', "source.book.kind is 'guessed'; known"),
        ('text = "a book"', "text = 1", "source.book.text is 1; it must be a str"),
        ("node_nm = 45", 'node_nm = "45"', "node_nm is '45'; it must be a int"),
        ("[part]", "[part", "is not TOML"),
    ],
)  # fmt: skip
def test_bad_files_name_the_key(old: str, new: str, text: str, tmp_path: Path) -> None:
    assert old in GOOD
    with pytest.raises(ConfigError, match=r"^bad\.toml") as caught:
        read(tmp_path / "bad.toml", GOOD.replace(old, new, 1))
    assert text in str(caught.value) and "\n" not in str(caught.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="cannot read the thing"):
        HardwareFile(tmp_path / "none.toml", "thing", TOP, TOP)
