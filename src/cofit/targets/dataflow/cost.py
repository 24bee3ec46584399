"""Traffic, energy, cycles and feasibility of batches of (layer, accelerator, mapping) points.

Time: every memory above the array, and the network into it, needs its bits over its bandwidth; the
array needs its steps. Where buffers are double, these overlap: the slowest of them decides, and to
the array's time the first tile's way in and the last one's way out are added. A memory that is not
double-buffered adds its time to the array's.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from cofit.targets.dataflow.hardware import Hardware, Memory
from cofit.targets.dataflow.layer import RELEVANT, TENSORS, Array, Layers
from cofit.targets.dataflow.nest import WINDOW, Nest, Reuse, covered, reuse, tile_elements

OPERANDS = ("weight", "input")


@dataclass(frozen=True, eq=False)
class Costs:
    """Cost of each point, (P,) arrays.

    Attributes:
        cycles: of the layer; infinite where the mapping does not fit.
        energy_pj: likewise.
        utilisation: useful multiply-accumulates over those the array could do in `cycles`.
        bound: index into `bounds` of what decides the cycles.
        feasible: whether tiles fit their memories and the array.
        bounds: "compute" and the names of memories.
        reads: elements read from a memory, by (memory, tensor).
        writes: elements written to a memory, by (memory, tensor).
        held_bits: in use of a memory below DRAM, by name; twice the tile if it is double-buffered.
        noc_bits: between the array and what feeds it; a value for many units counts once.
    """

    cycles: Array
    energy_pj: Array
    utilisation: Array
    bound: Array
    feasible: Array
    bounds: tuple[str, ...]
    reads: dict[tuple[str, str], Array] = field(default_factory=dict)
    writes: dict[tuple[str, str], Array] = field(default_factory=dict)
    held_bits: dict[str, Array] = field(default_factory=dict)
    noc_bits: Array | float = 0.0

    @property
    def edp(self) -> Array:
        """Energy times cycles (pJ cycles)."""
        return self.energy_pj * self.cycles


@dataclass(eq=False)
class _Traffic:
    """Sums over tensors, by memory name.

    Attributes:
        reads: elements by (memory, tensor).
        writes: likewise.
        read_bits: by memory.
        write_bits: likewise.
        unit_bits: that arrive at units or leave them.
        noc_bits: between the array and what feeds it; a value for many units counts once.
        serial: cycles of filling buffers that are not double.
    """

    reads: dict[tuple[str, str], Array] = field(default_factory=dict)
    writes: dict[tuple[str, str], Array] = field(default_factory=dict)
    read_bits: dict[str, Array] = field(default_factory=dict)
    write_bits: dict[str, Array] = field(default_factory=dict)
    unit_bits: Array | float = 0.0
    noc_bits: Array | float = 0.0
    serial: Array | float = 0.0

    def read(self, memory: Memory, tensor: str, elements: Array, bits: Array) -> None:
        """Elements read from a memory, and their bits."""
        key = (memory.name, tensor)
        self.reads[key] = self.reads.get(key, 0.0) + elements
        self.read_bits[memory.name] = self.read_bits.get(memory.name, 0.0) + bits

    def write(self, memory: Memory, tensor: str, elements: Array, bits: Array) -> None:
        """Elements written to a memory, and their bits."""
        key = (memory.name, tensor)
        self.writes[key] = self.writes.get(key, 0.0) + elements
        self.write_bits[memory.name] = self.write_bits.get(memory.name, 0.0) + bits


def evaluate(layers: Layers, nest: Nest, hardware: Hardware) -> Costs:
    """Cost of every point; some thousand at once are fastest, they stay in the processor's cache.

    Args:
        layers: one column per point, or a single one.
        nest: one mapping per point.
        hardware: numbers may be arrays with an entry per point.
    """
    traffic = _Traffic()
    walks = {tensor: reuse(nest, tensor, hardware.levels) for tensor in TENSORS}
    for tensor in TENSORS:
        move = _move_output if tensor == "output" else _move_operand
        move(layers, nest, hardware, walks[tensor], tensor, traffic)
    held = _held(layers, nest, hardware, walks)
    feasible = _fits(layers, nest, hardware, held)
    cycles, bound, bounds = _cycles(layers, nest, hardware, traffic)
    energy = _energy(layers, hardware, traffic, cycles)
    infinite = np.where(feasible, 0.0, np.inf)
    cycles, energy = cycles + infinite, energy + infinite
    return Costs(
        cycles,
        energy,
        layers.macs / (cycles * hardware.units),
        bound,
        feasible,
        bounds,
        traffic.reads,
        traffic.writes,
        held,
        traffic.noc_bits,
    )


def _copies(nest: Nest, tensor: str, shared: tuple[int, ...]) -> Array | float:
    """Units that hold the same elements of a tensor, if each that does not share has its own."""
    total: Array | float = 1.0
    for dim, units in nest.spatial.items():
        if dim not in RELEVANT[tensor] and dim not in shared:
            total = total * units
    return total


def _links(hardware: Hardware, tensor: str) -> list[tuple[Memory | None, Memory]]:
    """Neighbours on the way of a tensor, inner first; None is the multipliers."""
    chain = hardware.chain(tensor)
    return list(zip((None, *chain[:-1]), chain, strict=True))


def _visits(walk: Reuse, child: Memory | None, parent: Memory) -> Array:
    if child is not None:
        return walk.visits[child.level]
    return walk.visits[-1] if parent.latched else walk.unlatched


def _move_operand(
    layers: Layers,
    nest: Nest,
    hardware: Hardware,
    walk: Reuse,
    tensor: str,
    traffic: _Traffic,
) -> None:
    """Weights or input on their way to the multipliers."""
    for child, parent in _links(hardware, tensor):
        level = -1 if child is None else child.level
        visits = _visits(walk, child, parent)
        sweep = walk.sweep[level] if nest.halo_reuse else None
        apart = covered(layers, tensor, _window(nest, level, False), sweep) * visits
        copies = 1.0 if level > 0 else _copies(nest, tensor, child.shared_over if child else ())
        if level > 0:
            taken = apart
        elif parent.level == 0:
            taken = apart * _copies(nest, tensor, parent.shared_over)
        elif hardware.multicast:
            taken = covered(layers, tensor, _window(nest, level, True), sweep) * visits
        else:
            taken = apart * copies
        bits = layers.bits[tensor]
        traffic.read(parent, tensor, taken, taken * stored_bits(layers, hardware, tensor, parent))
        if child is not None:
            traffic.write(child, tensor, apart * copies, apart * copies * bits)
            if level > 0 and not child.double_buffered and parent.read_bits_per_cycle is not None:
                traffic.serial = traffic.serial + taken * bits / parent.read_bits_per_cycle
        if level <= 0 < parent.level:
            traffic.unit_bits = traffic.unit_bits + apart * copies * bits
            traffic.noc_bits = traffic.noc_bits + taken * bits


def _move_output(
    layers: Layers,
    nest: Nest,
    hardware: Hardware,
    walk: Reuse,
    tensor: str,
    traffic: _Traffic,
) -> None:
    """Sums on their way out; those that are not finished come back, except at first."""
    elements = covered(layers, tensor, {})
    psum = layers.bits["psum"]
    for child, parent in _links(hardware, tensor):
        level = -1 if child is None else child.level
        leaving = elements * _visits(walk, child, parent)
        copies = 1.0 if level > 0 else _copies(nest, tensor, child.shared_over if child else ())
        kept = _copies(nest, tensor, parent.shared_over) if parent.level == 0 else 1.0
        if parent.level == 0:
            written = leaving * kept
        else:
            written = leaving if hardware.reduces else leaving * copies
        back = written - elements * kept
        final = psum if parent.level == 0 else stored_bits(layers, hardware, tensor, parent)
        finished = elements * kept
        traffic.write(parent, tensor, written, back * psum + finished * final)
        traffic.read(parent, tensor, back, back * psum)
        if child is not None:
            out = leaving * copies
            last = psum if child.level == 0 else layers.bits[tensor]
            traffic.read(child, tensor, out, (out - elements) * psum + elements * last)
            traffic.write(child, tensor, back, back * psum)
        if level <= 0 < parent.level:
            traffic.unit_bits = traffic.unit_bits + (written + back) * psum
            traffic.noc_bits = traffic.noc_bits + (written + back) * psum


def _window(nest: Nest, level: int, spatial: bool) -> dict[int, Array | float]:
    """Tile of input by the dimensions that matter to its overlap."""
    return {dim: nest.tile(level, dim, spatial) for dim in WINDOW}


def stored_bits(layers: Layers, hardware: Hardware, tensor: str, memory: Memory) -> Array:
    """Bits per element in a memory; DRAM may hold a tensor compressed."""
    bits = layers.bits[tensor]
    if memory is hardware.dram and "compressed" in hardware.sparse.get(tensor, ()):
        return np.minimum(bits, layers.density[tensor] * (bits + hardware.index_bits))
    return bits


def _held(
    layers: Layers, nest: Nest, hardware: Hardware, walks: dict[str, Reuse]
) -> dict[str, Array]:
    """Bits in use of each memory below DRAM."""
    held = {}
    for memory in hardware.memories[:-1]:
        total = np.zeros(nest.trips.shape[1])
        for tensor in memory.tensors:
            total = total + _held_bits(layers, nest, hardware, memory, tensor, walks[tensor])
        held[memory.name] = total
    return held


def _fits(layers: Layers, nest: Nest, hardware: Hardware, held: dict[str, Array]) -> Array:
    """Whether units and tiles are within what there is, and the nest covers the layer."""
    fits = np.asarray(nest.units <= hardware.units)
    for dim, size in enumerate(layers.sizes):
        fits = fits & (nest.tile(hardware.levels - 1, dim) >= size)
    for memory in hardware.memories[:-1]:
        fits = fits & (held[memory.name] <= memory.bits)
    return fits


def _held_bits(
    layers: Layers, nest: Nest, hardware: Hardware, memory: Memory, tensor: str, walk: Reuse
) -> Array:
    """Bits of a tile in a memory; twice where the next tile comes while this one is used."""
    elements = tile_elements(layers, tensor, nest, memory.level)
    bits = layers.bits[tensor]
    if tensor == "output":
        below = [m.level for m in hardware.chain(tensor) if m.level < memory.level]
        again = walk.visits[max(below)] > 1 if below else True
        bits = np.where(again, layers.bits["psum"], bits)
    if not memory.double_buffered:
        return elements * bits
    sides: Array | bool = False
    for dim in RELEVANT[tensor]:
        sides = sides | (nest.tile(memory.level, dim) < layers.sizes[dim])
    return elements * bits * np.where(sides, 2.0, 1.0)


def _cycles(
    layers: Layers, nest: Nest, hardware: Hardware, traffic: _Traffic
) -> tuple[Array, Array, tuple[str, ...]]:
    """Cycles, what decides them, and the names of what may."""
    array = nest.steps * array_share(layers, hardware)
    times = [array + traffic.serial + _ends(layers, nest, hardware)]
    bounds = ["compute"]
    for memory in hardware.memories:
        time = _port_time(memory, traffic)
        if memory.level > 0 and time is not None:
            times.append(time)
            bounds.append(memory.name)
    if hardware.noc_bits_per_cycle is not None:
        times.append(np.asarray(traffic.noc_bits / hardware.noc_bits_per_cycle))
        bounds.append("noc")
    stacked = np.stack(np.broadcast_arrays(*times))
    return stacked.max(axis=0), stacked.argmax(axis=0), tuple(bounds)


def array_share(layers: Layers, hardware: Hardware) -> Array:
    """Cycles per step: passes that wide operands need, less the zeros that are skipped."""
    share = _passes(layers, hardware)
    for tensor in OPERANDS:
        if "skipped" in hardware.sparse.get(tensor, ()):
            share = share * layers.density[tensor]
    return share


def mac_energy_pj(layers: Layers, hardware: Hardware) -> Array:
    """Energy of the multiply-accumulates (P,); those with a zero that is gated cost none."""
    macs = layers.macs * _passes(layers, hardware)
    for tensor in OPERANDS:
        if {"gated", "skipped"} & set(hardware.sparse.get(tensor, ())):
            macs = macs * layers.density[tensor]
    energy: Array = macs * hardware.mac_pj
    return energy


def _passes(layers: Layers, hardware: Hardware) -> Array:
    """Passes through a multiplier of limited width."""
    width = hardware.mac_bits
    return np.ceil(layers.bits["weight"] / width) * np.ceil(layers.bits["input"] / width)


def _ends(layers: Layers, nest: Nest, hardware: Hardware) -> Array | float:
    """Cycles in which the array waits for its first tiles, or for its last one to leave."""
    total: Array | float = 0.0
    for tensor in TENSORS:
        for child, parent in _links(hardware, tensor):
            if parent.level == 0 or parent.read_bits_per_cycle is None:
                continue
            level = 0 if child is None else child.level
            if tensor == "output":  # finished elements leave one array tile at a time
                level = 0
            elements = tile_elements(layers, tensor, nest, level, spatial=True)
            total = total + elements * layers.bits[tensor] / parent.read_bits_per_cycle
    if hardware.systolic:
        total = total + sum((units - 1 for units in nest.spatial.values()), 0.0)
    return total


def _port_time(memory: Memory, traffic: _Traffic) -> Array | None:
    """Cycles that the ports of a memory are busy, None where they do not limit."""
    read, write = memory.read_bits_per_cycle, memory.write_bits_per_cycle
    if read is None or write is None:
        return None
    reads = traffic.read_bits[memory.name] / read
    writes = traffic.write_bits[memory.name] / write
    return reads + writes if memory.one_port else np.maximum(reads, writes)


def _energy(layers: Layers, hardware: Hardware, traffic: _Traffic, cycles: Array) -> Array:
    """Picojoules of each point."""
    energy = mac_energy_pj(layers, hardware) + traffic.unit_bits * hardware.noc_pj_per_bit
    for memory in hardware.memories:
        energy = energy + traffic.read_bits[memory.name] * memory.read_pj_per_bit
        energy = energy + traffic.write_bits[memory.name] * memory.write_pj_per_bit
    return energy + hardware.leakage_w * 1e12 / hardware.clock_hz * cycles
