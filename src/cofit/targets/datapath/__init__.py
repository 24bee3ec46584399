"""Energy of an array's data path by the bits that its operands toggle.

`sequence` says what every unit sees, cycle by cycle; `activity` counts the bits and prices them
by a table from gate-level simulation. The order in which rows of a weight are streamed is an
input, since that is what a compiler may choose.
"""

from cofit.targets.datapath.energy import Bits, Datapath, datapath, read_datapath
from cofit.targets.datapath.streams import Activity, Operands, Sequence, activity, sequence

__all__ = [
    "Activity",
    "Bits",
    "Datapath",
    "Operands",
    "Sequence",
    "activity",
    "datapath",
    "read_datapath",
    "sequence",
]
