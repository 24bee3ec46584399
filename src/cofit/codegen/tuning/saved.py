"""Winners as JSON, and back: a kernel is found again by its name among those that can be tried."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from pydantic import TypeAdapter

from cofit.codegen.chosen import Chosen, Times
from cofit.codegen.machine import Machine
from cofit.codegen.tuning.candidates import candidates
from cofit.ir import Graph

_TIMES = TypeAdapter(Times)


def to_json(chosen: Mapping[str, Chosen]) -> dict[str, dict[str, Any]]:
    """By op: the kernel's name and its times."""
    return {
        op: {"kernel": repr(each.kernel), "times": asdict(each.times)}
        for op, each in chosen.items()
        if each.times is not None
    }


def from_json(
    graph: Graph, machine: Machine, saved: Mapping[str, Mapping[str, Any]]
) -> dict[str, Chosen]:
    """The same again, without kernels that this machine does not have.

    Raises:
        LookupError, ValidationError: `to_json` did not give this.
    """
    found: dict[str, Chosen] = {}
    for op in graph.ops:
        if op.output not in saved:
            continue
        name, times = saved[op.output]["kernel"], saved[op.output]["times"]
        kernels = {repr(kernel): kernel for kernel in candidates(graph, op, machine)}
        if name in kernels:
            found[op.output] = Chosen(kernels[name], _TIMES.validate_python(times))
    return found
