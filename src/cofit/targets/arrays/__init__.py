"""In-memory compute arrays: what they compute, bit by bit, and what that costs."""

from cofit.targets.arrays.activity import Activity, activity, full_activity, input_cycles
from cofit.targets.arrays.adc import Adc, Clip, Table, Uniform, fitted_table
from cofit.targets.arrays.crossbars import Crossbar, used_matrix
from cofit.targets.arrays.multiply import Programmed, program
from cofit.targets.arrays.schemes import Stored, store, weight_range
from cofit.targets.arrays.spec import SCHEMES, ArraySpec, Scheme, cells_per_weight
from cofit.targets.arrays.variation import Variation

__all__ = [
    "SCHEMES",
    "Activity",
    "Adc",
    "ArraySpec",
    "Clip",
    "Crossbar",
    "Programmed",
    "Scheme",
    "Stored",
    "Table",
    "Uniform",
    "Variation",
    "activity",
    "cells_per_weight",
    "full_activity",
    "input_cycles",
    "program",
    "fitted_table",
    "store",
    "used_matrix",
    "weight_range",
]
