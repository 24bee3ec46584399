"""Files, draws, orders and errors of the platforms of fpga-vs-mobile: checks 7, 9 and 11."""

from __future__ import annotations

import itertools
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from platform_cases import conv, small_net
from torch import nn

from cofit.core import ConfigError, FileError, UnknownNameError
from cofit.ir import trace
from cofit.targets.platforms import (
    Entry,
    draw,
    entry,
    estimate,
    known_platforms,
    layer_time,
    parameters,
    pareto,
    rank,
    read_parameters,
    works_of,
)
from cofit.targets.platforms.tables import PRESETS


def entries_of(names: tuple[str, ...], draws: int = 400) -> list[Entry]:
    works = works_of(trace(small_net(), torch.zeros(1, 3, 16, 16)), "int8")
    return [entry(name, parameters(name), works, draws=draws) for name in names]


def test_07_every_parameter_has_value_unit_and_tag() -> None:
    assert len(known_platforms()) == 6
    for name in known_platforms():
        found = parameters(name)
        assert set(found.tags) == set(found.values)
        assert set(found.tags.values()) <= {"published", "derived", "recalled", "chosen"}
        assert found.name == name and "recalled" in found.facts


@pytest.mark.parametrize(
    ("preset", "old", "new", "text"),
    [
        ("zcu102", ', source = "sheet" }', " }", r"source is missing; add it"),
        ("zcu102", 'kind = "recalled"', 'kind = "sure"', "kind is 'sure'; known: published"),
        ("zcu102", 'source = "pack"', 'source = "rumour"', "source is 'rumour'; known: energy"),
        ("zcu102", 'unit = "GB/s", ', "", "board.bandwidth.unit is missing"),
        ("zcu102", 'unit = "GB/s"', 'unit = "W"', "unit is 'W'; known: B/s, GB/s"),
        ("zcu102", "value = 19.2", "value = 0", "board.bandwidth is 0; it must be above zero"),
        ("zcu102", "value = 0.8", "value = 1.8", "fabric.dsp_share is 1.8; it must be above 0"),
        ("zcu102", "[fabric]", "[fabrics]", "unknown key fabrics"),
        ("zcu102", 'kind = "fpga"', 'kind = "asic"', "kind is 'asic'; known: fpga, processor"),
        ("zcu102", 'kind = "fpga"', 'kind = "processor"', "a processor has no table fabric"),
        ("zcu102", "binary = {", "unary = {", "unknown key luts_per_mac.unary"),
        ("snapdragon-855", "dense = {", "dense_ = {", "unknown key share.dense_"),
        ("snapdragon-855", "[share]", "[fabric]", "a processor has no table fabric"),
        ("snapdragon-855", "value = 475", "value = 0", "peak.fp32 is 0; it must be above zero"),
    ],
)
def test_07_files_without_tags_fail_to_load(
    tmp_path: Path, preset: str, old: str, new: str, text: str
) -> None:
    content = (PRESETS / f"{preset}.toml").read_text(encoding="utf-8")
    assert old in content
    path = tmp_path / "mine.toml"
    path.write_text(content.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(ConfigError, match=text) as error:
        read_parameters(path)
    assert str(error.value).startswith("mine.toml") and "\n" not in str(error.value)
    with pytest.raises(FileError, match="cannot read the platform"):
        read_parameters(tmp_path / "none.toml")


def test_09_rankings_carry_their_frequency() -> None:
    entries = entries_of(("zcu102", "pynq-z1", "snapdragon-855"))
    found = rank(entries)
    assert re.fullmatch(r"\S+ before \S+ before \S+ in \d+ % of 400 draws", str(found))
    values = np.stack([e.efficiency() for e in entries])
    order = [next(i for i, e in enumerate(entries) if e.label == n) for n in found.labels]
    assert (np.diff(values[order, 0]) <= 0).all()
    agree = [
        all(values[a, d] >= values[b, d] for a, b in itertools.pairwise(order))
        for d in range(1, 401)
    ]
    assert found.share == pytest.approx(np.mean(agree)) and 0 < found.share <= 1
    works = works_of(trace(small_net(), torch.zeros(1, 3, 16, 16)))
    plain = [Entry(n, estimate(parameters(n), works)) for n in ("zcu102", "pynq-z1")]
    with pytest.raises(ConfigError, match="stated with its frequency only"):
        rank(plain)
    for bad in ([entries[0]], entries):
        with pytest.raises(ConfigError, match="two or more, by model or board"):
            rank(bad, "guess" if len(bad) > 1 else "model")


def test_09_draws_are_log_uniform_seeded_and_shared_where_the_numbers_are() -> None:
    first, second = draw(parameters("zcu102")), draw(parameters("zc706"))
    assert all(len(f) == 1000 for f in first.values())
    every = np.concatenate(list(first.values()))
    assert every.min() >= 1 / 1.3 and every.max() <= 1.3
    assert np.log(every).mean() == pytest.approx(0, abs=0.005)
    assert np.log(every).std() == pytest.approx(np.log(1.3) / np.sqrt(3), rel=0.02)
    assert (first["energy.dram_byte"] == second["energy.dram_byte"]).all()
    assert (first["board.bandwidth"] != second["board.bandwidth"]).any()
    assert (draw(parameters("zcu102"))["fabric.dsp"] == first["fabric.dsp"]).all()
    found = parameters("zcu102")
    stated = replace(found, tags=dict.fromkeys(found.tags, "published"))
    assert draw(stated) == {}
    with pytest.raises(ConfigError, match="0 draws"):
        draw(found, 0)
    with pytest.raises(ConfigError, match=r"has no value 'board\.colour'"):
        found.having(board__colour=1.0)


def test_09_a_draw_is_the_model_at_those_numbers() -> None:
    works = works_of(trace(small_net(), torch.zeros(1, 3, 16, 16)), "fp32")
    for name in ("snapdragon-865", "cortex-m7-board"):
        found = parameters(name)
        factors = draw(found, 5)
        drawn = estimate(found, works, factors)
        for number in range(5):
            values = {
                key: min(1.0, v * factors[key][number]) if key.startswith("share.") else
                v * factors[key][number] for key, v in found.values.items()
            }  # fmt: skip
            alone = estimate(replace(found, values=values), works)
            assert drawn.energy_j[number + 1] == pytest.approx(alone.energy_j[0], rel=1e-12)
            assert drawn.latency_s[number + 1] == pytest.approx(alone.latency_s[0], rel=1e-12)


def test_09_pareto_set() -> None:
    entries = [replace(e, accuracy=a) for e, a in zip(
        entries_of(("zcu102", "pynq-z1", "snapdragon-855", "cortex-m7-board"), 2),
        (90.0, 90.0, 80.0, 95.0), strict=True)]  # fmt: skip
    front = pareto(entries)
    values = {e.label: (e.accuracy, e.efficiency()[0]) for e in entries}
    for label, (accuracy, value) in values.items():
        beaten = any(
            a >= accuracy and v >= value and (a, v) != (accuracy, value) for a, v in values.values()
        )
        assert (label in front) != beaten
    assert "cortex-m7-board" in front


def test_11_clear_errors() -> None:
    graph = trace(small_net(), torch.zeros(1, 3, 8, 8))
    with pytest.raises(UnknownNameError, match=r"unknown precision 'int7'.*known: binary"):
        works_of(graph, "int7")
    with pytest.raises(UnknownNameError, match="unknown pruning scheme 'random'"):
        conv(scheme="random")
    with pytest.raises(ConfigError, match=r"bandwidth is 0\.0; it must be above zero"):
        layer_time(1.0, 1.0, 1.0, 0.0)
    with pytest.raises(ConfigError, match=r"board\.bandwidth is 0; it must be above zero"):
        parameters("zcu102").having(board__bandwidth=0.0)
    with pytest.raises(ConfigError, match="layer 'conv' has no whole shape"):
        conv(side=0)
    with pytest.raises(ConfigError, match=r"a mask of shape \(2, 2\); expected \(32, 144\)"):
        conv(kept=np.ones((2, 2), bool))
    with pytest.raises(UnknownNameError, match="unknown weight 'nope'"):
        works_of(graph, kept={"nope": np.ones((1, 1), bool)})
    with pytest.raises(ConfigError, match="has no layer that multiplies"):
        works_of(trace(nn.ReLU(), torch.zeros(1, 3)))
    with pytest.raises(UnknownNameError, match="unknown platform 'zcu103'"):
        parameters("zcu103")
