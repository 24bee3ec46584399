"""Floor 0: errors, units, seeds, safe files, and the Budget and Cost value types.

Everything above imports from here; this room imports nothing of cofit.
"""

from cofit.core.budget import Budget, Limit
from cofit.core.cost import Basis, Cost, CostRow, SharedCode
from cofit.core.errors import (
    BudgetError,
    BuildError,
    CofitError,
    CommunicationError,
    ConfigError,
    DataError,
    EmulationError,
    FileError,
    InfeasibleError,
    MissingDependencyError,
    ModelError,
    StructureError,
    TargetError,
    UnknownNameError,
    UnsupportedOpError,
    VerificationError,
)
from cofit.core.files import (
    atomic_write,
    cache_dir,
    clear_unfinished,
    read_json,
    read_tensors,
    write_json,
    write_tensors,
)
from cofit.core.seeds import derive_seed, numpy_generator, torch_generator
from cofit.core.units import format_quantity, parse_quantity

__all__ = [
    "Basis",
    "Budget",
    "BudgetError",
    "BuildError",
    "CofitError",
    "CommunicationError",
    "ConfigError",
    "Cost",
    "CostRow",
    "DataError",
    "EmulationError",
    "FileError",
    "InfeasibleError",
    "Limit",
    "MissingDependencyError",
    "ModelError",
    "SharedCode",
    "StructureError",
    "TargetError",
    "UnknownNameError",
    "UnsupportedOpError",
    "VerificationError",
    "atomic_write",
    "cache_dir",
    "clear_unfinished",
    "derive_seed",
    "format_quantity",
    "numpy_generator",
    "parse_quantity",
    "read_json",
    "read_tensors",
    "torch_generator",
    "write_json",
    "write_tensors",
]
