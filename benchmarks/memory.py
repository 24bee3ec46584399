"""Speed of the DRAM simulator: lookups per second by a host, and by units in eight ranks.

`python -m benchmarks.memory [--json FILE]`

A million lookups of 64 B by Zipf's law in a table of a million rows, pooled by 80; one thread, best
of several runs, and of the processor's time beside the clock's.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from benchmarks.stamp import stamp
from cofit.core import numpy_generator, write_json
from cofit.targets.memory import (
    bags_of,
    memory_system,
    packets,
    place,
    simulate_host,
    simulate_near,
    zipf_stream,
)

ROWS = LOOKUPS = 1_000_000
RUNS = 5
BAR = 1e6


def rates() -> dict[str, dict[str, float]]:
    """Lookups per second of both simulators."""
    stream = zipf_stream(ROWS, 0.9, LOOKUPS, numpy_generator(0, "benchmark", "stream"))
    bags = bags_of([stream], [ROWS], 80, 128)
    placement = place(bags.rows, 64, memory_system(), numpy_generator(0, "benchmark", "pages"))
    order = packets(bags, memory_system().near.poolings_per_packet)
    found = {}
    for name, run in (("host", simulate_host), ("8 ranks", simulate_near)):
        clock, processor = [], []
        for _ in range(RUNS):
            begin, used = time.perf_counter(), time.process_time()
            run(order, placement)
            clock.append(time.perf_counter() - begin)
            processor.append(time.process_time() - used)
        found[name] = {
            "clock": bags.lookups / min(clock), "processor": bags.lookups / min(processor),
        }  # fmt: skip
    return found


def main() -> None:
    """Print, and write where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    found = rates()
    for name, rate in found.items():
        print(
            f"{name}: {rate['clock']:,.0f} lookups per second, by the processor's time "
            f"{rate['processor']:,.0f} (bar {BAR:,.0f})"
        )
    if chosen.json:
        write_json(chosen.json, {"stamp": stamp(), "lookups_per_s": found})


if __name__ == "__main__":
    main()
