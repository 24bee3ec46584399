"""What the commands print and write is what the rooms below compute."""

import json
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import nets
import numpy as np
import pytest
import torch
from cli_run import Run
from safetensors.torch import load_file, save_file

from cofit.codegen.build import toolchain
from cofit.data import known_data, load
from cofit.fit.precision import Lowering
from cofit.graphs import known_graphs
from cofit.ir import trace
from cofit.models import known_models
from cofit.reproductions import known_reproductions
from cofit.structures import known_families, parse
from cofit.targets import known_targets, target


@pytest.mark.parametrize("words", ["['--version']", "['--help']", "['fit', '--help']", "['fitt']"])
def test_start_needs_no_torch(words: str) -> None:
    code = (
        f"import sys; import cofit; from cofit.cli import main; main({words}); "
        "assert not {'torch', 'numpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_version_and_help(cofit: Run) -> None:
    assert cofit("--version").out == "cofit 0.1.0\n"
    for words in ((), ("--help",)):
        ran = cofit(*words)
        assert ran.status == 0
        assert "doctor" in ran.out


def test_cost_is_the_targets(cofit: Run) -> None:
    words = ("cost", "nets:tiny", "--targets", "cortex-m4,host", "--data", "digits")
    ran = cofit(*words, "--per-op", "--json")
    assert (ran.status, ran.err) == (0, "")
    document = json.loads(ran.out)
    board, host = document["targets"]
    assert (board["precision"], board["basis"]) == ("int8", "emulated")
    assert (host["precision"], host["basis"]) == ("fp32", "measured")
    inputs = load("digits").train.inputs[:512]
    graph = trace(nets.tiny(), inputs[:1], "nets_tiny")
    cost = target("cortex-m4").cost(Lowering("int8", inputs).lower(graph))
    assert board["target"] == cost.target == "cortex-m4:stm32f446"
    assert board["instructions"] == cost.instructions
    assert board["flash_bytes"] == cost.flash_bytes
    assert board["ram_bytes"] == cost.ram_bytes
    assert board["latency_s"] == pytest.approx(cost.latency_s, rel=1e-12)
    for row in (board, host):
        assert sum(r["latency_s"] for r in row["rows"]) == pytest.approx(row["latency_s"])
        assert sum(r["macs"] for r in row["rows"]) == row["macs"] == cost.macs
    assert document["notes"] == ["int8 is calibrated on 512 training inputs of digits"]


def test_cost_says_what_its_figures_depend_on(cofit: Run) -> None:
    out = cofit("cost", "digits_resnet", "--targets", "cortex-m4").out
    assert "weights are random" in out
    assert "calibrated on 64 random inputs" in out
    assert "calibrated" not in cofit("cost", "digits_resnet", "--targets", "host").out


def test_cost_of_a_network_too_large_for_one_target(cofit: Run) -> None:
    ran = cofit("cost", "nets:Wide", "--targets", "host,cortex-m4")
    assert ran.status == 0
    assert "524288" in ran.out and "measured" in ran.out
    document = json.loads(cofit("cost", "nets:Wide", "--targets", "host,cortex-m4", "--json").out)
    assert "flash" in document["targets"][1]["error"]


def test_compiled_program_computes_the_network(cofit: Run) -> None:
    net = nets.Tiny()
    save_file(net.state_dict(), "w.safetensors")
    weights = ("--weights", "w.safetensors")
    assert cofit("compile", "nets:tiny", *weights, "--target", "host", "--out", "p").status == 0
    x = load("digits").test.inputs[:5]
    np.save("x.npy", x.numpy())
    np.savez("x.npz", x.numpy())
    ran = cofit("run", "p", "x.npy", "--out", "y.npy", "--json")
    with torch.no_grad():
        expected = net(x).numpy()
    np.testing.assert_allclose(np.load("y.npy"), expected, rtol=1e-4, atol=1e-5)
    rows = json.loads(ran.out)["outputs"]
    assert [row["top"] for row in rows] == expected.argmax(1).tolist()
    lines = cofit("run", "p", "x.npz").out.splitlines()
    assert [line.split()[:4] for line in lines] == [
        ["input", f"{i}:", "class", f"{k},"] for i, k in enumerate(expected.argmax(1))
    ]


def test_structure_is_projected_where_it_applies(cofit: Run) -> None:
    structure = parse("block8x1@4")
    words = ("compile", "digits_resnet", "--target", "host", "--out")
    ran = cofit(*words, "pruned", "--structure", structure.text)
    assert cofit(*words, "dense").status == 0
    dense, pruned = (load_file(f"{f}/graph.safetensors") for f in ("dense", "pruned"))
    layers = [name for name in dense if name.endswith("weight")]
    same = {name for name in layers if torch.equal(dense[name], pruned[name])}
    assert same == {"conv1.weight", "linear.weight"}
    for name in set(layers) - same:
        assert torch.equal(pruned[name], structure.project(dense[name]))
    assert ran.out.count(structure.text) == len(layers) - 2
    assert "first layer: kept dense" in ran.out and "last layer: kept dense" in ran.out


def test_weights_of_a_recurrent_layer_are_projected_too(cofit: Run) -> None:
    words = ("compile", "gru_speech", "--target", "host", "--out", "p", "--structure")
    ran = cofit(*words, "bsp32x32@4")
    assert ran.status == 0 and ran.out.count("bsp32x32@4") == 1
    weights = load_file("p/graph.safetensors")
    hidden = next(values for name, values in weights.items() if "weight_hh" in name)
    assert parse("bsp32x32@4").check(hidden) is None


def test_program_replaces_a_program_only(cofit: Run) -> None:
    words = ("compile", "nets:tiny", "--target", "host", "--compiler", "zig", "--out")
    assert cofit(*words, "p").status == 0
    assert cofit(*words, "p").status == 0
    Path("mine").mkdir()
    Path("mine/notes.txt").write_text("x")
    assert cofit(*words, "mine").status == 2
    assert [p.name for p in Path("mine").iterdir()] == ["notes.txt"]


def test_lists_name_everything(cofit: Run) -> None:
    names = {
        "targets": known_targets(),
        "structures": known_families(),
        "models": [entry.name for entry in known_models()],
        "data": [source.name for source in (*known_data(), *known_graphs())],
        "reproductions": known_reproductions(),
    }
    for what, known in names.items():
        lines = cofit("list", what).out.splitlines()
        assert set(known) <= {line.split()[0] for line in lines if line}


def test_graphs_are_listed_with_their_sizes(
    cofit: Run, data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cora = ["cora", "2,708", "5,278", "1,433", "7"]
    monkeypatch.setenv("COFIT_DATA", str(data_dir))
    assert [*cora, "yes"] in [line.split()[:6] for line in cofit("list", "data").out.splitlines()]
    monkeypatch.setenv("COFIT_DATA", str(tmp_path))
    monkeypatch.setattr("cofit.data.locate.cache_dir", lambda: tmp_path)
    assert [*cora, "no,"] in [line.split()[:6] for line in cofit("list", "data").out.splitlines()]


def test_doctor_finds_what_is_missing(cofit: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    ran = cofit("doctor")
    assert (ran.status, "cofit works here" in ran.out) == (0, True)
    real = metadata.version

    def version(name: str) -> str:
        if name == "ziglang":
            raise metadata.PackageNotFoundError(name)
        return real(name)

    toolchain.cache_clear()
    monkeypatch.setattr(metadata, "version", version)
    try:
        ran = cofit("doctor")
    finally:
        toolchain.cache_clear()
    assert ran.status == 2
    assert "pip install ziglang" in ran.out and "does not work here" in ran.out


def test_doctor_tries_to_write_the_cache(cofit: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("taken").write_text("x")
    monkeypatch.setenv("COFIT_CACHE", str(Path("taken/cache").absolute()))
    ran = cofit("doctor")
    assert ran.status == 2
    assert "failed: cannot write" in ran.out


def test_cost_as_a_plot(cofit: Run) -> None:
    words = ("cost", "nets:tiny", "--targets", "eyeriss,forms,cortex-m4,host")
    ran = cofit(*words, "--plot", "cost.svg")
    assert "plot: cost.svg" in ran.out and ran.err == ""
    drawn = Path("cost.svg").read_text()
    document = json.loads(cofit(*words, "--json", "--plot", "again.svg").out)
    assert [row["basis"] for row in document["targets"]] == [
        "modelled", "modelled", "emulated", "measured",
    ]  # fmt: skip
    # a patch per stated latency and energy, in the colour of its basis, and one in the legend
    assert drawn.count("fill: #d6604d") == 2 * 2 + 1
    assert drawn.count("fill: #1b9e9e") == drawn.count("fill: #2166ac") == 1 + 1
    ran = cofit(*words, "--plot", "cost.txt")
    assert ran.status == 2 and "must end in .svg, .png, .pdf" in ran.err
