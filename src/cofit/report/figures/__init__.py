"""The figures of the report: pure functions from values to SVG.

Widths are pixels of the drawing; the page holds a wide and a narrow drawing of each and shows one.
"""

from cofit.report.figures.bullet import bullet
from cofit.report.figures.front import Point, front, undominated
from cofit.report.figures.layers import layer_bars
from cofit.report.figures.memory import live_bytes, memory_map
from cofit.report.figures.roofline import roofline

__all__ = [
    "Point",
    "bullet",
    "front",
    "layer_bars",
    "live_bytes",
    "memory_map",
    "roofline",
    "undominated",
]
