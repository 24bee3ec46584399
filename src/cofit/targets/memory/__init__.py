"""Memory with arithmetic beside it: embedding rows pooled in the ranks of a DRAM channel (RecNMP).

`Bags` of lookups are cut into `packets`, `place` puts tables into memory, `simulate_host` and
`simulate_near` count cycles and commands under DDR timing, `energy_of` prices them. `lru_hits`,
`hot_lookups` and `best_threshold` are the caches and the profile in front; `pool` says what the
units compute.
"""

from cofit.targets.memory.bags import Bags, bags_of, zipf_stream
from cofit.targets.memory.energy import Energy, energy_of
from cofit.targets.memory.instruction import (
    BITS,
    FIELDS,
    OPCODES,
    Instruction,
    decode,
    encode,
    pack_address,
    unpack_address,
)
from cofit.targets.memory.locality import (
    THRESHOLDS,
    batch_counts,
    best_threshold,
    hot_lookups,
    lru_hits,
    optimal_hits,
    rank_hits,
    stack_distances,
)
from cofit.targets.memory.placement import Location, Placement, place
from cofit.targets.memory.pooling import QuantisedTable, pool
from cofit.targets.memory.schedule import Order, Packets, packets
from cofit.targets.memory.simulate import COMMANDS, Run, simulate_host, simulate_near
from cofit.targets.memory.system import (
    ENERGY_SETS,
    EnergySet,
    MemorySystem,
    activate_pj,
    memory_system,
    read_burst_pj,
    read_memory,
)

__all__ = [
    "BITS",
    "COMMANDS",
    "ENERGY_SETS",
    "FIELDS",
    "OPCODES",
    "THRESHOLDS",
    "Bags",
    "Energy",
    "EnergySet",
    "Instruction",
    "Location",
    "MemorySystem",
    "Order",
    "Packets",
    "Placement",
    "QuantisedTable",
    "Run",
    "activate_pj",
    "bags_of",
    "batch_counts",
    "best_threshold",
    "decode",
    "encode",
    "energy_of",
    "hot_lookups",
    "lru_hits",
    "memory_system",
    "optimal_hits",
    "pack_address",
    "packets",
    "place",
    "pool",
    "rank_hits",
    "read_burst_pj",
    "read_memory",
    "simulate_host",
    "simulate_near",
    "stack_distances",
    "unpack_address",
    "zipf_stream",
]
