"""Energy of a multiply-accumulate by how many bits of its streamed operand toggle."""

from __future__ import annotations

import numpy as np

from cofit.reproductions.hamming_codesign.flips import Codes

MAC_ENERGY = (0.0, 245.0, 399.0, 504.0, 561.0, 644.0, 727.0, 810.0, 893.0)
"""Mean toggles of an 8x8 multiplier with 24-bit accumulator per cycle, the other operand held.

By bits toggled, 0 to 6: zero-delay gate-level simulation, yosys and the Nangate 45 nm cells. 7 and
8 continue the last difference. Concave: few bits cost more than their share.
"""

_TABLE = np.array(MAC_ENERGY)


def mac_energy(passed: Codes) -> float:
    """Energy while rows (K, C) pass in the order given, relative units."""
    toggled = np.bitwise_count(passed[1:] ^ passed[:-1])
    return float(_TABLE[toggled].sum())
