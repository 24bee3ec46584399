"""HERALD as a reproduction: its networks, its claims, the smoke run."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from provenance import states_sources

from cofit.core import ConfigError
from cofit.reproductions import reproduce
from cofit.reproductions.herald import networks
from cofit.reproductions.herald.claims import edp, saved


@pytest.mark.parametrize(
    ("build", "layers", "gmacs", "mega_weights"),
    [
        (networks.resnet50, 54, 4.09, 25.5),
        (networks.mobilenet_v1, 28, 0.569, 4.2),
        (networks.mobilenet_v2, 53, 0.301, 3.47),
        (networks.unet, 23, 150.4, 31.03),
        (networks.ssd_mobilenet, 47, 1.24, 6.8),
    ],
)
def test_published_sizes(build: object, layers: int, gmacs: float, mega_weights: float) -> None:
    network = build()  # type: ignore[operator]
    assert len(network.layers) == layers
    assert network.macs / 1e9 == pytest.approx(gmacs, rel=0.01)
    weights = sum(layer.elements["weight"] for layer in network.layers)
    assert weights / 1e6 == pytest.approx(mega_weights, rel=0.01)


def test_residual_layers_wait_for_both_branches() -> None:
    network = networks.resnet50()
    assert network.before[5] == (3, 4)  # the second block reads the sum of the first
    assert max(len(needed) for needed in network.before) == 7  # a sum over a stage of 6 blocks
    unet = networks.unet()
    assert [len(needed) for needed in unet.before].count(2) == 4  # up-convolution and skip
    first = networks.mobilenet_v2().layers[0]
    assert (first.r, first.s) == (3, 3)  # MAESTRO's file has 1x1


def test_suites() -> None:
    mix = networks.suite("AR/VR-A")
    assert [name for name in mix.names].count("U-Net") == 4 and len(mix.names) == 10
    assert {"AR/VR-A", "AR/VR-B", "MLPerf"} < set(networks.SUITES)
    for name in networks.SUITES:
        assert networks.suite(name).layers
    with pytest.raises(ConfigError, match="unknown suite 'VR'"):
        networks.suite("VR")


def test_savings_are_of_geometric_means() -> None:
    assert saved([0.5, 0.5]) == pytest.approx(50)
    assert saved([0.5, 2.0]) == pytest.approx(0)  # the mean of savings would be -25
    assert edp([3.0, 2.0]) == 6


def test_smoke_run_and_resuming(tmp_path: Path) -> None:
    calls: list[str] = []

    def progress(stage: str, done: int, total: int) -> None:
        calls.append(stage)

    finding = reproduce("herald", "smoke", tmp_path, progress)
    assert states_sources(finding)
    rows = {claim.claim: claim for claim in finding.claims}
    assert all(math.isfinite(value) for c in finding.claims for value in c.measured.values)
    example = next(claim for text, claim in rows.items() if text.startswith("two layers"))
    assert example.holds and example.measured.mean == pytest.approx(157024 / 100352)
    for part in ("over the bound", "moves of single layers"):
        assert next(claim for text, claim in rows.items() if part in text).holds
    assert sum("(abstract)" in claim.published for claim in finding.claims) == 4
    designs = finding.tables[0].rows
    least = [float(row[4]) for row in designs if "array" in row[1] or "halves" in row[1]]
    assert min(least) == 1.0
    assert calls
    calls.clear()
    (tmp_path / "finding.json").unlink()
    again = reproduce("herald", "smoke", tmp_path, progress)
    assert not calls and again.claims == finding.claims
