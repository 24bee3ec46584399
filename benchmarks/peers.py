"""Our programs against other runtimes, whole networks: `python -m benchmarks.peers MODEL`.

Dense and blockwise pruned programs of ours, and every installed runtime on the dense network, timed
in turn in one run, one thread, batch 1. A ratio is the latency of the best peer over ours: above
one we are faster. Its limit is what the left-out multiply-accumulates alone would give.
"""

from __future__ import annotations

import argparse
import os
import platform
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

import numpy as np
import torch

from cofit.codegen import Program, compile
from cofit.core import CofitError, torch_generator, write_json
from cofit.fit.peers import race
from cofit.fit.runtimes import runtimes
from cofit.ir import Graph, calibrate, kept_macs, macs, quantise, trace
from cofit.models import Loaded, known_models, load_model
from cofit.structures import parse
from cofit.targets import cpu_name

STRUCTURES = ("block16x1@4", "block16x1@8")
SAMPLES = 64


@dataclass(frozen=True)
class Row:
    """One runtime; ratios are against the best peer of all, and of the same precision."""

    name: str
    latency_s: float | None
    ratio: float | None
    ratio_same_precision: float | None
    limit: float | None
    note: str


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", help=", ".join(entry.name for entry in known_models()))
    parser.add_argument("--weights", type=Path, help="safetensors; random weights without it")
    parser.add_argument("--json", type=Path, help="file for the same numbers")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    try:
        loaded = load_model(arguments.model, arguments.weights)
        rows = measure(loaded)
    except CofitError as error:
        parser.error(str(error))
    stamp = make_stamp(loaded)
    print("  ".join(f"{key}: {value}" for key, value in stamp.items()), end="\n\n")
    print(table(rows))
    if arguments.json is not None:
        write_json(arguments.json, {**stamp, "rows": [asdict(row) for row in rows]})


def measure(loaded: Loaded) -> list[Row]:
    assert loaded.input_shape is not None
    random = torch.rand(SAMPLES, *loaded.input_shape, generator=torch_generator(0, "inputs"))
    x = loaded.preprocess(random)
    real = trace(loaded.module, x)
    ours = {
        f"cofit {label} {precision}": compile(lowered(f"{precision}_{i}", graph, precision, x))
        for i, (label, graph) in enumerate(variants(real).items())
        for precision in ("fp32", "int8")
    }
    peers = {peer.name: peer for peer in runtimes(real, lowered("peer", real, "int8", x))}
    calls = {name: peer.call for name, peer in peers.items() if peer.call is not None}
    programs = {name: program.run for name, program in ours.items()}
    seconds = race({**programs, **calls}, np.ascontiguousarray(x[:1].numpy()))
    rows = []
    for name in (*ours, *peers):
        precision, latency_s = name.rpartition(" ")[2], seconds.get(name)
        same = [seconds[n] for n in calls if n.endswith(precision)]
        rows.append(
            Row(
                name=name,
                latency_s=latency_s,
                ratio=ratio([seconds[n] for n in calls], latency_s),
                ratio_same_precision=ratio(same, latency_s),
                limit=mac_ratio(ours[name].graph) if name in ours else None,
                note=slowest(ours[name]) if name in ours else peers[name].note,
            )
        )
    return rows


def variants(real: Graph) -> dict[str, Graph]:
    """The dense network, and its inner layers projected to each structure."""
    found = {"dense": real}
    for text in STRUCTURES:
        structure, changed = parse(text), {}
        for op, weight in list(real.weighted())[1:-1]:
            grouped = getattr(op.attributes, "groups", 1) > 1
            if not grouped and structure.applies(weight.shape) is None:
                data = structure.project(torch.from_numpy(weight.data)).numpy()
                changed[weight.name] = replace(weight, data=data, structure=text)
        found[text] = real.with_tensors(changed)
    return found


def lowered(name: str, graph: Graph, precision: str, x: torch.Tensor) -> Graph:
    named = replace(graph, name=name)
    return named if precision == "fp32" else quantise(named, calibrate(named, [x.numpy()]))


def slowest(program: Program) -> str:
    """The step that takes the largest share: where to look first."""
    kernels = {step.name: step.kernel for step in program.source.steps}
    seconds = program.measure(repeats=15).per_step_s
    step = max(seconds, key=seconds.__getitem__)
    return f"slowest: {step}, {kernels[step]}, {seconds[step] / sum(seconds.values()):.0%}"


def ratio(peers: list[float], latency_s: float | None) -> float | None:
    return min(peers) / latency_s if peers and latency_s else None


def mac_ratio(graph: Graph) -> float:
    dense = sum(macs(graph, op) for op in graph.ops)
    return dense / max(sum(kept_macs(graph, op) for op in graph.ops), 1)


def make_stamp(loaded: Loaded) -> dict[str, str]:
    packages = ("cofit", "torch", "onnxruntime", "openvino", "ziglang")
    versions = {p: metadata.version(p) for p in packages if _installed(p)}
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    return {
        "model": loaded.name,
        "weights": "random" if loaded.fresh else "given",
        "cpu": cpu_name(),
        "threads": "1",
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "load": load,
        "python": platform.python_version(),
        **versions,
    }


def table(rows: list[Row]) -> str:
    def cell(value: float | None, scale: float = 1.0) -> str:
        return "–" if value is None else f"{value * scale:.3f}"

    lines = [f"{'':28}{'ms':>9}{'best/this':>11}{'same prec.':>11}{'limit':>8}  note"]
    lines += [
        f"{row.name:28}{cell(row.latency_s, 1e3):>9}{cell(row.ratio):>11}"
        f"{cell(row.ratio_same_precision):>11}{cell(row.limit):>8}  {row.note}"
        for row in rows
    ]
    return "\n".join(lines)


def _installed(package: str) -> bool:
    try:
        metadata.version(package)
    except metadata.PackageNotFoundError:
        return False
    return True


if __name__ == "__main__":
    main()
