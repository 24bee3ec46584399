"""A small accelerator, small layers, and mappings of them drawn at random."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from cofit.core import numpy_generator
from cofit.targets.dataflow import DIMS, TENSORS, Axis, Hardware, Layer, Memory, Nest


def toy(**changed: object) -> Hardware:
    """A small accelerator with simple numbers."""
    made = Hardware(
        name="toy",
        axes=(Axis(4, (DIMS.index("K"),)), Axis(2, (DIMS.index("C"),))),
        memories=(
            Memory("rf_w", 0, ("weight",), 256, 0.1, 0.1),
            Memory("rf_i", 0, ("input",), 256, 0.1, 0.1),
            Memory("rf_o", 0, ("output",), 256, 0.1, 0.1),
            Memory("l2", 1, TENSORS, 16384, 0.5, 0.5, 64, 64, double_buffered=True),
            Memory("dram", 2, TENSORS, np.inf, 10, 10, 16, 16, one_port=True),
        ),
        clock_hz=1e9,
        mac_pj=0.2,
    )
    return replace(made, **changed)  # type: ignore[arg-type]


def small_layers(count: int) -> list[Layer]:
    draw = numpy_generator(0, "accelerator layers")
    made = []
    for _ in range(count):
        groups = int(draw.integers(1, 3))
        k, c, y, x, n = (int(v) for v in draw.integers(1, 20, 5))
        r, s, sy, sx = (int(v) for v in draw.integers(1, 4, 4))
        made.append(
            Layer(
                n=min(n, 3), k=k * groups, c=c * groups, y=y, x=x, r=r, s=s, groups=groups,
                stride=(sy, sx), bits_psum=16,
            )
        )  # fmt: skip
    return made


def random_nests(layer: Layer, count: int, tag: str, spatial: bool = True) -> Nest:
    """Mappings with three levels of loops in one random order; most do not fit anywhere."""
    draw = numpy_generator(1, "nests", tag, *layer.sizes)
    loops = [(level, dim) for level in range(3) for dim in draw.permutation(len(DIMS)).tolist()]
    trips = np.ones((len(loops), count))
    units = {2: np.ones(count), 3: np.ones(count)}
    for point in range(count):
        for dim, size in enumerate(layer.sizes):
            left = size
            if spatial and dim in units:
                units[dim][point] = draw.integers(1, min(size, 4 if dim == 2 else 2) + 1)
                left = -(-left // int(units[dim][point]))
            for level in (0, 1):
                tile = int(draw.integers(1, left + 1))
                trips[loops.index((level, dim)), point] = tile
                left = -(-left // tile)
            trips[loops.index((2, dim)), point] = left
    return Nest(tuple(loops), trips, units if spatial else {})
