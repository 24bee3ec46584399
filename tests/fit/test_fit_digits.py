"""A whole fit: everything it says is computed again, from what it left, by other means."""

import json

import numpy as np
import pytest
import torch
from fit_cases import tiny

import cofit
from cofit.codegen import load_program, machine
from cofit.codegen.cortex_m import Emulator, board, default_board, modelled_cycles
from cofit.codegen.cortex_m.link import link
from cofit.core import Budget, numpy_generator, read_tensors
from cofit.data import load
from cofit.fit import Summary, load_subject, read_config, run_fit
from cofit.fit.precision import Lowering
from cofit.ir import load_graph, trace
from cofit.ir.integer import dequantise_output, quantise_input, run_integer
from cofit.models import load_model
from cofit.structures import parse
from cofit.targets import CortexM


@pytest.fixture(scope="module")
def deployed(fitted):
    """The graph that lies in the deploy folder."""
    return load_graph(fitted.folder / "deploy")


@pytest.fixture(scope="module")
def subject(fitted):
    return load_subject(fitted.config)


@pytest.fixture(scope="module")
def given(fitted, subject):
    """The trained network itself, in torch."""
    module = subject.module
    module.load_state_dict(read_tensors(fitted.folder / "state" / "pretrained.safetensors"))
    return module.eval()


def integer_scores(graph, x):
    stored = run_integer(graph, {graph.inputs[0]: quantise_input(graph, x)})
    return dequantise_output(graph, stored[graph.outputs[0]])


def right(scores, split):
    return int((np.asarray(scores).argmax(axis=1) == split.targets.numpy()).sum())


@pytest.fixture(scope="module")
def rebuilt(fitted):
    """The saved C text, linked again with a main of its own."""
    deploy = fitted.folder / "deploy"
    manifest = json.loads((deploy / "manifest.json").read_text())
    name = manifest["name"]
    main = f"""
    #include "model.h"
    unsigned char {name}_arena[{name.upper()}_ARENA_BYTES] __attribute__((aligned(16)));
    int main(void);
    int main(void) {{ {name}_run({name}_arena); return 0; }}
    """
    files = {
        "model.c": (deploy / "model.c").read_text(),
        "model.h": (deploy / "model.h").read_text(),
        "main.c": main,
    }
    return name, link(files, machine("cortex-m4"), default_board("cortex-m4"))


def test_the_summary_on_disk_is_the_one_returned(fitted):
    assert Summary.read(fitted.folder / "summary.json") == fitted.result.summary
    document = json.loads((fitted.folder / "summary.json").read_text())
    assert set(document) == set(Summary.model_fields)
    assert document["format"] == "cofit.summary" and document["version"] == 1


def test_nothing_but_the_results_lies_in_the_folder(fitted):
    names = {p.name for p in fitted.folder.iterdir()}
    assert names == {"config.toml", "deploy", "export", "state", "summary.json"}


def test_the_stored_configuration_asks_for_the_same_fit(fitted):
    assert read_config(fitted.folder / "config.toml", {}) == fitted.config
    assert fitted.result.summary.config == fitted.config.to_toml()


def test_met_and_verdict_follow_from_the_limits(fitted):
    summary = fitted.result.summary
    values = {
        "latency": lambda side: side.latency_s,
        "flash": lambda side: side.flash_bytes,
        "accuracy_drop": lambda side: summary.accuracy_given - side.accuracy,
    }
    dense = {"latency": summary.dense.latency_s, "flash": summary.dense.flash_bytes}
    limits = Budget.parse(fitted.config.budget).resolve(dense)
    assert {row.metric: row.limit for row in summary.limits} == limits
    for row in summary.limits:
        assert row.fitted == values[row.metric](summary.fitted)
        assert row.dense == values[row.metric](summary.dense)
        assert row.met is (row.fitted <= row.limit + 1e-12)
    assert summary.met is all(row.met for row in summary.limits)
    assert summary.verdict.startswith("budget met" if summary.met else "budget not met")
    assert all(row.met for row in summary.limits if row.metric != "accuracy_drop")


def test_fitted_accuracy_is_that_of_the_deployed_graph_on_the_test_split(fitted, deployed, subject):
    test = subject.data.test
    correct = right(integer_scores(deployed, test.inputs.numpy()), test)
    assert correct == fitted.result.summary.fitted.correct
    assert fitted.result.summary.fitted.accuracy == correct / len(test)


def test_dense_and_given_accuracy_are_those_of_the_given_network(fitted, subject, given):
    summary, test = fitted.result.summary, subject.data.test
    with torch.no_grad():
        assert summary.accuracy_given == right(given(test.inputs), test) / len(test)
    graph = trace(given, subject.example, name="digits_resnet")
    low = Lowering("int8", subject.calibration).lower(graph)
    correct = right(integer_scores(low, test.inputs.numpy()), test)
    assert summary.dense.correct == correct
    assert summary.dense.accuracy == correct / len(test)
    assert summary.dense.precision == summary.fitted.precision == "int8"


def test_flash_is_that_of_the_saved_c_linked_again(fitted, rebuilt):
    _, linked = rebuilt
    assert linked.image.flash_bytes == fitted.result.summary.fitted.flash_bytes
    assert fitted.result.summary.fitted.flash_bytes < fitted.result.summary.dense.flash_bytes


def test_latency_is_that_of_the_saved_c_emulated_again(fitted, rebuilt):
    name, linked = rebuilt
    source = fitted.result.program.source
    emulator = Emulator(
        linked.image,
        machine("cortex-m4"),
        steps=[step.function for step in source.steps],
        callers=[f"{name}_run"],
    )
    emulator.boot()
    arena = linked.image.address(f"{name}_arena")
    shape = source.graph.tensors[source.graph.inputs[0]].shape
    x = numpy_generator(0, "measure", name).integers(-128, 128, shape).astype(np.int8)
    emulator.write(arena + source.offsets[source.entry], x.tobytes())
    emulator.call(f"{name}_run", arena)
    profile = emulator.profile()
    cycles = modelled_cycles(profile, emulator.code, machine("cortex-m4")).sum()
    fast = fitted.result.summary.fitted
    assert cycles / default_board("cortex-m4").clock_hz == pytest.approx(fast.latency_s, rel=1e-3)
    assert profile.per_context.sum() == pytest.approx(fast.instructions, rel=1e-3)
    assert fast.latency_s < fitted.result.summary.dense.latency_s


def test_cost_of_the_loaded_program_is_what_was_reported(fitted):
    program = load_program(fitted.folder / "deploy")
    cost = CortexM(default_board("cortex-m4")).cost_of(program.runner)
    fast = fitted.result.summary.fitted
    assert (cost.latency_s, cost.flash_bytes, cost.ram_bytes) == (
        fast.latency_s, fast.flash_bytes, fast.ram_bytes,
    )  # fmt: skip
    rows = {row.op: row for row in cost.rows}
    for line in fitted.result.summary.plan:
        assert line.latency_measured_s == rows[line.op].latency_s
        assert line.flash_measured_bytes == rows[line.op].flash_bytes


def executed_macs(graph, op):
    """Counted from the weights: non-zeros of sparse ones, all of dense ones, at each position."""
    weight = graph.tensors[op.inputs[1]]
    positions = int(np.prod(graph.tensors[op.output].shape[2:]))
    kept = weight.size if weight.structure is None else int(np.count_nonzero(weight.data))
    return positions * kept


def test_macs_are_counted_from_the_deployed_weights(fitted, deployed):
    rows = {row.op: row for row in fitted.result.summary.plan}
    counted = {op.output: executed_macs(deployed, op) for op, _ in deployed.weighted()}
    assert {name: row.kept_macs for name, row in rows.items()} == counted
    assert fitted.result.summary.fitted.macs == sum(counted.values())
    assert sum(row.macs for row in rows.values()) == fitted.result.summary.dense.macs
    for row in rows.values():
        assert row.rate == pytest.approx(row.macs / row.kept_macs)


def test_parameters_are_the_non_zeros(fitted, deployed):
    held = [
        np.count_nonzero(deployed.tensors[name].data)
        for op, _ in deployed.weighted()
        for name in op.inputs[1:]
    ]
    assert fitted.result.summary.fitted.parameters == sum(held)


def test_every_weight_obeys_its_structure_and_the_plan_says_which(fitted, deployed):
    dense = trace(load_model("digits_resnet").module.eval(), torch.zeros(1, 1, 8, 8), name="d")
    sparse = narrowed = 0
    for row in fitted.result.summary.plan:
        weight = deployed.tensors[deployed.producer[row.op].inputs[1]]
        texts = row.structure.split(", ") if row.structure else []
        removals = [t for t in texts if t.startswith("channel@")]
        rest = [t for t in texts if t not in removals]
        assert [weight.structure] == (rest or [None])
        if weight.structure is not None:
            structure = parse(weight.structure)
            assert structure.check(torch.from_numpy(weight.data)) is None
            # the rate is real: the non-zeros are as few as the text says, but for rounding up
            assert np.count_nonzero(weight.data) / weight.size <= 1 / structure.rate + 0.05
            sparse += 1
        filters = dense.tensors[f"{row.op}.weight"].shape[0]
        kept = int(np.ceil(filters / parse(removals[0]).rate)) if removals else filters
        assert weight.shape[0] == kept
        narrowed += kept < filters
        assert row.weight_shape == dense.tensors[f"{row.op}.weight"].shape
        assert weight.quantisation.bits == row.bits
    assert sparse or narrowed


def test_bit_exactness_was_really_tried(fitted, deployed, subject):
    verification = fitted.result.summary.verification
    assert verification.bit_exact and verification.max_abs_error == 0
    assert 0 < verification.samples <= len(subject.data.test)
    assert verification.reference == "integer reference"
    x = subject.data.test.inputs[:8].numpy()
    assert np.array_equal(fitted.result.program.run(x), integer_scores(deployed, x))


def test_a_program_that_differs_is_refused(fitted, subject, monkeypatch):
    from cofit.core import VerificationError
    from cofit.fit import evidence

    program = fitted.result.program
    honest = program.run

    class Wrong:
        graph = program.graph

        @staticmethod
        def run(x):
            found = honest(x).copy()
            found[-1, -1] += 1
            return found

    with pytest.raises(VerificationError, match="1 of 160 outputs"):
        evidence.verify_program(Wrong, subject, True)
    assert evidence.verify_program(program, subject, True).bit_exact


def test_the_torch_model_lowers_to_the_deployed_graph(fitted, deployed, subject):
    model = fitted.result.model
    bits = {row.op: row.bits for row in fitted.result.summary.plan}
    low = Lowering("int8", subject.calibration).lower(model.to_graph(), bits)
    assert low.tensors.keys() == deployed.tensors.keys()
    for name, tensor in low.tensors.items():
        assert tensor.quantisation == deployed.tensors[name].quantisation
        assert np.array_equal(tensor.data, deployed.tensors[name].data)
    x = subject.data.test.inputs[:64]
    with torch.no_grad():
        found = model(x).numpy()
    assert np.abs(integer_scores(deployed, x.numpy()) - found).max() < 0.15 * np.abs(found).max()
    assert not model.training


def test_the_best_of_what_was_tried_was_chosen_on_validation(fitted, deployed, subject):
    summary = fitted.result.summary
    assert summary.search.rounds == len(summary.tried) >= 1
    validation = subject.data.validation
    accuracy = right(integer_scores(deployed, validation.inputs.numpy()), validation) / len(
        validation
    )
    assert summary.search.validation_fitted == accuracy
    limits = {row.metric: row.limit for row in summary.limits}

    def key(tried):
        over = max(tried.latency_s / limits["latency"], tried.flash_bytes / limits["flash"], 1)
        drop = summary.search.validation_dense - tried.accuracy - limits["accuracy_drop"]
        return over, max(drop, 0), -tried.accuracy, tried.latency_s

    best = min(summary.tried, key=key)
    assert best.accuracy == accuracy
    assert (best.flash_bytes, best.latency_s) == (
        summary.fitted.flash_bytes, summary.fitted.latency_s,
    )  # fmt: skip


def test_nothing_looks_at_the_test_split_before_the_end(fitted, monkeypatch, tmp_path):
    """With a useless test split, the same network comes out; only its test accuracy differs."""
    from cofit.data import Split

    honest = load_subject(fitted.config)
    data = honest.data
    spoilt = Split(data.test.inputs.flip(0), data.test.targets)
    bad = type(data)(data.name, data.train, data.validation, spoilt, data.classes,
                     augment=data.augment)  # fmt: skip
    subject = type(honest)(honest.name, honest.module, bad, honest.augment, honest.untrained)
    found = run_fit(tiny(tmp_path / "out"), subject=subject).summary
    expected = fitted.result.summary
    assert found.accuracy_given < expected.accuracy_given
    assert found.fitted.accuracy < expected.fitted.accuracy
    for field in ("plan", "tried", "search", "memory"):
        assert getattr(found, field) == getattr(expected, field)
    assert found.fitted.flash_bytes == expected.fitted.flash_bytes


def test_search_states_a_proven_bound(fitted):
    search = fitted.result.summary.search
    assert 0 < search.bound <= search.loss
    assert 0 <= search.gap <= 1e-6
    assert search.gap == (search.loss - search.bound) / search.loss  # removals in both


def test_sizes_of_the_splits(fitted):
    data, row = load("digits"), fitted.result.summary.data
    assert (row.train, row.validation, row.test) == (
        len(data.train), len(data.validation), len(data.test),
    )  # fmt: skip


def test_memory_blocks_live_apart_within_the_arena(fitted):
    memory = fitted.result.summary.memory
    assert memory.arena_bytes <= fitted.result.summary.fitted.ram_bytes
    for a in memory.blocks:
        assert a.offset_bytes + a.nbytes <= memory.arena_bytes
        assert 0 <= a.first <= a.last <= len(memory.steps)
        for b in memory.blocks:
            together = a is not b and a.first <= b.last and b.first <= a.last
            apart = (
                a.offset_bytes + a.nbytes <= b.offset_bytes
                or b.offset_bytes + b.nbytes <= a.offset_bytes
            )
            assert apart or not together


def test_device_and_versions_are_stated(fitted):
    summary = fitted.result.summary
    assert summary.target == "cortex-m4:" + default_board("cortex-m4").name
    assert summary.device["clock"] == f"{board('stm32f446').clock_hz / 1e6:g} MHz"
    assert summary.versions["cofit"] == cofit.__version__
    assert summary.versions["torch"].split("+")[0] == torch.__version__.split("+")[0]


def test_progress_ends_every_stage_it_begins(fitted):
    last = {}
    for stage, done, total in fitted.stages:
        assert 0 <= done <= total
        last[stage] = (done, total)
    assert all(done == total for done, total in last.values())
    assert fitted.stages[-1][0] == "conclude"


def test_threads_of_the_caller_are_left_alone(fitted):
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        run_fit(fitted.config)  # everything is stored; only the end is done again
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
