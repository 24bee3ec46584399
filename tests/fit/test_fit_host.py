"""A whole fit on this machine, in float32: smoke of what a Cortex-M fit does not reach."""

import numpy as np
import pytest
import torch
from fit_cases import tiny

from cofit.codegen import load_program
from cofit.core import read_tensors
from cofit.fit import load_subject, run_fit
from cofit.structures import parse


@pytest.fixture(scope="module")
def fit(tmp_path_factory):
    folder = tmp_path_factory.mktemp("host") / "out"
    config = tiny(
        folder, target="host", precision="fp32", budget="flash<=0.6x", rates=[2, 4],
        structures=["block8x1", "channel"], rounds=1,
    )  # fmt: skip
    return run_fit(config), config


def test_the_budget_of_bytes_is_met(fit):
    result, _ = fit
    summary = result.summary
    assert summary.met and summary.fitted.flash_bytes <= 0.6 * summary.dense.flash_bytes
    assert summary.fitted.precision == summary.dense.precision == "fp32"
    assert summary.dense.basis == summary.fitted.basis == "measured"
    assert summary.fitted.latency_s > 0 and summary.fitted.spread is not None
    assert summary.fitted.energy_j is None and summary.fitted.instructions is None


def test_the_program_was_compared_with_float64(fit):
    result, config = fit
    verification = result.summary.verification
    test = load_subject(config).data.test
    assert verification.samples == len(test)
    assert not verification.bit_exact
    found = result.program.run(test.inputs.numpy())
    with torch.no_grad():
        exact = result.model.double()(test.inputs.double()).numpy()
    result.model.float()
    error = np.abs(found - exact).max()
    assert error == pytest.approx(verification.max_abs_error, abs=1e-6)
    assert error < 1e-3


def test_accuracy_is_that_of_the_program(fit):
    result, config = fit
    test = load_subject(config).data.test
    program = load_program(config.out / "deploy")
    predicted = program.run(test.inputs.numpy()).argmax(axis=1)
    correct = int((predicted == test.targets.numpy()).sum())
    assert correct == result.summary.fitted.correct


def test_given_accuracy_is_that_of_the_trained_module(fit):
    result, config = fit
    subject = load_subject(config)
    stored = read_tensors(config.out / "state" / "pretrained.safetensors")
    subject.module.load_state_dict(stored)
    with torch.no_grad():
        scores = subject.module.eval()(subject.data.test.inputs)
    right = (scores.argmax(1) == subject.data.test.targets).float().mean()
    assert result.summary.accuracy_given == pytest.approx(float(right))


def test_weights_obey_their_structures(fit):
    result, _ = fit
    graph, texts = result.program.graph, []
    for _, weight in graph.weighted():
        if weight.structure is not None:
            texts.append(weight.structure)
            assert parse(weight.structure).check(torch.from_numpy(weight.data)) is None
    assert texts or any("channel" in (row.structure or "") for row in result.summary.plan)
    assert all(row.bits == 32 for row in result.summary.plan)


def test_a_latency_budget_with_both_precisions_to_choose_from(tmp_path):
    config = tiny(
        tmp_path / "out", target="host", budget="latency<=0.9x", rates=[4],
        structures=["block8x1"], rounds=1, epochs=1, pretrain_epochs=1,
    )  # fmt: skip
    summary = run_fit(config).summary
    assert [row.metric for row in summary.limits] == ["latency"]
    row = summary.limits[0]
    assert row.limit == pytest.approx(0.9 * summary.dense.latency_s)
    assert row.met is (summary.fitted.latency_s <= row.limit + 1e-12)
    assert summary.fitted.precision in ("fp32", "int8")
    assert summary.dense.precision == "fp32"
    assert summary.verification.bit_exact is (summary.fitted.precision == "int8")
    assert (tmp_path / "out" / "deploy" / "model.c").exists()
