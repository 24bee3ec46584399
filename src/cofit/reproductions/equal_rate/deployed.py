"""What each arm costs once it is deployed: bytes, host latency, instructions, crossbars."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from cofit.codegen import compile
from cofit.core import numpy_generator
from cofit.data import Dataset
from cofit.fit.peers import one_torch_thread, race
from cofit.fit.precision import Lowering
from cofit.fit.runtimes import Call
from cofit.ir import Graph
from cofit.models import model as known_model
from cofit.reproductions.equal_rate.arms import DENSE, Settings, structures_of
from cofit.reproductions.harness import kernel_weights, structured_graph
from cofit.structures import Polarised, Structure
from cofit.targets import CortexM, target
from cofit.targets.crossbars import Crossbar, used_matrix

CALIBRATION = 256
FRAGMENT = 8
"""Rows of a crossbar that are switched on together."""


def costs(
    settings: Settings, data: Dataset, states: Mapping[str, Mapping[str, torch.Tensor]]
) -> dict[str, dict[str, float]]:
    """Costs of the dense network and of each form, by arm.

    Args:
        settings: forms, rate, board.
        data: calibration of int8 programs.
        states: trained, by arm.

    Returns:
        Of each arm "bytes" of the pruned layers at int8 with indices, "latency_s" of its fp32
        program at batch 1, "crossbars" at int8, and "instructions" if there is a board.
    """
    models = {arm: filled(settings, state) for arm, state in states.items()}
    sample = data.train.inputs[:CALIBRATION]
    marks = {arm: _marks(settings, arm, model) for arm, model in models.items()}
    graphs = {arm: structured_graph(m, sample, marks[arm], arm) for arm, m in models.items()}
    found = {
        arm: {
            "bytes": float(_stored(model, structures_or_none(settings, arm))),
            "crossbars": float(_crossbars(model, structures_or_none(settings, arm))),
        }
        for arm, model in models.items()
    }
    calls: dict[str, Call] = {arm: compile(graph).run for arm, graph in graphs.items()}
    x = numpy_generator(0, "equal rate").standard_normal((1, *data.input_shape), np.float32)
    with one_torch_thread():
        for arm, seconds in race(calls, x).items():
            found[arm]["latency_s"] = seconds
    for arm, graph in graphs.items() if settings.board else ():
        found[arm]["instructions"] = float(_instructions(settings.board, graph, sample))
    return found


def structures_or_none(settings: Settings, arm: str) -> tuple[Structure, ...]:
    """Structures of an arm; none of the dense network."""
    return () if arm == DENSE else structures_of(settings, arm)


def filled(settings: Settings, state: Mapping[str, torch.Tensor]) -> nn.Module:
    """The network with a trained state, in eval mode."""
    model = known_model(settings.entry).build()
    model.load_state_dict(dict(state))
    return model.eval()


def _marks(settings: Settings, arm: str, model: nn.Module) -> dict[str, Structure]:
    """What a program may exploit: the first structure, which says what is left out."""
    structures = structures_or_none(settings, arm)
    return dict.fromkeys(kernel_weights(model), structures[0]) if structures else {}


def _stored(model: nn.Module, structures: tuple[Structure, ...]) -> int:
    """Bytes of the pruned layers, one per value; those of the smallest form that holds them."""
    shapes = [tuple(model.get_parameter(name).shape) for name in kernel_weights(model)]
    if not structures:
        return sum(int(np.prod(shape)) for shape in shapes)
    return sum(min(s.nbytes(shape, 1) for s in structures) for shape in shapes)


def _crossbars(model: nn.Module, structures: tuple[Structure, ...]) -> int:
    """128x128 arrays at int8, every layer in its own; signs are split unless fragments have one."""
    scheme: Any = "polarised" if any(isinstance(s, Polarised) for s in structures) else "split"
    total = 0
    for name in kernel_weights(model):
        rows, filters = used_matrix(model.get_parameter(name).detach(), FRAGMENT)
        total += Crossbar().count(rows, filters, 8, scheme)
    return total


def _instructions(board: str, graph: Graph, sample: torch.Tensor) -> int:
    found = target(board)
    assert isinstance(found, CortexM)
    return int(found.cost(Lowering("int8", sample).lower(graph)).instructions or 0)
