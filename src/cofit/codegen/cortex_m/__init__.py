"""Programs for Cortex-M4 and M7: linked, measured in bytes, emulated, counted, timed by a model."""

from cofit.codegen.cortex_m.boards import CORES, Board, board, boards_of, default_board
from cofit.codegen.cortex_m.counter import Profile
from cofit.codegen.cortex_m.cycles import CycleModel, cycle_model, modelled_cycles
from cofit.codegen.cortex_m.decode import decode, histogram
from cofit.codegen.cortex_m.emulate import Emulator
from cofit.codegen.cortex_m.image import Image, Symbol, read_image
from cofit.codegen.cortex_m.link import Linked, link
from cofit.codegen.cortex_m.predict import Prediction, predict
from cofit.codegen.cortex_m.runner import CortexMRunner
from cofit.codegen.cortex_m.shared import shared_bytes, shared_names

__all__ = [
    "CORES",
    "Board",
    "CortexMRunner",
    "CycleModel",
    "Emulator",
    "Image",
    "Linked",
    "Prediction",
    "Profile",
    "Symbol",
    "board",
    "boards_of",
    "cycle_model",
    "decode",
    "default_board",
    "histogram",
    "link",
    "modelled_cycles",
    "predict",
    "read_image",
    "shared_bytes",
    "shared_names",
]
