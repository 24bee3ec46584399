"""Our programs against other runtimes on this machine: networks and layers, dense and pruned.

`python -m benchmarks.host [--json FILE] [--networks NAME ...] [--quick] [--figure FILE]
[--threads N] [--tune]`

All contenders of a network are called in turn in one run, batch 1, one thread, from a float32 array
to another, so that each pays for its own conversions. Seconds are those of the processor (all
threads), so other work on the machine disturbs them little; with several threads, the same number
for every contender, they are those of the clock, which need an idle machine. A ratio is the best
dense peer of any precision over ours: above one we are faster; its limit is what the left-out
multiply-accumulates alone would give. Masks are random, at the rate in the structure's name; the
first and the last layer stay dense, and linear layers, which have no kernels to give a pattern to,
then carry blocks. The single layers are those of host_layers.csv.
"""

from __future__ import annotations

import argparse
import csv
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.bars import Bar, bars
from benchmarks.masks import masked
from benchmarks.peers import lowered, mac_ratio, ratio
from benchmarks.stamp import stamp
from cofit.codegen import compile as compile_program
from cofit.core import numpy_generator, torch_generator, write_json
from cofit.fit.runtimes import Call, runtimes
from cofit.ir import DType, Graph, Op, Tensor, trace
from cofit.ir import attributes as at
from cofit.ir.shapes import output_shape
from cofit.models import load_model

LAYERS = Path(__file__).with_name("host_layers.csv")
STRUCTURES = {
    "fp32": ("dense", "block32x1@8", "block16x1@8", "pattern8g4@8", "pattern8g1@8"),
    "int8": ("dense", "block32x4@8", "block16x2@8"),
}
LINEAR = {"fp32": "block32x1@8", "int8": "block32x4@8"}
BARS = {
    ("vgg16", "block32x1@8"): 6.0, ("vgg16", "pattern8g4@8"): 4.0, ("vgg16", "pattern8g1@8"): 2.6,
    ("resnet18", "block32x1@8"): 4.5, ("vgg16_cifar", "block32x1@8"): 5.0,
    ("gru 3072x1024", "block32x1@10"): 12.0,
}  # fmt: skip
"""What we want of fp32 programs, as ratios."""

NETWORKS = ("vgg16", "resnet18", "vgg16_cifar", "resnet20")
SAMPLES = 8
SERIES_S = 0.004
SETTLE_S = 0.02  # after which the waiting threads of another contender sleep
WARM_S = 0.02  # of calls before the first that counts: cores that slept are slower for so long
ROUNDS_S = {False: 25.0, True: 6.0}
LEAST_ROUNDS = 5


@dataclass(frozen=True)
class Row:
    """One contender; a peer has no structure, ratio or limit.

    `seconds` is the median over rounds, `least_s` the minimum; `ratio` is of medians,
    `ratio_same_precision` against the best peer of the same precision only.
    """

    case: str
    contender: str
    precision: str
    structure: str | None
    seconds: float
    least_s: float
    ratio: float | None
    ratio_same_precision: float | None
    limit: float | None
    bar: float | None


def network_cases(name: str) -> tuple[Graph, torch.Tensor]:
    """A known network with random weights, and inputs."""
    loaded = load_model(name, None)
    assert loaded.input_shape is not None
    generator = torch_generator(0, "host", name)
    x = loaded.preprocess(torch.rand(SAMPLES, *loaded.input_shape, generator=generator))
    return trace(loaded.module, x[:1], name), x


def layer_case(row: Mapping[str, str]) -> tuple[Graph, torch.Tensor]:
    """A graph of one layer of the table, with relu unless it is recurrent, and inputs.

    Of a recurrent layer `height` is the number of steps and `outputs` that of units.
    """
    c, h, k, r = (int(row[key]) for key in ("channels", "height", "outputs", "kernel"))
    attributes: at.Attributes = at.Linear(fused="relu")
    shape, weights = (1, c), [(k, c)]
    if row["kind"] == "conv2d":
        attributes = at.Conv2d(padding=(r // 2,) * 4, fused="relu")
        shape, weights = (1, c, h, h), [(k, c, r, r)]
    elif row["kind"] == "gru":
        attributes = at.Gru()
        shape, weights = (1, h, c), [(3 * k, c), (3 * k, k)]
    rng = numpy_generator(0, "host", row["case"])
    random = [rng.standard_normal(s) / np.sqrt(np.prod(s[1:])) for s in weights]
    biases = [np.zeros(s[0]) for s in weights]
    constants = [
        Tensor(f"c{i}", value.shape, DType.F32, data=value.astype(np.float32))
        for i, value in enumerate([*random, *biases])
    ]
    tensors = [Tensor("x", shape, DType.F32), *constants]
    tensors.append(
        Tensor("y", output_shape(attributes, tuple(t.shape for t in tensors)), DType.F32)
    )
    op = Op("y", attributes, tuple(t.name for t in tensors[:-1]))
    graph = Graph.build("layer", ("x",), ("y",), (op,), {t.name: t for t in tensors})
    x = torch.rand(SAMPLES, *shape[1:], generator=torch_generator(0, "host", row["case"]))
    return graph, x


def measure(
    case: str, real: Graph, x: torch.Tensor, structures: Mapping[str, tuple[str, ...]], quick: bool,
    threads: int, tune: bool,
) -> list[Row]:  # fmt: skip
    """Every contender of one case."""
    programs, limits = {}, {}
    for precision, texts in structures.items():
        for text in texts:
            graph = real if text == "dense" else masked(real, (text, LINEAR[precision]))
            limits[text, precision] = mac_ratio(graph)
            named = lowered(f"p{len(programs)}", graph, precision, x)
            program = compile_program(named, verify=False, threads=threads, tune=tune)
            programs[text, precision] = program.run
    peers = runtimes(real, lowered("peer", real, "int8", x), threads)
    calls = {(p.name, p.name.rpartition(" ")[2]): p.call for p in peers if p.call is not None}
    found = race({**programs, **calls}, x[:1].numpy(), ROUNDS_S[quick], threads)
    middle = {key: statistics.median(seconds) for key, seconds in found.items()}
    rows = []
    for key, seconds in found.items():
        (name, precision), ours = key, key in programs
        same = [middle[k] for k in calls if k[1] == precision]
        rows.append(
            Row(
                case, f"cofit {name}" if ours else name, precision, name if ours else None,
                middle[key], min(seconds),
                ratio([middle[k] for k in calls], middle[key]) if ours else None,
                ratio(same, middle[key]) if ours else None,
                limits[key] if ours else None,
                BARS.get((case, name)) if precision == "fp32" else None,
            )
        )  # fmt: skip
    return rows


def race(
    calls: Mapping[tuple[str, str], Call], x: NDArray[np.float32], length_s: float, threads: int
) -> dict[tuple[str, str], list[float]]:
    """Seconds of a call in each of many rounds, A/B/A/B."""
    clock = time.process_time if threads == 1 else time.perf_counter
    repeats = {}
    for key, call in calls.items():
        call(x)
        repeats[key] = max(1, round(SERIES_S / max(_series(call, x, 1, clock), 1e-7)))
    found: dict[tuple[str, str], list[float]] = {key: [] for key in calls}
    end = time.monotonic() + length_s
    while time.monotonic() < end or len(next(iter(found.values()))) < LEAST_ROUNDS:
        for key, call in calls.items():
            if threads > 1:
                time.sleep(SETTLE_S)
            warm = time.monotonic() + (WARM_S if threads > 1 else 0.0)
            if repeats[key] > 1 or threads > 1:
                call(x)  # brings code and weights back into the caches, and wakes threads
            while time.monotonic() < warm:
                call(x)
            found[key].append(_series(call, x, repeats[key], clock))
    return found


def _series(call: Call, x: NDArray[np.float32], repeats: int, clock: Callable[[], float]) -> float:
    started = clock()
    for _ in range(repeats):
        call(x)
    return (clock() - started) / repeats


def table(rows: list[Row]) -> str:
    """For people."""

    def cell(value: float | None) -> str:
        return "–" if value is None else f"{value:.2f}"

    lines = [f"{'':16}{'':30}{'ms':>10}{'best/this':>11}{'same prec.':>11}{'limit':>7}{'bar':>6}"]
    lines += [
        f"{row.case:16}{f'{row.contender} {row.precision}' if row.structure else row.contender:30}"
        f"{row.seconds * 1e3:10.3f}{cell(row.ratio):>11}{cell(row.ratio_same_precision):>11}"
        f"{cell(row.limit):>7}{cell(row.bar):>6}"
        for row in rows
    ]
    return "\n".join(lines)


def figure(rows: list[Row], threads: int) -> str:
    """Ratios of our programs to peers of their precision as bars, each with its limit."""
    ours = [row for row in rows if row.ratio_same_precision is not None]
    return bars(
        f"Speed against the best dense runtime of the same precision, {spelled(threads)}",
        [
            Bar(f"{r.case} {r.structure} {r.precision}", r.ratio_same_precision or 0.0, r.limit)
            for r in ours
        ],
    )


def spelled(threads: int) -> str:
    return "one thread" if threads == 1 else f"{threads} threads"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", type=Path, help="file to write the results to")
    parser.add_argument(
        "--networks", nargs="*", default=[*NETWORKS, "layers"],
        help=f"of {', '.join(NETWORKS)}, layers",
    )  # fmt: skip
    parser.add_argument("--layer", default="", help="only the layers whose names begin so")
    parser.add_argument("--precisions", nargs="+", choices=tuple(STRUCTURES), default=None)
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    parser.add_argument("--threads", type=int, default=1, help="of every contender")
    parser.add_argument("--tune", action="store_true", help="as `cofit compile --tune`")
    parser.add_argument("--figure", type=Path, help="SVG file to draw the ratios to")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    wanted = arguments.precisions or tuple(STRUCTURES)
    structures = {p: STRUCTURES[p] for p in wanted}
    how = arguments.quick, arguments.threads, arguments.tune
    rows: list[Row] = []
    for name in arguments.networks:
        if name == "layers":
            for line in csv.DictReader(LAYERS.read_text().splitlines()):
                texts = {p: tuple(line[p].split()) for p in wanted if line[p]}
                if not texts or not line["case"].startswith(arguments.layer):
                    continue
                rows += measure(line["case"], *layer_case(line), texts, *how)
        else:
            rows += measure(name, *network_cases(name), structures, *how)
        print(table([row for row in rows if name == "layers" or row.case == name]), flush=True)
    if arguments.json is not None:
        write_json(
            arguments.json,
            {
                "stamp": stamp() | {"threads": arguments.threads, "tuned": arguments.tune},
                "rows": [asdict(row) for row in rows],
            },
        )
    if arguments.figure is not None:
        arguments.figure.write_text(figure(rows, arguments.threads), encoding="utf-8")


if __name__ == "__main__":
    main()
