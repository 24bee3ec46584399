"""Speed of the array simulator, the long way: every plane, slice and group through a converter.

`python -m benchmarks.arrays [--json FILE]`

A layer of 512 x 512 weights at 256 positions, 8-bit inputs one bit at a time, weights in four
slices of 2 bits, by rows summed at once; one thread, best of several runs, by the clock and by the
processor.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch

from benchmarks.stamp import stamp
from cofit.core import torch_generator, write_json
from cofit.targets.arrays import ArraySpec, Clip, program

SIZE, POSITIONS, RUNS = 512, 256, 5
GROUPS = (128, 64, 16, 8)
BAR_S = 1.0


def seconds(group: int) -> dict[str, float]:
    """Best times of all positions of one layer."""
    spec = ArraySpec(group=group)
    generator = torch_generator(0, "benchmark", group)
    matrix = torch.randint(-128, 128, (SIZE, SIZE), generator=generator)
    x = torch.randint(256, (POSITIONS, SIZE), generator=generator)
    layer = program(matrix, spec, Clip(spec.lossless_bits()))
    clock, processor = [], []
    for _ in range(RUNS):
        begin, used = time.perf_counter(), time.process_time()
        sums = layer.multiply(x, fast=False)
        clock.append(time.perf_counter() - begin)
        processor.append(time.process_time() - used)
    assert torch.equal(sums, x @ matrix)
    return {"clock": min(clock), "processor": min(processor)}


def main() -> None:
    """Print, and write where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    times = {group: seconds(group) for group in GROUPS}
    for group, taken in times.items():
        print(
            f"{SIZE} x {SIZE}, {POSITIONS} positions, {group} rows to a group: "
            f"{taken['clock']:.3f} s, of the processor {taken['processor']:.3f} s (bar {BAR_S:g} s)"
        )
    if chosen.json:
        write_json(chosen.json, {"stamp": stamp(), "seconds": times})


if __name__ == "__main__":
    main()
