"""fpga-vs-mobile as a reproduction: networks on grids, this CPU, anchors, the smoke run."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from provenance import states_sources
from torch import nn

from cofit.core import ConfigError, UnknownNameError, numpy_generator, read_json
from cofit.reproductions import reproduce
from cofit.reproductions.fpga_vs_mobile import anchors, host
from cofit.reproductions.fpga_vs_mobile.network import VGG, LowConv, activation, on_grid, plain
from cofit.targets.platforms import KINDS, estimate, parameters, total_macs


@pytest.mark.parametrize(
    ("precision", "top"), [("binary", 1), ("ternary", 1), ("int4", 7), ("int8", 127)]
)
def test_weights_and_activations_lie_on_their_grids(precision: str, top: int) -> None:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(6, 4, 3, 3, generator=generator, requires_grad=True)
    rounded = on_grid(weight, precision)
    for channel, source in zip(rounded.detach(), weight.detach(), strict=True):
        steps = channel / (channel.abs().max() / top)
        assert torch.allclose(steps, steps.round(), atol=1e-4)
        assert (steps == 0).any() if precision == "ternary" else len(channel.unique()) > 1
        assert (channel - source).norm() < source.norm()
    rounded.sum().backward()
    assert torch.equal(weight.grad, torch.ones_like(weight))
    x = torch.randn(2, 3, 8, 8, generator=generator)
    values = activation(x, precision).unique()
    most = {"binary": 2, "int4": 15}.get(precision, 255)
    assert 1 < len(values) <= most


def test_ternary_and_binary_are_the_least_squares_grids() -> None:
    generator = torch.Generator().manual_seed(1)
    weight = torch.randn(1, 50, generator=generator)
    scale = on_grid(weight, "binary").abs().unique()
    assert torch.allclose(scale, weight.abs().mean())  # XNOR-Net's closed form
    ternary = on_grid(weight, "ternary")
    kept = ternary != 0
    assert 0 < int(kept.sum()) < 50
    assert torch.allclose(ternary.abs().max(), weight[kept].abs().mean())


def test_05_trained_binary_networks_keep_their_ends_int8() -> None:
    model = VGG(1, 10, (4, 8), "binary")
    convs = [layer.precision for layer in model.modules() if isinstance(layer, LowConv)]
    assert convs == ["int8", "binary", "binary", "binary"]
    assert model.classifier.precision == "int8"
    assert not any(isinstance(layer, nn.ReLU) for layer in model.modules())
    plain(model)
    assert {layer.precision for layer in model.modules() if isinstance(layer, LowConv)} == {"fp32"}
    with pytest.raises(UnknownNameError, match="unknown precision 'int3'"):
        VGG(1, 10, (4,), "int3")


def test_08_calibration_finds_a_machine_that_is_planted() -> None:
    """20 layers that it was not calibrated on, under 10 % noise; constant times are worse."""
    truth = host.HostModel(
        {kind: (2e-11 * (i + 1), 1e-10, 3e-11, 2e-6) for i, kind in enumerate(KINDS)}
    )
    generator = numpy_generator(0, "planted")
    seen, asked = host.random_shapes(60, 0), host.random_shapes(20, 1)
    assert {shape.kind for shape in asked} == set(KINDS)
    assert len(set(seen) | set(asked)) > 70

    def timed(shapes: list[host.Shape]) -> list[float]:
        return [truth.predict(s) * float(np.exp(generator.normal(0, 0.1))) for s in shapes]

    model = host.calibrate_host(seen, timed(seen))
    found = host.errors(model, asked, [truth.predict(s) for s in asked])
    assert np.median(found) <= 20 and np.percentile(found, 95) <= 60
    constant = host.HostModel(dict.fromkeys(KINDS, (0.0, 0.0, 0.0, 1e-4)))
    assert np.median(host.errors(constant, asked, timed(asked))) > 40
    with pytest.raises(ConfigError, match="no dense layer was measured, only conv3x3"):
        host.calibrate_host(seen[:1], [1e-4]).predict(host.Shape("dense", 8, 8, 1))


def test_08_features_are_those_of_the_measured_programs() -> None:
    shapes = [
        host.Shape("conv3x3", 16, 32, 8), host.Shape("conv1x1", 16, 32, 8),
        host.Shape("depthwise", 16, 99, 8), host.Shape("dense", 64, 32, 1),
    ]  # fmt: skip
    seconds = host.measure(shapes)
    assert len(seconds) == 4 and min(seconds) > 0
    for shape in shapes:
        module, x = shape.module()
        macs, weights, moved, _ = shape.features
        out = module(x)
        weight = module.weight
        assert weights == 4 * weight.numel()
        assert macs == out[0, 0].numel() * weight.numel() or shape.kind == "dense"
        assert moved == 4 * (x.numel() + out.numel())


def test_pruned_layers_are_timed_against_the_dense_one() -> None:
    found = host.speedups(["block16x1@4", "block16x1@8"], 32, 8)
    assert [ideal for _, ideal in found] == pytest.approx([4, 8], rel=0.01)
    assert all(ratio > 0 for ratio, _ in found)


@pytest.mark.slow
def test_08_this_cpu_is_predicted() -> None:
    seen, asked = host.random_shapes(120, 0), host.random_shapes(20, 1)
    seconds = host.measure([*seen, *asked])
    found = host.errors(host.calibrate_host(seen, seconds[:120]), asked, seconds[120:])
    assert np.median(found) <= 20 and np.percentile(found, 95) <= 60


def test_10_anchor_networks_have_their_published_sizes() -> None:
    """Of NAS-Bench-201 the stem, three 3x3 of no. 1 per cell, the reductions, counted by hand."""
    cells = 5 * 3 * 9 * sum(c * c * s * s for c, s in ((16, 32), (32, 16), (64, 8)))
    stem = 3 * 16 * 9 * 32 * 32
    reductions = sum(
        (half * 2 * half * 9 + (2 * half) ** 2 * 9 + half * 2 * half) * s * s
        for half, s in ((16, 16), (32, 8))
    )
    pools = 5 * 9 * sum(c * s * s for c, s in ((16, 32), (32, 16), (64, 8)))
    found = total_macs(anchors.works_of_anchor(1))
    assert found == stem + cells + reductions + pools + 640
    assert total_macs(anchors.works_of_anchor(3)) == pytest.approx(found / 4, rel=1e-4)
    assert total_macs(anchors.works_of_anchor(4)) == pytest.approx(110e6, rel=0.1)
    with pytest.raises(ConfigError, match="unknown operation 'conv_5x5'"):
        anchors.nas_bench_201("|conv_5x5~0|", 32)


def test_10_anchors_are_rows_of_the_measured_table(data_dir: Path) -> None:
    with np.load(data_dir / "nas_latency" / "help_nasbench201.npz", allow_pickle=False) as table:
        names = [name.decode() for name in table["arch_str"][:3]]
        latency = table["latency_fpga"][:3]
    assert tuple(names) == anchors.ARCHITECTURES
    assert latency == pytest.approx([a.fpga_ms for a in anchors.ANCHORS[:3]], rel=1e-3)


def test_10_calibrated_fpga_predicts_the_other_rows_and_says_so() -> None:
    found = anchors.calibrated(parameters("zc706"), range(3))
    nominal = parameters("zc706")
    assert found["fabric.clock"] <= nominal["fabric.clock"]
    assert found["board.bandwidth"] <= nominal["board.bandwidth"]
    predicted = [anchors.predicted_ms(found, row) for row in range(5)]
    measured = [a.fpga_ms for a in anchors.ANCHORS]
    ratios = [p / m for p, m in zip(predicted, measured, strict=True)]
    assert all(0.5 <= ratio <= 2 for ratio in ratios[3:])
    assert all(0.8 <= ratio <= 1.25 for ratio in ratios[:3])
    text = anchors.statement(predicted[3:], (3, 4))
    assert re.fullmatch(
        r"FPGA latencies of rows 4, 5 are predicted within a factor 2 \(worst 1\.\d\d\)", text
    )
    wrong = anchors.statement([1.0, 1.0], (3, 4))
    assert "are not predicted" in wrong
    uncalibrated = [anchors.predicted_ms(nominal, row) for row in (3, 4)]
    assert "are not" in anchors.statement(uncalibrated, (3, 4))


def test_10_energy_is_constant_power_times_latency() -> None:
    exact = [anchors.ANCHORS[row] for row in (0, 4)]  # stated to the last digit
    assert all(abs(a.fpga_w - 7.0) < 1e-6 for a in exact)
    for each in anchors.ANCHORS:  # the others to a rounding of their last digit
        assert each.fpga_mj == pytest.approx(7.0 * each.fpga_ms, abs=0.02)
    found = anchors.calibrated(parameters("zc706"), range(3))
    for row in range(5):
        result = estimate(found, anchors.works_of_anchor(row))
        assert abs(result.board_energy_j[0] / result.latency_s[0] - 7.0) < 1e-6
    turned = {a.phone_ms * anchors.PHONE_W < a.fpga_mj for a in anchors.ANCHORS}
    assert turned == {True, False}  # the order turns with the network


def test_smoke_run_and_resuming(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COFIT_DATA", str(tmp_path / "none"))
    calls: list[str] = []

    def progress(stage: str, done: int, total: int) -> None:
        calls.append(stage)

    finding = reproduce("fpga-vs-mobile", "smoke", tmp_path, progress)
    assert all(math.isfinite(value) for c in finding.claims for value in c.measured.values)
    assert finding.title.startswith("Modelled, not measured")
    assert finding.tables[0].title.startswith("All efficiencies are modelled")
    assert states_sources(finding)
    claims = {claim.claim: claim for claim in finding.claims}
    anchor = next(claim for text, claim in claims.items() if "worst factor" in text)
    assert anchor.holds and "within a factor 2" in anchor.note
    for text in (c.note for c in finding.claims if " before " in c.note):
        for part in re.findall(r"[^;]* before [^;]*", text):
            assert re.search(r" in \d+ % of 200 draws$", part), part
    assert sum(" before " in c.note for c in finding.claims) >= 2
    accuracies = [float(row[1].split()[0]) for row in finding.tables[0].rows]
    assert accuracies[0] > 70  # it has learned the digits
    assert calls
    steps = len(list((tmp_path / "steps").glob("*.json")))
    calls.clear()
    (tmp_path / "finding.json").unlink()
    again = reproduce("fpga-vs-mobile", "smoke", tmp_path, progress)
    assert not calls and again.claims == finding.claims
    assert len(list((tmp_path / "steps").glob("*.json"))) == steps
    assert read_json(tmp_path / "finding.json")["scale"] == "smoke"
