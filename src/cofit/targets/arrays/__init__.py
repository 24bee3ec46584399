"""In-memory compute arrays: what they compute, bit by bit, and what that costs."""

from cofit.targets.arrays.activity import Activity, activity, full_activity, input_cycles
from cofit.targets.arrays.adc import Adc, Clip, Table, Uniform, fitted_table
from cofit.targets.arrays.crossbar_chip import CrossbarChip
from cofit.targets.arrays.crossbars import Crossbar, used_matrix
from cofit.targets.arrays.matrix import Matrix, MatrixCost, matrices_of
from cofit.targets.arrays.multiply import Programmed, program
from cofit.targets.arrays.schemes import Stored, store, weight_range
from cofit.targets.arrays.spec import SCHEMES, ArraySpec, Scheme, cells_per_weight
from cofit.targets.arrays.tables import crossbar_chip, forms, read_crossbar_chip
from cofit.targets.arrays.variation import Variation

__all__ = [
    "SCHEMES",
    "Activity",
    "Adc",
    "ArraySpec",
    "Clip",
    "Crossbar",
    "CrossbarChip",
    "Matrix",
    "MatrixCost",
    "Programmed",
    "Scheme",
    "Stored",
    "Table",
    "Uniform",
    "Variation",
    "activity",
    "cells_per_weight",
    "crossbar_chip",
    "fitted_table",
    "forms",
    "full_activity",
    "input_cycles",
    "matrices_of",
    "program",
    "read_crossbar_chip",
    "store",
    "used_matrix",
    "weight_range",
]
