"""`cofit efficiency`: one network on boards and phones."""

import json
import re

import pytest
from cli_run import Run

NAMES = "zcu102,snapdragon-855"


def test_rows_and_orders_carry_ranges_and_frequencies(cofit: Run) -> None:
    ran = cofit("efficiency", "digits_resnet", "--targets", NAMES, "--draws", "100")
    assert (ran.status, ran.err) == (0, "")
    assert "modelled, not measured" in ran.out.splitlines()[0]
    orders = [line for line in ran.out.splitlines() if " before " in line]
    assert len(orders) == 6  # three neighbours, by energies and by the boards' power
    joined = " ".join(ran.out.split())
    assert len(re.findall(r"before \S+ \S+ in \d+ % of 100 draws", joined)) == 6
    assert "recalled" in ran.out


def test_json_is_whole(cofit: Run) -> None:
    ran = cofit(
        "efficiency", "digits_resnet", "--targets", NAMES, "--precisions", "int8,binary", "--json"
    )
    document = json.loads(ran.out)
    assert document["format"] == "cofit.efficiency" and document["draws"] == 1000
    rows = document["platforms"]
    assert {(row["platform"], row["precision"]) for row in rows} == {
        (name, precision) for name in NAMES.split(",") for precision in ("int8", "binary")
    }
    values = [row["frames_per_j"] for row in rows]
    assert values == sorted(values, reverse=True)
    for row in rows:
        low, high = row["frames_per_j_range"]
        assert low < row["frames_per_j"] < high
        assert row["frames_per_j"] == pytest.approx(1 / row["energy_j"])
    assert document["provenance"]["zcu102"]["recalled"] > 0


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("--targets", ","), "--targets and --precisions need one name each"),
        (("--targets", "zcu103"), "unknown platform 'zcu103' (did you mean 'zcu102'?)"),
        (("--targets", "zcu102", "--precisions", "int5"), "unknown precision 'int5'"),
        (("--targets", "zcu102", "--draws", "0"), "0 draws; give at least 1"),
    ],
)
def test_bad_options(cofit: Run, words: tuple[str, ...], text: str) -> None:
    ran = cofit("efficiency", "digits_resnet", *words)
    assert ran.status == 2 and text in " ".join(ran.err.split())


def test_platforms_are_listed_and_costed_beside_other_targets(cofit: Run) -> None:
    ran = cofit("cost", "digits_resnet", "--targets", "pynq-z1,snapdragon-865,eyeriss", "--json")
    assert (ran.status, ran.err) == (0, "")
    document = json.loads(ran.out)
    rows = {row["target"]: row for row in document["targets"]}
    assert {row["basis"] for row in rows.values()} == {"modelled"}
    assert rows["pynq-z1"]["macs"] == rows["eyeriss"]["macs"] > 0
    assert any(note.startswith("pynq-z1: recalled: ") for note in document["notes"])
    listed = cofit("list", "targets").out
    assert "snapdragon-855" in listed and "zc706" in listed
