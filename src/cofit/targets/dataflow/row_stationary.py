"""Row-stationary dataflow of Eyeriss in closed form (Chen, ISCA 2016; DNN-Chip Predictor).

A unit keeps a row of weights and slides it over a row of input; a set of R by E1 units makes E1
rows of output. Loops are cut in four: 0 within a unit, 1 over sets of units, 2 from the buffer, 3
from DRAM. Input and sums pass the buffer, weights go from DRAM to the units.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cofit.core import TargetError
from cofit.targets.dataflow.cost import array_share, mac_energy_pj, stored_bits
from cofit.targets.dataflow.hardware import Hardware
from cofit.targets.dataflow.layer import TENSORS, Array, Layer, Layers
from cofit.targets.dataflow.mapped import Mapped


@dataclass(frozen=True, eq=False)
class Factors:
    """How a layer is cut, (P,) arrays; products at least cover the layer.

    Attributes:
        n0: images at a time in the buffer.
        n3: passes over them.
        m0: filters in a unit.
        m1: filters over sets of units.
        m2: filters from the buffer.
        m3: filters from DRAM.
        c0: channels in a unit.
        c1: channels over sets of units.
        c2: channels from the buffer; kernels with more rows than the array fold into it.
        e1: output rows over units.
        e3: output rows from DRAM.
    """

    n0: Array
    n3: Array
    m0: Array
    m1: Array
    m2: Array
    m3: Array
    c0: Array
    c1: Array
    c2: Array
    e1: Array
    e3: Array

    def select(self, index: NDArray[np.intp]) -> Factors:
        """Some of the points."""
        return Factors(**{name: column[index] for name, column in vars(self).items()})


def cycles(layer: Layer, f: Factors) -> Array:
    """Steps of the array (P,); everything that is not spread over units follows in time."""
    return layer.groups * f.n3 * f.n0 * f.m3 * f.m2 * f.m0 * f.c2 * f.c0 * f.e3 * layer.x * layer.s


def traffic(layer: Layer, f: Factors, input_size: tuple[int, int]) -> dict[tuple[str, str], Array]:
    """Words moved by (level, tensor), (P,) each; outputs count reads and writes.

    Args:
        layer: the layer.
        f: its cuts.
        input_size: rows and columns of input that are stored.
    """
    rows, columns = input_size
    words = layer.elements
    weight, output = words["weight"], words["output"]
    inputs = layer.n * layer.c * rows * columns
    r, s, e, width = layer.r, layer.s, layer.y, layer.x
    noc_input = f.m3 * f.m2 * f.m1 * (r * e / rows) * inputs
    noc_weight = f.n3 * f.e3 * f.e1 * weight
    ones = np.ones_like(f.n0)
    return {
        ("dram", "input"): f.m3 * inputs,
        ("dram", "weight"): f.n3 * f.e3 * weight,
        ("dram", "output"): ones * output,
        ("buffer", "input"): f.m3 * f.m2 * inputs,
        ("buffer", "output"): np.maximum(2 * (f.c2 - 1), 1) * output,
        ("noc", "input"): noc_input,
        ("noc", "weight"): noc_weight,
        ("noc", "output"): np.maximum(f.c2 * (f.c1 * r - 1), 1) * output,
        ("rf", "input"): noc_input * f.m0 * (s * width / columns),
        ("rf", "weight"): noc_weight * width * f.n0,
        ("rf", "output"): np.maximum(2 * f.c2 * f.c1 * r * (f.c0 * s - 1), 1) * output,
    }


def energy_pj(
    moved: Mapping[tuple[str, str], Array], price_pj: Mapping[tuple[str, str], float]
) -> Array:
    """Energy of moving words (P,); prices per word by (level, tensor)."""
    total = sum(words * price_pj[place] for place, words in moved.items())
    return np.asarray(total)


def buffer_words(layer: Layer, f: Factors) -> Array:
    """Words of input and sums that the buffer holds (P,)."""
    rows = (f.e1 - 1) * layer.stride[0] + layer.r
    columns = (layer.x - 1) * layer.stride[1] + layer.s
    inputs = f.n0 * f.c0 * f.c1 * rows * columns
    return inputs + f.n0 * f.m0 * f.m1 * f.m2 * f.e1 * layer.x


def packed(layer: Layer, f: Factors, rows: int, columns: int) -> NDArray[np.bool_]:
    """Whether the sets of min(R, rows) by E1 units fit side by side on the array.

    A set that is wider than the array is cut into strips, which stand above each other.
    """
    stacked = rows // min(layer.r, rows)
    beside = np.maximum(columns // f.e1, 1)
    strips = np.ceil(f.e1 / columns)
    return np.asarray(f.m1 * f.c1 * strips <= stacked * beside)


def map_rows(layer: Layer, hardware: Hardware, objective: str = "edp") -> Mapped:
    """The best row-stationary mapping of a layer.

    Args:
        layer: to be mapped.
        hardware: whose axes are rows and columns of units, with memories of level 0 for each
            tensor, a buffer for input and output, and DRAM.
        objective: "edp", "energy" or "cycles".

    Raises:
        TargetError: no cut fits.
    """
    rows, columns = (axis.size for axis in hardware.axes)
    buffer = hardware.chain("input")[1]
    f = _candidates(layer, hardware)
    fits = packed(layer, f, rows, columns)
    fits &= buffer_words(layer, f) * layer.bits_input <= buffer.bits
    index = np.flatnonzero(fits)
    if not len(index):
        raise TargetError(
            f"no row-stationary mapping of layer {layer.name!r} fits the {rows} x {columns} units "
            f"and the buffer {buffer.name!r} of {hardware.name}"
        )
    f = f.select(index)
    moved = traffic(layer, f, layer.input_size)
    columns_of = Layers.of([layer])
    steps = np.asarray(cycles(layer, f) * array_share(columns_of, hardware))
    price = _prices(columns_of, hardware)
    stored = sum(
        moved["dram", tensor] * stored_bits(columns_of, hardware, tensor, hardware.dram)
        for tensor in TENSORS
    )
    link = hardware.dram.read_bits_per_cycle
    dram_cycles = np.zeros_like(steps) if link is None else np.asarray(stored / link)
    taken = np.maximum(steps, dram_cycles)
    energy = energy_pj(moved, price) + mac_energy_pj(columns_of, hardware)
    energy = np.asarray(energy + hardware.leakage_w * 1e12 / hardware.clock_hz * taken)
    scores = {"edp": taken * energy, "energy": energy, "cycles": taken}
    best = int(np.argmin(scores[objective]))
    return Mapped(
        layer=layer,
        cycles=float(taken[best]),
        energy_pj=float(energy[best]),
        utilisation=float(layer.macs / (taken[best] * hardware.units)),
        bound="compute" if steps[best] >= dram_cycles[best] else hardware.dram.name,
        steps=float(steps[best]),
        dram={tensor: float(moved["dram", tensor][best]) for tensor in TENSORS},
        text=" ".join(f"{name} {column[best]:g}" for name, column in vars(f).items()),
        points=len(steps),
    )


def _prices(layers: Layers, hardware: Hardware) -> dict[tuple[str, str], float]:
    """Energy of a word (pJ) by (level, tensor)."""
    buffer = hardware.chain("input")[1]
    prices = {}
    for tensor in TENSORS:
        bits = layers.bits["psum" if tensor == "output" else tensor]
        dram = hardware.dram.read_pj_per_bit * stored_bits(layers, hardware, tensor, hardware.dram)
        hop = hardware.psum_pj_per_bit if tensor == "output" else hardware.noc_pj_per_bit
        prices["dram", tensor] = dram
        prices["buffer", tensor] = buffer.read_pj_per_bit * bits
        prices["noc", tensor] = hop * bits
        prices["rf", tensor] = hardware.chain(tensor)[0].read_pj_per_bit * bits
    return {place: float(np.min(price)) for place, price in prices.items()}


def _candidates(layer: Layer, hardware: Hardware) -> Factors:
    """Cuts whose registers fit a unit and whose sets may fit the array."""
    rows, columns = (axis.size for axis in hardware.axes)
    room = {tensor: float(np.min(hardware.chain(tensor)[0].bits)) for tensor in TENSORS}
    inputs = int(room["input"] // layer.bits_input)
    weights = int(room["weight"] // layer.bits_weight)
    sums = int(room["output"] // layer.bits_psum)
    taps = min(layer.s, inputs)
    folds = -(-layer.r // rows)
    _, _, k, c, e, _, _, _ = layer.sizes
    sets = rows // min(layer.r, rows) * columns
    grid = np.meshgrid(
        parts(layer.n, layer.n),
        parts(k, min(sums, weights // taps)),
        parts(k, sets),
        parts(k, k),
        parts(c, inputs // taps),
        parts(c, sets),
        parts(e, sets),
        indexing="ij",
    )
    n0, m0, m1, m2, c0, c1, e1 = (axis.ravel() for axis in grid)
    keep = (m0 * c0 * taps <= weights) & (m1 * c1 <= sets)
    keep &= (m0 * m1 * m2 < k + m0 * m1) & (c0 * c1 < c + c0)
    n0, m0, m1, m2, c0, c1, e1 = (a[keep] for a in (n0, m0, m1, m2, c0, c1, e1))
    return Factors(
        n0=n0,
        n3=np.ceil(layer.n / n0),
        m0=m0,
        m1=m1,
        m2=m2,
        m3=np.ceil(k / (m0 * m1 * m2)),
        c0=c0,
        c1=c1,
        c2=np.ceil(c / (c0 * c1)) * folds,
        e1=e1,
        e3=np.ceil(e / e1),
    )


def parts(size: int, most: int) -> Array:
    """Sizes up to `most` that cut `size` into equal parts, or nearly: few parts and few sizes."""
    counts = {-(-size // n) for n in (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)}
    small = {n for n in (1, 2, 3, 4, 6, 8, 12, 16) if n <= size}
    return np.array(sorted(n for n in counts | small if n <= max(most, 1)), float)
