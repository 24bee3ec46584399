"""cofit: fit networks to their hardware, and hardware to its networks.

`cofit.fit(model, data, target=..., budget=...)` is the call (see `cofit.api.fit`); it is also the
package of its parts, for example `cofit.fit.FitConfig`. `cofit.explain(program)` says where the
time of a compiled program goes. `cofit.torch_backend` is the backend "cofit" of `torch.compile`
(see `cofit.dynamo`). Nothing heavy is imported until then.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cofit.api import explain, fit
    from cofit.dynamo import torch_backend

__version__ = "0.1.0"

__all__ = ["__version__", "explain", "fit", "torch_backend"]


def __getattr__(name: str) -> Any:
    if name == "fit":
        return import_module("cofit.fit")
    if name == "explain":
        return import_module("cofit.api").explain
    if name == "torch_backend":
        return import_module("cofit.dynamo").torch_backend
    raise AttributeError(f"module 'cofit' has no attribute {name!r}")
