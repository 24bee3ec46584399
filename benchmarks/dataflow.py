"""Speed of the accelerator model: points per second, and the search over a whole network.

`python -m benchmarks.dataflow [--json FILE]`

A point is one layer, one accelerator and one mapping, all three different from point to point.
Every process (one per core) costs batches of random points; seconds are wall-clock, beside those of
the processor. The search is for all layers of ResNet-18 on one accelerator, equal ones once, on one
core.
"""

from __future__ import annotations

import argparse
import os
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np

from benchmarks.stamp import stamp
from cofit.core import numpy_generator, write_json
from cofit.targets.dataflow import DIMS, Layer, Layers, Nest, accelerator, evaluate, search

POINTS_BAR = 1e6
SEARCH_BAR_S = 2.0
CORES = 2
BATCH = 8192
SECONDS = 5.0
K, C, Y, X = (DIMS.index(name) for name in "KCYX")

RESNET18 = tuple(
    Layer(k=k, c=c, y=y, x=y, r=r, s=r, stride=(s, s), bits_psum=16)
    for k, c, y, r, s in (
        (64, 3, 112, 7, 2), (64, 64, 56, 3, 1), (128, 64, 28, 3, 2), (128, 128, 28, 3, 1),
        (128, 64, 28, 1, 2), (256, 128, 14, 3, 2), (256, 256, 14, 3, 1), (256, 128, 14, 1, 2),
        (512, 256, 7, 3, 2), (512, 512, 7, 3, 1), (512, 256, 7, 1, 2), (1000, 512, 1, 1, 1),
    )
)  # fmt: skip


def points(seed: int) -> tuple[Layers, Nest, np.ndarray]:
    """Random layers with a random mapping each, and sizes of the buffer."""
    draw = numpy_generator(seed, "points")
    sizes = draw.integers((8, 8, 7, 7), (512, 512, 56, 56), (BATCH, 4))
    layers = [Layer(k=k, c=c, y=y, x=x, r=3, s=3, bits_psum=16) for k, c, y, x in sizes.tolist()]
    loops, trips = [(0, DIMS.index("S")), (0, DIMS.index("R"))], [np.full(BATCH, 3.0)] * 2
    units = {K: np.full(BATCH, 32.0), C: np.full(BATCH, 32.0)}
    outer = []
    for column, dim in enumerate((K, C, Y, X)):
        left = np.ceil(sizes[:, column] / units.get(dim, 1))
        tile = np.ceil(left * draw.random(BATCH))
        loops.append((1, dim))
        trips.append(tile)
        outer.append((dim, np.ceil(left / tile)))
    loops += [(2, dim) for dim, _ in outer]
    trips += [count for _, count in outer]
    return (
        Layers.of(layers),
        Nest(tuple(loops), np.stack(trips), units),
        2.0 ** draw.integers(16, 26, BATCH),
    )


def rate(seed: int) -> tuple[float, float]:
    """Points per second of one process, of the clock and the processor; building is not counted."""
    layers, nest, bits = points(seed)
    hardware = accelerator("tpu-like").with_memory("sram", bits=bits)
    done, begin, used = 0, time.perf_counter(), time.process_time()
    while (elapsed := time.perf_counter() - begin) < SECONDS:
        # a new nest: nothing that the last batch has computed may be used again
        costs = evaluate(layers, Nest(nest.loops, nest.trips, nest.spatial), hardware)
        done += len(costs.cycles)
    return done / elapsed, done / (time.process_time() - used)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with ProcessPoolExecutor(CORES) as pool:
        total, by_processor = map(sum, zip(*pool.map(rate, range(CORES)), strict=True))
    print(
        f"{total:,.0f} points per second on {CORES} cores, by the processors' time "
        f"{by_processor:,.0f} (bar {POINTS_BAR:,.0f})"
    )
    searches = {}
    for name in ("tpu-like", "edge"):
        begin, cpu = time.perf_counter(), time.process_time()
        tried = sum(search(layer, accelerator(name)).points for layer in RESNET18)
        searches[name] = {
            "seconds": time.perf_counter() - begin,
            "processor_seconds": time.process_time() - cpu,
            "points": tried,
        }
        print(
            f"ResNet-18 on {name}: {searches[name]['seconds']:.2f} s, of the processor "
            f"{searches[name]['processor_seconds']:.2f} s (bar {SEARCH_BAR_S:g} s), "
            f"{tried:,} points"
        )
    if chosen.json:
        write_json(
            chosen.json,
            {
                "stamp": stamp(),
                "points_per_s": total,
                "points_per_processor_s": by_processor,
                "search": searches,
            },
        )


if __name__ == "__main__":
    main()
