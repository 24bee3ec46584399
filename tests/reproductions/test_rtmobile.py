"""RTMobile re-measured: forms compared at a small size, the claims' rules, the smoke run.

Specification: RTMobile (DAC 2020, arXiv 2002.11474), acceptance 8, and the rules of 7. The
other checks are in tests/structures and tests/codegen.
"""

import copy
import statistics

import pytest
import torch

from cofit.core import ConfigError, StructureError, torch_generator
from cofit.data import Dataset, Split
from cofit.reproductions.harness import Step, accuracy, reproduce, reproduction, seeded
from cofit.reproductions.rtmobile import study
from cofit.reproductions.rtmobile.pruning import (
    Epochs,
    SpeechGru,
    fresh,
    prune,
    rate_over_all,
)
from cofit.reproductions.rtmobile.speed import DENSE, OURS, PRUNED, speedup
from cofit.structures import parse

STANDARD = reproduction("rtmobile").scales["standard"]


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def tones(count, seed):
    """Eight frames with two of four tones; which is first and which is second is the class."""
    generator = torch_generator(seed, "tones")
    targets = torch.randint(0, 12, (count,), generator=generator)
    pairs = torch.tensor([(a, b) for a in range(4) for b in range(4) if a != b])[targets]
    x = 0.2 * torch.randn(count, 1, 8, 6, generator=generator)
    early = torch.randint(0, 4, (count,), generator=generator)
    late = torch.randint(4, 8, (count,), generator=generator)
    rows = torch.arange(count)
    x[rows, 0, early, pairs[:, 0]] += 2
    x[rows, 0, late, pairs[:, 1]] += 2
    return Split(x, targets)


def small_data():
    names = tuple(map(str, range(12)))
    return Dataset("tones", tones(300, 0), tones(50, 1), tones(500, 2), names)


def quiet(folder):
    return Step("test", folder, lambda stage, done, total: None)


def test_08_blocks_lose_no_more_than_whole_rows_and_columns(tmp_path):
    """Equal rate, equal epochs, means of three seeds; each trained, each ending in its set."""
    data = small_data()
    forms = {"bsp": "bsp16x16r1.6@6.4", "whole": "bsp96x32r1.6@6.4"}
    found = {name: [] for name in forms}
    for seed in range(3):
        dense = seeded(lambda: SpeechGru(6, 1, 32, 12), seed, "test")
        fresh(quiet(tmp_path / f"{seed}"), dense, data, 14, seed, 20, "dense")
        assert accuracy(dense, data.test) > 0.9
        for name, text in forms.items():
            model = copy.deepcopy(dense)
            step = quiet(tmp_path / f"{seed}-{name}")
            prune(step, model, data, parse(text), Epochs(4, 2), seed, 20)
            kept = sum(int((model.get_parameter(n) != 0).sum()) for n in model.pruned())
            held = sum(model.get_parameter(n).numel() for n in model.pruned())
            assert held / kept == pytest.approx(6.4, rel=0.03)
            found[name].append(accuracy(model, data.test))
    means = {name: statistics.fmean(values) for name, values in found.items()}
    assert means["bsp"] >= means["whole"]
    assert means["bsp"] > 0.5  # of 12 classes: both hold by having learnt nothing, otherwise


def test_both_steps_are_trained_and_the_first_is_kept(tmp_path):
    """Step 2 begins at the result of step 1: its columns are among the former ones."""
    data = small_data()
    structure = parse("bsp16x16r2@8")
    after_first = {}

    def remember(stage, done, total):
        if stage == "retrain0" and done == total:
            for name in model.pruned():
                after_first[name] = model.get_parameter(name).detach().clone()

    model = seeded(lambda: SpeechGru(6, 1, 32, 12), 0, "test")
    prune(Step("test", tmp_path, remember), model, data, structure, Epochs(1, 1), 0, 100)
    for name in model.pruned():
        first, last = after_first[name], model.get_parameter(name).detach()
        assert structure.columns.check(first) is None and structure.check(first) is not None
        assert structure.check(last) is None
        assert bool(((last != 0) <= (first != 0)).all())


def test_rate_over_all_counts_what_stays_dense():
    model = SpeechGru(6, 1, 32, 12)
    assert rate_over_all(model) == 1
    for name in model.pruned():
        model.get_parameter(name).data.zero_()
    dense = 96 * 6 + 12 * 32
    total = dense + 3 * 96 * 32
    assert rate_over_all(model) == pytest.approx(total / dense)


def test_a_weight_too_small_is_refused_by_name(tmp_path):
    model = SpeechGru(6, 1, 16, 12)
    with pytest.raises(
        StructureError, match=r"'gru.weight_hh_l0'.*a stripe has 64 rows, the weight 48"
    ):
        prune(quiet(tmp_path), model, small_data(), parse("bsp64x16@4"), Epochs(1, 1), 0, 50)


def test_07_the_claims_about_time_follow_what_was_measured():
    """The best peer counts; programs of our own are no peers; CSR is the faster of two."""
    seconds = {
        "onnxruntime fp32": 900e-6, "openvino fp32": 700e-6, "torch eager fp32": 950e-6,
        DENSE: 100e-6, f"{OURS}stripes": 60e-6, f"{OURS}unstructured": 400e-6,
        "scipy csr": 350e-6, f"{OURS}nearly dense": 140e-6,
    }  # fmt: skip
    dense, lists, kernel, index = study._matrix_claims(STANDARD, seconds)
    assert dense.measured.mean == pytest.approx(700 / 60) and dense.holds
    assert lists.measured.mean == pytest.approx(350 / 60) and lists.holds
    assert kernel.measured.mean == pytest.approx(1.4) and kernel.holds
    assert index.holds and 0.03 < index.measured.mean <= 0.04
    slow = study._matrix_claims(STANDARD, seconds | {f"{OURS}stripes": 200e-6})
    assert [claim.holds for claim in slow] == [False, False, True, True]
    best, ratio = speedup({"a": 8.0, "b": 6.0, DENSE: 1.0, PRUNED: 0.5})
    assert best == "b" and ratio == 12.0


def test_the_claim_about_forms_takes_the_better_coarse_form():
    def of(*values):
        return [{"accuracy": v, "rate": 10.0} for v in values]

    forms = {
        "bsp": of(0.97, 0.96, 0.98),
        "whole columns": of(0.90, 0.91, 0.92),
        "whole columns, rows": of(0.98, 0.97, 0.99),
        "unstructured": of(0.99, 0.99, 0.99),
    }
    claim = study._form_claim(STANDARD, forms)
    assert claim.measured.mean == pytest.approx(-1) and not claim.holds
    assert "whole columns, rows" in claim.note


def test_the_standard_scale_prunes_by_ten_as_its_claim_asks():
    """Of the layers' sizes alone: 2 x 512, three matrices pruned, the rest dense."""
    features, hidden = 10 * STANDARD.stack, STANDARD.hidden
    structure = parse(STANDARD.structure)
    matrices = [(3 * hidden, hidden)] * 3
    kept = sum(structure.layout(shape).row for shape in matrices)
    rest = 3 * hidden * features + 10 * hidden
    assert (sum(r * c for r, c in matrices) + rest) / (kept + rest) >= 10
    assert len(reproduction("rtmobile").seeds["standard"]) >= 3


def test_the_smoke_run_is_complete_and_is_not_repeated(tmp_path):
    seen = []
    folder = tmp_path / "run"
    first = reproduce("rtmobile", "smoke", folder, lambda *told: seen.append(told))
    assert len(first.claims) == 10 and len(first.tables) == 5
    assert (folder / "figure.svg").stat().st_size > 1000
    (folder / "finding.json").unlink()
    told = len(seen)
    again = reproduce("rtmobile", "smoke", folder, lambda *told: seen.append(told))
    assert len(seen) == told and again == first


def test_settings_that_were_changed_are_refused(tmp_path):
    (tmp_path / "run.json").write_text('"other"')
    with pytest.raises(ConfigError, match="other settings"):
        reproduce("rtmobile", "smoke", tmp_path, lambda *told: None)
