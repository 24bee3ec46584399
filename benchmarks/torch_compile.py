"""A network under torch.compile: eager, inductor and cofit, dense and pruned in blocks.

`python -m benchmarks.torch_compile [MODEL] [--weights FILE] [--structure block16x1@8]`

All contenders are timed in turn in one run, from one torch tensor to another, so that each pays
for PyTorch's guards; one thread. A ratio is the latency of the faster of eager and inductor on the
same weights over that of cofit: above one, cofit is faster. Without --weights the values are
random, which time does not depend on. Inductor needs a C++ compiler and minutes; its row says so
where it has none.
"""

from __future__ import annotations

import argparse
import copy
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import nn

from benchmarks.stamp import stamp
from cofit.core import CofitError, torch_generator
from cofit.core.files import write_json
from cofit.fit.peers import race
from cofit.models import load_model
from cofit.structures import parse

BACKENDS = ("eager", "inductor", "cofit")


@dataclass(frozen=True)
class Row:
    """One contender; the error is the largest difference from eager, over the largest output."""

    weights: str
    backend: str
    batch: int
    latency_s: float | None
    ratio: float | None
    relative_error: float | None
    note: str


def pruned(network: nn.Module, structure: str) -> nn.Module:
    """A copy with all layers but the first and the last projected, where they can be."""
    form, result = parse(structure), copy.deepcopy(network)
    layers = [m for m in result.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    with torch.no_grad():
        for layer in layers[1:-1]:
            grouped = getattr(layer, "groups", 1) > 1
            if not grouped and form.applies(tuple(layer.weight.shape)) is None:
                layer.weight.copy_(form.project(layer.weight))
    return result


def measure(networks: dict[str, nn.Module], x: torch.Tensor) -> list[Row]:
    """Time every network under every backend."""
    calls: dict[tuple[str, str], Callable[[np.ndarray], np.ndarray]] = {}
    errors: dict[tuple[str, str], float] = {}
    notes: dict[tuple[str, str], str] = {}
    for weights, network in networks.items():
        wanted = network(x)
        for backend in BACKENDS:
            key = (weights, backend)
            run = network if backend == "eager" else torch.compile(network, backend=backend)
            try:
                errors[key] = float((run(x) - wanted).abs().max() / wanted.abs().max())
            except Exception as error:  # inductor raises what its compiler happens to raise
                notes[key] = (str(error).strip() or type(error).__name__).splitlines()[0]
                continue
            calls[key] = lambda array, run=run: run(torch.from_numpy(array)).numpy()
    named = {"/".join(key): call for key, call in calls.items()}
    seconds = race(named, x.numpy())
    rows = []
    for weights in networks:
        found = {b: seconds.get(f"{weights}/{b}") for b in BACKENDS}
        others = [s for b, s in found.items() if b != "cofit" and s is not None]
        for backend, latency_s in found.items():
            key = (weights, backend)
            ratio = min(others) / latency_s if backend == "cofit" and latency_s else None
            rows.append(
                Row(weights, backend, len(x), latency_s, ratio, errors.get(key),
                    notes.get(key, ""))
            )  # fmt: skip
    return rows


def table(rows: list[Row], title: str) -> Table:
    """For people."""
    shown = Table(title=title)
    for column in ("weights", "backend", "ms", "best other / cofit", "error", "note"):
        shown.add_column(column, justify="right" if column in ("ms", "error") else "left")
    for row in rows:
        shown.add_row(
            row.weights, row.backend,
            "–" if row.latency_s is None else f"{row.latency_s * 1e3:.3f}",
            "" if row.ratio is None else f"{row.ratio:.2f}",
            "–" if row.relative_error is None else f"{row.relative_error:.1e}", row.note,
        )  # fmt: skip
    return shown


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", nargs="?", default="resnet20", help="see `cofit list models`")
    parser.add_argument("--weights", type=Path, help="safetensors; random weights without it")
    parser.add_argument("--structure", default="block16x1@8")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--json", type=Path, help="file to write the results to")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    try:
        loaded = load_model(arguments.model, arguments.weights)
        network = loaded.module.eval()
        networks = {"dense": network, arguments.structure: pruned(network, arguments.structure)}
    except CofitError as error:
        parser.error(str(error))
    assert loaded.input_shape is not None
    shape = (arguments.batch, *loaded.input_shape)
    with torch.no_grad():
        rows = measure(networks, torch.rand(shape, generator=torch_generator(0, "inputs")))
    title = f"{loaded.name}, batch {arguments.batch}, one thread, interleaved"
    Console(width=max(Console().width, 100)).print(table(rows, title))
    if arguments.json is not None:
        run = {"model": loaded.name, "load": ", ".join(f"{v:.1f}" for v in os.getloadavg())}
        write_json(arguments.json, {"stamp": stamp() | run, "rows": [asdict(row) for row in rows]})


if __name__ == "__main__":
    main()
