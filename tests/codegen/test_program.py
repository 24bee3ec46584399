"""Programs as users meet them: run, measure, save, load."""

import dataclasses
import shutil
import subprocess

import numpy as np
import pytest
import torch
from layers import Builder

from cofit.codegen import compile, load_program, machine
from cofit.codegen.cortex_m import board
from cofit.core import Basis, FileError, ModelError, read_json, write_json
from cofit.ir import attributes, run_float

pytestmark = pytest.mark.device


def graph(name="tiny-net"):
    b = Builder(name, (1, 3, 8, 8), np.random.default_rng(0))
    y = b.conv("x", 8, 3, padding=(1, 1, 1, 1), fused="relu")
    y = b.add(attributes.GlobalMean(keep=False), y)
    return b.graph(b.linear(y, 5))


@pytest.fixture(scope="module")
def program():
    return compile(graph())


def images(count):
    return np.random.default_rng(1).standard_normal((count, 3, 8, 8), np.float32)


def test_a_batch_gives_what_its_images_give(program):
    x = images(4)
    whole = program.run(x)
    assert whole.shape == (4, 5)
    assert np.array_equal(whole, np.concatenate([program.run(x[i : i + 1]) for i in range(4)]))
    assert program.run(x[:0]).shape == (0, 5)


def test_inputs_of_any_memory_order_are_taken(program):
    x = images(2)
    assert np.array_equal(program.run(np.asfortranarray(x)), program.run(x))
    assert np.array_equal(program.run(x.astype(np.float64)), program.run(x))


def test_a_wrong_shape_is_told(program):
    with pytest.raises(ModelError, match=r"takes inputs \('N', 3, 8, 8\), got \(2, 3, 8, 7\)"):
        program.run(images(2)[..., :7])


def test_a_native_float_program_computes_the_same(program):
    native = compile(graph(), dataclasses.replace(machine("host"), io="native"))
    assert np.array_equal(native.run(images(3)), program.run(images(3)))
    expected = run_float(graph(), {"x": torch.from_numpy(images(3))})[graph().outputs[0]]
    np.testing.assert_allclose(program.run(images(3)), expected.numpy(), rtol=1e-4, atol=1e-5)


def test_a_measurement_covers_every_step(program):
    found = program.measure(repeats=15)
    assert list(found.per_step_s) == [step.name for step in program.source.steps]
    assert found.basis is Basis.MEASURED and found.repeats == 15
    assert 0 < found.minimum_s <= found.latency_s <= found.p95_s
    assert all(seconds >= 0 for seconds in found.per_step_s.values())


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_a_saved_program_tests_itself_and_loads_again(program, tmp_path):
    folder = tmp_path / "deploy"
    program.save(folder)
    program.save(folder)  # a saved program may be replaced
    run = subprocess.run(["make", "-C", folder], capture_output=True, text=True, check=False)
    assert run.returncode == 0 and "0 of 5 outputs differ" in run.stdout, run.stderr
    main = (folder / "main.c").read_text()
    marker = "expected[5] __attribute__((aligned(16))) = {\n    "
    assert marker in main
    (folder / "main.c").write_text(main.replace(marker, marker + "1e3 + "))
    run = subprocess.run(["make", "-C", folder], capture_output=True, text=True, check=False)
    assert run.returncode != 0 and "1 of 5 outputs differ" in run.stdout
    assert np.array_equal(load_program(folder).run(images(2)), program.run(images(2)))


def test_the_manifest_accounts_for_every_constant(program, tmp_path):
    program.save(tmp_path / "deploy")
    manifest = read_json(tmp_path / "deploy" / "manifest.json")
    weights = 8 * 27 + 8 + 8 * 8 + 8  # five outputs are padded to one vector of eight lanes
    if program.machine.vector_floats == 8:
        assert manifest["flash"]["constant_bytes"] == 4 * weights
    assert sum(manifest["flash"]["constants"].values()) == manifest["flash"]["constant_bytes"]
    assert manifest["macs"] == 64 * 8 * 27 + 5 * 8
    assert manifest["arena_bytes"] == program.plan.arena_bytes


def on_board(board_of_it, tmp_path):
    """A Cortex-M program saved for a board and loaded again."""
    saved = compile(graph(), board_of_it.core, board=board_of_it)
    saved.save(tmp_path / "deploy")
    return saved, load_program(tmp_path / "deploy")


@pytest.mark.parametrize("name", ["nrf52840", "stm32f446"])
def test_a_program_comes_back_on_its_own_board(name, tmp_path):
    saved, loaded = on_board(board(name), tmp_path)
    assert loaded.runner.board == saved.runner.board == board(name)
    assert loaded.measure() == saved.measure()
    assert loaded.runner.linked.image.flash_bytes == saved.runner.linked.image.flash_bytes


def test_a_board_of_nobodys_list_comes_back(tmp_path):
    mine = dataclasses.replace(board("stm32f446"), name="mine", clock_hz=1e6, ram_bytes=64_000)
    _, loaded = on_board(mine, tmp_path)
    assert loaded.runner.board == mine


def test_a_program_saved_before_boards_were_runs_on_the_default_one(tmp_path):
    on_board(board("nrf52840"), tmp_path)
    path = tmp_path / "deploy" / "manifest.json"
    manifest = read_json(path)
    assert manifest.pop("board")["name"] == "nrf52840"
    write_json(path, manifest)
    assert load_program(tmp_path / "deploy").runner.board == board("stm32f446")


@pytest.mark.parametrize(
    ("damage", "text"),
    [
        ({"flash_bytes": "lots"}, r"damaged \(board: flash_bytes\)"),
        ({"core": "cortex-m7"}, "'nrf52840' has a cortex-m7, the machine is cortex-m4"),
    ],
)
def test_a_damaged_board_is_refused(damage, text, tmp_path):
    on_board(board("nrf52840"), tmp_path)
    path = tmp_path / "deploy" / "manifest.json"
    manifest = read_json(path)
    write_json(path, {**manifest, "board": {**manifest["board"], **damage}})
    with pytest.raises(FileError, match=text):
        load_program(tmp_path / "deploy")


def test_a_damaged_or_foreign_folder_is_refused(program, tmp_path):
    program.save(tmp_path / "deploy")
    manifest = read_json(tmp_path / "deploy" / "manifest.json")
    write_json(tmp_path / "deploy" / "manifest.json", {**manifest, "version": 99})
    with pytest.raises(FileError, match="not a saved program"):
        load_program(tmp_path / "deploy")
    with pytest.raises(FileError, match="is not a saved program"):
        load_program(tmp_path / "nothing")
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "holiday.jpg").write_text("dear")
    with pytest.raises(FileError, match="exists and is not a saved program"):
        program.save(tmp_path / "photos")
    assert [p.name for p in (tmp_path / "photos").iterdir()] == ["holiday.jpg"]


def test_a_save_that_fails_leaves_the_folder_as_it_was(program, tmp_path, monkeypatch):
    program.save(tmp_path / "deploy")
    before = {p.name: p.read_bytes() for p in (tmp_path / "deploy").iterdir()}

    def full(*_: object) -> None:
        raise FileError("cannot write: the disk is full")

    monkeypatch.setattr("cofit.codegen.save.save_graph", full)
    with pytest.raises(FileError, match="disk is full"):
        program.save(tmp_path / "deploy")
    assert {p.name: p.read_bytes() for p in (tmp_path / "deploy").iterdir()} == before
    assert [p.name for p in tmp_path.iterdir()] == ["deploy"]
