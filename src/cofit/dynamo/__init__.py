"""Floor 4: `torch.compile(model, backend="cofit")`.

Dynamo hands over graphs of torch calls (`backend`). They are cut where a single tensor passes
(`pieces`), each piece is traced, the structure of its zeros found, and compiled (`compile`); what
cannot be compiled runs in eager PyTorch, with a warning that says why (`plan`).
"""

from cofit.dynamo.backend import CompiledGraph, EagerWarning, torch_backend

__all__ = ["CompiledGraph", "EagerWarning", "torch_backend"]
