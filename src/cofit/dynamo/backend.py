"""The backend: what dynamo calls, and what it gets back."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import fx

from cofit.codegen import Program
from cofit.dynamo.compile import CompiledPiece
from cofit.dynamo.pieces import Roles
from cofit.dynamo.plan import Plan, make_plan

NETWORKS = 4
"""Networks of one class for which programs are kept: dynamo gives all of them to one graph."""


class EagerWarning(UserWarning):
    """Something that was given to the backend runs in eager PyTorch; the text says what and why."""


def torch_backend(graph_module: fx.GraphModule, example_inputs: Sequence[Any]) -> CompiledGraph:
    """Backend of `torch.compile`: float32 inference on this CPU by verified programs of cofit.

    The zeros of the weights are compiled into sparse kernels. What cofit cannot compile runs in
    eager PyTorch, with an `EagerWarning`. The first call compiles, and so does the first after a
    change of weights.

    Args:
        graph_module: as dynamo captured it.
        example_inputs: not used; the first call brings real ones.

    Example:
        >>> fast = torch.compile(model.eval(), backend="cofit")  # doctest: +SKIP
        >>> with torch.no_grad():  # doctest: +SKIP
        ...     y = fast(x)
    """
    return CompiledGraph(graph_module)


class CompiledGraph:
    """One graph of dynamo, checked before every call: are weights and shapes those compiled for?

    Attributes:
        programs: that took part in the last call.
    """

    def __init__(self, module: fx.GraphModule) -> None:
        self.programs: tuple[Program, ...] = ()
        self._module = module
        self._roles = roles = Roles(module)
        places = {node: i for i, node in enumerate(roles.placeholders)}
        self._weights = [places[node] for node in roles.weights]
        self._inputs = [places[node] for node in roles.inputs]
        self._numbers = [places[node] for node in roles.numbers]
        self._sizes = [places[node] for node in roles.numbers if node is not roles.batch]
        self._plans: dict[tuple[Any, ...], list[Plan]] = {}
        self._turn = threading.Lock()
        self._told: set[str] = set()

    def __call__(self, *arguments: Any) -> Any:
        """Results of the captured graph."""
        refused = _refused(arguments)
        if refused is not None:
            self._tell(f"all of it ({refused})")
        steps = () if refused is not None else self._plan(arguments).steps
        self.programs = tuple(step.program for step in steps if isinstance(step, CompiledPiece))
        if not steps:
            return self._module(*arguments)
        values: Any = [arguments[i] for i in self._inputs]
        numbers = [arguments[i] for i in self._numbers]
        for step in steps:
            compiled = isinstance(step, CompiledPiece)
            values = (step(*values),) if compiled else step(*values, *numbers)
        return values

    def _plan(self, arguments: Sequence[Any]) -> Plan:
        inputs = (arguments[i] for i in self._inputs)
        key = (
            *((x.dtype, x.device, x.shape[1:]) for x in inputs),
            *(arguments[i] for i in self._sizes),
        )
        with self._turn:
            weights = [arguments[i] for i in self._weights]
            plans = self._plans.setdefault(key, [])
            found = next((plan for plan in plans if plan.holds(weights)), None)
            if found is None:
                found = make_plan(self._module, self._roles, arguments)
                kept = [plan for plan in plans if not plan.is_gone]
                self._plans[key] = [found, *kept][:NETWORKS]
                if found.eager is not None:
                    self._tell(found.eager)
        return found

    def _tell(self, what: str) -> None:
        if what not in self._told:
            self._told.add(what)
            warnings.warn(
                f"of a graph that cofit was given, eager PyTorch runs {what}; to accept that, "
                "ignore cofit.dynamo.EagerWarning",
                EagerWarning,
                stacklevel=3,
            )


def _refused(arguments: Sequence[Any]) -> str | None:
    """Why programs must not be used in the call at hand, whatever the graph."""
    if torch.is_autocast_enabled("cpu"):
        return "autocast is on, programs are float32"
    if torch.is_grad_enabled():
        for value in arguments:
            if isinstance(value, torch.Tensor) and value.requires_grad:
                return (
                    "gradients are recorded, programs have none; call it under torch.no_grad() or "
                    "torch.inference_mode()"
                )
    return None
