"""Chooses among the ways in which host kernels can compute a layer, by timing them here.

`tune(graph, machine, compiler)` gives the winner for every layer that has a choice. Winners are
kept in the cache folder per CPU, compiler and everything that was tried.
"""

from cofit.codegen.tuning.choose import check_tunable, tune
from cofit.codegen.tuning.saved import from_json, to_json

__all__ = ["check_tunable", "from_json", "to_json", "tune"]
