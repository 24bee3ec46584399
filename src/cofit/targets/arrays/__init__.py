"""In-memory compute arrays: what they compute, bit by bit, and what that costs."""

from cofit.targets.arrays.activity import Activity, activity, full_activity, input_cycles
from cofit.targets.arrays.adc import Adc, Clip, Table, Uniform, fitted_table
from cofit.targets.arrays.charge import (
    CHARGE,
    CURRENT,
    ChargeMacro,
    LineErrors,
    Residual,
    calibrate,
    charge_macro,
    ideal_macro,
    line_residual,
    residual,
)
from cofit.targets.arrays.charge_chip import ChargeChip, check_capacity
from cofit.targets.arrays.crossbar_chip import CrossbarChip
from cofit.targets.arrays.crossbars import Crossbar, used_matrix
from cofit.targets.arrays.digital_macro import MODES, DigitalChip, Layer, Macro, Mode
from cofit.targets.arrays.matrix import Matrix, MatrixCost, matrices_of
from cofit.targets.arrays.module import (
    AnalogLayer,
    InputGrid,
    input_grid,
    layer_inputs,
    layer_matrix,
    levels_on,
    on_arrays,
    patches,
    weight_levels,
)
from cofit.targets.arrays.multiply import Programmed, program
from cofit.targets.arrays.presets import (
    PRECISIONS,
    capram,
    chip,
    converter_ratio,
    crossbar_chip,
    ddc,
    forms,
    known_chips,
)
from cofit.targets.arrays.sar import (
    NO_ERRORS,
    Linearity,
    Sar,
    SarBank,
    SarErrors,
    best_full_scale,
    sar_bank,
)
from cofit.targets.arrays.schemes import Stored, store, weight_range
from cofit.targets.arrays.spec import SCHEMES, ArraySpec, Scheme, cells_per_weight
from cofit.targets.arrays.tables import Chip, read_chip
from cofit.targets.arrays.target import ArrayTarget
from cofit.targets.arrays.variation import Variation

__all__ = [
    "CHARGE",
    "CURRENT",
    "MODES",
    "NO_ERRORS",
    "PRECISIONS",
    "SCHEMES",
    "Activity",
    "Adc",
    "AnalogLayer",
    "ArraySpec",
    "ArrayTarget",
    "ChargeChip",
    "ChargeMacro",
    "Chip",
    "Clip",
    "Crossbar",
    "CrossbarChip",
    "DigitalChip",
    "InputGrid",
    "Layer",
    "LineErrors",
    "Linearity",
    "Macro",
    "Matrix",
    "MatrixCost",
    "Mode",
    "Programmed",
    "Residual",
    "Sar",
    "SarBank",
    "SarErrors",
    "Scheme",
    "Stored",
    "Table",
    "Uniform",
    "Variation",
    "activity",
    "best_full_scale",
    "calibrate",
    "capram",
    "cells_per_weight",
    "charge_macro",
    "check_capacity",
    "chip",
    "converter_ratio",
    "crossbar_chip",
    "ddc",
    "fitted_table",
    "forms",
    "full_activity",
    "ideal_macro",
    "input_cycles",
    "input_grid",
    "known_chips",
    "layer_inputs",
    "layer_matrix",
    "levels_on",
    "line_residual",
    "matrices_of",
    "on_arrays",
    "patches",
    "program",
    "read_chip",
    "residual",
    "sar_bank",
    "store",
    "used_matrix",
    "weight_levels",
    "weight_range",
]
