"""Accelerator files with a unit and a source for every number, and MAESTRO's mapping files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cofit.core import ConfigError, FileError, TargetError
from cofit.targets.dataflow import (
    Layer,
    Layers,
    accelerator,
    energy,
    evaluate,
    known_accelerators,
    nest_from,
    operation_pj,
    parse_dataflow,
    parse_network,
    published_energies,
    read_accelerator,
    read_energies,
    read_maestro,
    resized,
    sram_pj_per_bit,
    tables,
)

PRESET = tables.PRESETS / "nvdla-like.toml"

KCP_WS = """Dataflow {
    // weights stay
    SpatialMap(1,1) K; TemporalMap(64,64) C;
    TemporalMap(Sz(R),Sz(R)) R; TemporalMap(Sz(S),Sz(S)) S;
    TemporalMap(Sz(R),1) Y; TemporalMap(Sz(S),1) X;
    Cluster(64, P);
    SpatialMap(1,1) C;
    TemporalMap(Sz(R),1) Y; TemporalMap(Sz(S),1) X;
    TemporalMap(Sz(R),Sz(R)) R; TemporalMap(Sz(S),Sz(S)) S;
}"""
YKP_OS = """Dataflow {
    TemporalMap(16,16) K; SpatialMap(Sz(R),1) Y; TemporalMap(Sz(S),1) X; TemporalMap(1,1) C;
    Cluster(16, P);
    SpatialMap(1,1) K; TemporalMap(Sz(R),1) Y; TemporalMap(Sz(S),1) X;
    TemporalMap(Sz(R),7) R; TemporalMap(Sz(S),7) S;
}"""
RS = """Dataflow {
    SpatialMap(1,1) Y'; TemporalMap(1,1) X’; TemporalMap(1,1) C; TemporalMap(16,16) K;
    TemporalMap(Sz(R),Sz(R)) R; TemporalMap(Sz(S),Sz(S)) S;
    Cluster(Sz(R),P);
    SpatialMap(1,1) Y; SpatialMap(1,1) R; TemporalMap(Sz(S),Sz(S)) S;
}"""
LATE = Layer("late", k=512, c=512, y=7, x=7)
EARLY = Layer("early", k=32, c=3, y=112, x=112, r=3, s=3, stride=(2, 2))


def test_every_preset_states_node_and_sources() -> None:
    assert set(known_accelerators()) == {"eyeriss", "nvdla-like", "shidiannao", "tpu-like", "edge"}
    for name in known_accelerators():
        hardware = accelerator(name)
        assert hardware.name == name and hardware.node_nm > 0
        assert {"accelerator", "node", "published", "chosen"} <= set(hardware.facts)
        assert "mac_energy" in " ".join(hardware.facts.values())


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ("node_nm = 28", "node_nm = 28\nnodes = 1", "unknown key nodes; known: about, array"),
        ("simd_lanes = {", "lanes = {", "unknown key array.lanes"),
        (
            '{ value = 0.23, unit = "pJ", source',
            "{ value = 0.23, source",
            "array.mac_energy.unit is missing",
        ),
        (', source = "maestro" }\nmac_bits', " }\nmac_bits", "array.mac_energy.source is missing"),
        (
            'source = "maestro" }\nmac_bits',
            'source = "x" }\nmac_bits',
            "source is 'x'; known: cell, dram",
        ),
        (
            'unit = "pJ", source',
            'unit = "J", source',
            "array.mac_energy.unit is 'J'; known: fJ, pJ, nJ",
        ),
        ('"pJ/64 bit"', '"pJ/word"', "unit is 'pJ/word'; known: pJ/bit"),
        ("value = 0.23", 'value = "a"', "array.mac_energy.value is 'a'"),
        ("value = 0.23", "value = -1", "value is -1; it must be a number, not negative"),
        (
            'mac_energy = { value = 0.23, unit = "pJ", source = "maestro" }',
            "mac_energy = 0.23",
            "write { value",
        ),
        (
            'mac_energy = { value = 0.23, unit = "pJ", source = "maestro" }',
            "",
            "array.mac_energy is missing",
        ),
        (
            '(28 nm); its word taken as 8 bits"',
            '"\nnode_nm = 45',
            "comes from 'maestro' at 45 nm, the accelerator is at 28 nm",
        ),
        ('kind = "published"', 'kind = "guessed"', "kind is 'guessed'; known: published"),
        ('stationary = "weight"', 'stationary = "rows"', "unknown dataflow 'rows'"),
        ('tensors = ["weight"]', 'tensors = ["psum"]', "holds unknown tensor 'psum'"),
        ('dims = ["C"]', 'dims = ["Q"]', "axis 1.dims has 'Q'"),
        ('value = 64, unit = "units"', 'value = 0, unit = "units"', "axis 1.size is 0"),
        (
            "read_energy = { value = 4.2803",
            "energy = { value = 4.2803",
            "unknown key memory buffer.energy",
        ),
        ("level = 2", "level = 1", "'buffer' and 'dram' of level 1 both hold the weight"),
        ("level = 0", 'level = "0"', "level is '0'; it must be a int"),
        ('name = "nvdla-like"', 'name = "nvdla-like', "is not TOML"),
    ],
)
def test_bad_files_name_the_key(old: str, new: str, text: str, tmp_path: Path) -> None:
    good = PRESET.read_text()
    assert old in good
    path = tmp_path / "bad.toml"
    path.write_text(good.replace(old, new, 1))
    with pytest.raises(ConfigError) as caught:
        read_accelerator(path)
    assert text in str(caught.value) and "bad.toml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="cannot read the accelerator"):
        read_accelerator(tmp_path / "none.toml")


@pytest.mark.parametrize(
    ("dataflow", "layer", "units", "steps"),
    [
        (KCP_WS, LATE, 256, 50176),
        (KCP_WS, LATE, 128, 100352),
        (KCP_WS, EARLY, 256, 903168),
        (KCP_WS, EARLY, 128, 1806336),
        (YKP_OS, LATE, 256, 114688),
        (YKP_OS, LATE, 128, 114688),
        (YKP_OS, EARLY, 256, 42336),
        (YKP_OS, EARLY, 128, 84672),
        (RS, Layer(k=32, c=4, y=14, x=14, r=3, s=3), 42, 2 * 16 * 4 * 14 * 3),
    ],
)
def test_steps_of_maestro_dataflows(dataflow: str, layer: Layer, units: int, steps: int) -> None:
    """The worked example of HERALD: two layers, two dataflows, two sizes of array."""
    nest = nest_from(parse_dataflow(dataflow), layer, units)
    assert nest.steps[0] == steps
    assert nest.units[0] <= units


def test_what_stays_is_moved_once() -> None:
    """Under kcp_ws every weight enters a unit once, under ykp_os every output leaves one once."""
    layer = Layer(k=32, c=128, y=14, x=14, r=3, s=3)
    columns, size = Layers.of([layer]), layer.elements
    weights = evaluate(
        columns, nest_from(parse_dataflow(KCP_WS), layer, 256), accelerator("nvdla-like")
    )
    assert weights.reads["buffer", "weight"][0] == size["weight"]
    assert weights.writes["sums", "output"][0] > size["output"]
    outputs = evaluate(
        columns, nest_from(parse_dataflow(YKP_OS), layer, 256), accelerator("shidiannao")
    )
    assert outputs.writes["buffer_output", "output"][0] == size["output"]
    assert outputs.reads["buffer_weight", "weight"][0] > size["weight"]


NETWORK = """Constant Rows 10; /* two layers */
Network two {
    Layer DW { Type: DSCONV Stride { X: 2, Y: 2 } Dimensions { K 1,C 32, R: 3 S: 3, Y:112, X:112 } }
    Layer MM { Type: GEMM
        Dimensions { K: 5, M: Rows, N: 7 }
        Dataflow { TemporalMap(1,1) N; SpatialMap(1,1) M; TemporalMap(5,5) K; Cluster(5, P);
                   TemporalMap(1,1) N; TemporalMap(1,1) M; SpatialMap(1,1) K; } }
}"""


def test_maestro_networks(tmp_path: Path) -> None:
    path = tmp_path / "net.m"
    path.write_text(NETWORK)
    depthwise, product = read_maestro(path)
    assert depthwise.layer == Layer(
        "DW", k=32, c=32, groups=32, y=55, x=55, r=3, s=3, stride=(2, 2)
    )
    assert depthwise.mapping is None
    assert product.layer == Layer.gemm(10, 5, 7, "MM")
    assert product.mapping is not None
    nest = nest_from(product.mapping, product.layer, 20)
    assert nest.steps[0] == 7 * 3 and nest.units[0] == 20


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ("GEMM", "GEMV", "line 4: layer type 'GEMV' is unknown"),
        ("SpatialMap(1,1) M", "SpaceMap(1,1) M", "line 6: 'SpaceMap' is no directive"),
        ("TemporalMap(5,5) K", "TemporalMap(5,5) Q", "dimension 'Q' is unknown"),
        ("M: Rows", "M: Cols", "'Cols' is neither a number nor a constant"),
        ("R: 3 S", "R: 300 S", "kernel of layer 'DW' is larger than its input"),
        ("Cluster(5, P)", "Cluster(5)", "',' is expected, found ')'"),
        ("Stride", "Strides", "'Strides' is no entry of a layer"),
        ("K; } }\n}", "K; } }", "'Layer' is expected, found 'the end'"),
    ],
)
def test_bad_mappings_name_the_line(old: str, new: str, text: str) -> None:
    assert old in NETWORK
    with pytest.raises(ConfigError) as caught:
        parse_network(NETWORK.replace(old, new, 1), "net.m")
    assert text in str(caught.value) and str(caught.value).startswith("net.m, line ")


def test_clusters_larger_than_the_array() -> None:
    with pytest.raises(TargetError, match="clusters of 64 units need more than the 32"):
        nest_from(parse_dataflow(KCP_WS), LATE, 32)


def test_energies_between_published_sizes() -> None:
    kib = 8 * 1024
    assert [sram_pj_per_bit(size * kib) * 64 for size in (8, 32, 1024)] == pytest.approx(
        [10, 20, 100]
    )
    assert sram_pj_per_bit(16 * kib) * 64 == pytest.approx(10 * 2**0.5)
    sizes = np.array([1.0, 8, 20, 500, 4096]) * kib
    assert (np.diff(sram_pj_per_bit(sizes)) > 0).all()
    assert operation_pj("int8_multiply") == 0.2
    with pytest.raises(ConfigError, match="did you mean 'int8_add'"):
        operation_pj("int8_ad")


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ("int8_add = {", "int8_sum = {", "unknown key operation.int8_sum; known: fp16_add"),
        ("int8_add = {", "# {", "operation.int8_add is missing; add it"),
        ('value = 10, unit = "pJ/64 bit"', 'value = 10, unit = "pJ"', "sram 1.read.unit is 'pJ'"),
        ('value = 8, unit = "KiB"', 'value = 64, unit = "KiB"', "the smallest first"),
        ("value = 20,", "value = 0,", "sizes and energies of sram must be above zero"),
        ("value = 1300", "value = 2700", "dram.least is above dram.most"),
        ("node_nm = 45", "node_nm = 28\n", ""),
        ("[dram]", "[drams]", "unknown key drams; known: about, dram"),
    ],
)
def test_bad_tables_of_energies(old: str, new: str, text: str, tmp_path: Path) -> None:
    good = energy.FILE.read_text()
    assert old in good
    if not text:  # the sources are then of another node than the table
        good = good.replace('kind = "recalled"', 'kind = "recalled"\nnode_nm = 45')
        text = "comes from 'horowitz' at 45 nm, the table is at 28 nm"
    path = tmp_path / "mine.toml"
    path.write_text(good.replace(old, new, 1))
    with pytest.raises(ConfigError, match=r"^mine\.toml: ") as caught:
        read_energies(path)
    assert text in str(caught.value) and "\n" not in str(caught.value)


def test_energies_say_where_they_are_from() -> None:
    facts = published_energies().facts
    assert facts["node"] == "45 nm" and {"published", "recalled"} <= set(facts)
    assert "operation.int8_add" in facts["published"] and "dram.most" in facts["recalled"]


def test_a_larger_buffer_costs_more_per_bit() -> None:
    hardware = accelerator("nvdla-like")
    before, after = hardware.memory("buffer"), resized(hardware, "buffer", 2**24).memory("buffer")
    assert after.bits == 4 * before.bits
    assert 1 < after.read_pj_per_bit / before.read_pj_per_bit < 4
    assert after.area_um2 == pytest.approx(4 * before.area_um2)
    area = hardware.area_mm2()
    assert area == pytest.approx(1024 * (283 + 1.664) * 1e-6 + 0.436208 + 0.054526)
    assert accelerator("edge").area_mm2() is None
    with pytest.raises(ConfigError, match="no memory 'bufer'; it has reg_weight, buffer"):
        resized(hardware, "bufer", 1)
