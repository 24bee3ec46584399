"""cofit: fit networks to their hardware, and hardware to its networks.

`cofit.fit(model, data, target=..., budget=...)` is the call (see `cofit.api.fit`); it is also the
package of its parts, for example `cofit.fit.FitConfig`. `cofit.explain(program)` says where
the time of a compiled program goes. Nothing heavy is imported until then.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cofit.api import explain, fit

__version__ = "0.1.0"

__all__ = ["__version__", "explain", "fit"]


def __getattr__(name: str) -> Any:
    if name == "fit":
        return import_module("cofit.fit")
    if name == "explain":
        return import_module("cofit.api").explain
    raise AttributeError(f"module 'cofit' has no attribute {name!r}")
