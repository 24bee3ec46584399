"""Floor 7: the main job, from a trained network and a budget to a verified program.

The package can be called: `cofit.fit(...)` is `cofit.api.fit(...)`.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import Any

from cofit.fit.conclude import FitResult
from cofit.fit.config import FitConfig, make_config, read_config
from cofit.fit.explaining import explain_program, open_program
from cofit.fit.explanation import Explanation
from cofit.fit.permutation import kept_energy, permute_for_blocks
from cofit.fit.progress import Progress, silent
from cofit.fit.run import run_fit
from cofit.fit.subject import Subject, load_subject, make_subject
from cofit.fit.summary import Summary

__all__ = [
    "Explanation",
    "FitConfig",
    "FitResult",
    "Progress",
    "Subject",
    "Summary",
    "explain_program",
    "kept_energy",
    "load_subject",
    "make_config",
    "make_subject",
    "open_program",
    "permute_for_blocks",
    "read_config",
    "run_fit",
    "silent",
]


class _Callable(ModuleType):
    def __call__(self, *arguments: Any, **options: Any) -> FitResult:
        # by name: the call writes the report, which lies above this room
        result: FitResult = import_module("cofit.api").fit(*arguments, **options)
        return result


sys.modules[__name__].__class__ = _Callable
