"""Record what ZigZag says of random layers: `python tools/zigzag_layers.py FILE.csv`.

Needs zigzag-dse and six in the environment. Takes up to a minute per row; rows that are there
already are kept.
"""

import csv
import random
import sys
import tempfile
from pathlib import Path

import zigzag
from zigzag.api import get_hardware_performance_zigzag

INPUTS = Path(zigzag.__file__).parent / "inputs"
MAPPINGS = {
    "tpu_like": "tpu_like",
    "edge_tpu_like": "edge_tpu_like",
    "meta_prototype": "meta_prototype_like",
}
SIZES = ("k", "c", "y", "x", "r", "s", "stride")
COLUMNS = ("hardware", *SIZES, "energy_pj", "cycles")
FIRST = (64, 32, 16, 16, 3, 3, 1)


def layers(count: int) -> list[tuple[int, ...]]:
    """One known layer and some random ones, all different, sizes in the order of `SIZES`."""
    draw = random.Random(20)
    made = [FIRST]
    while len(made) <= count:
        kernel = draw.choice((1, 3, 3, 5))
        pixels = draw.choice((7, 8, 14, 16, 28, 32, 56))
        k = draw.choice((16, 24, 32, 64, 96, 128, 256))
        c = draw.choice((3, 16, 24, 32, 64, 128, 256))
        sizes = (k, c, pixels, pixels, kernel, kernel, draw.choice((1, 1, 2)))
        if sizes not in made:
            made.append(sizes)
    return made


def workload(k: int, c: int, y: int, x: int, r: int, s: int, stride: int) -> list[dict]:
    """An int8 convolution with sums of 16 bits."""
    return [
        {
            "id": 0,
            "name": "Conv",
            "operator_type": "Conv",
            "equation": "O[b][g][k][oy][ox]+=W[g][k][c][fy][fx]*I[b][g][c][iy][ix]",
            "dimension_relations": [f"ix={stride}*ox+1*fx", f"iy={stride}*oy+1*fy"],
            "loop_dims": ["B", "K", "G", "OX", "OY", "C", "FX", "FY"],
            "loop_sizes": [1, k, 1, x, y, c, s, r],
            "operand_precision": {"W": 8, "I": 8, "O": 16, "O_final": 8},
            "operand_source": {"I": 0, "W": 0},
        }
    ]


def measure(hardware: str, sizes: tuple[int, ...]) -> tuple[float, float]:
    """Energy (pJ) and cycles of the mapping with the least energy times delay."""
    with tempfile.TemporaryDirectory() as folder:
        energy, cycles, _ = get_hardware_performance_zigzag(
            workload(*sizes),
            str(INPUTS / "hardware" / f"{hardware}.yaml"),
            str(INPUTS / "mapping" / f"{MAPPINGS[hardware]}.yaml"),
            opt="EDP",
            dump_folder=folder,
            loma_show_progress_bar=False,
        )
    return float(energy), float(cycles)


def main() -> None:
    """Append the rows that are missing."""
    path = Path(sys.argv[1])
    with path.open(newline="") as file:
        done = {tuple(row[: len(SIZES) + 1]) for row in csv.reader(file)}
    with path.open("a", newline="") as file:
        for sizes in layers(20):
            for hardware in MAPPINGS:
                if (hardware, *map(str, sizes)) not in done:
                    row = (hardware, *sizes, *measure(hardware, sizes))
                    csv.writer(file, lineterminator="\n").writerow(row)
                    file.flush()


if __name__ == "__main__":
    main()
