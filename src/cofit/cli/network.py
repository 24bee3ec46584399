"""A network as the commands `cost` and `compile` need it: traced, with inputs to calibrate on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from cofit.codegen.c_text import identifier
from cofit.core import ConfigError, torch_generator
from cofit.data import load
from cofit.fit import make_subject
from cofit.fit.devices import device
from cofit.fit.precision import Lowering, Precision
from cofit.ir import Graph, trace
from cofit.models import load_model
from cofit.targets import Modelled, Platform
from cofit.targets import target as find_target

CALIBRATION_INPUTS = 64
"""Random inputs that set the ranges of int8 when there is no data."""


@dataclass(frozen=True, eq=False)
class Network:
    """A traced network.

    Attributes:
        name: as the user wrote it.
        graph: float graph, batch 1.
        calibration: preprocessed inputs (N, ...).
        notes: facts that every printed figure depends on.
    """

    name: str
    graph: Graph
    calibration: torch.Tensor
    notes: tuple[str, ...]

    def lowered(self, precision: Precision) -> Graph:
        """The graph to compile."""
        return Lowering(precision, self.calibration).lower(self.graph)


def load_network(spec: str, weights: Path | None, data: str | None) -> Network:
    """Load and trace a network.

    Raises:
        ConfigError: neither the network nor data say the shape of its input.
        CofitError: the network, its weights or the data are not acceptable.
    """
    loaded = load_model(spec, weights)
    notes = ["weights are random"] if loaded.fresh else []
    if data is not None:
        subject = make_subject(
            loaded.name, loaded.module, load(data), loaded.preprocess, untrained=False
        )
        calibration = subject.calibration
        notes.append(f"int8 is calibrated on {len(calibration)} training inputs of {data}")
    else:
        if loaded.input_shape is None:
            raise ConfigError(
                f"model {spec!r} does not say the shape of its input; give --data, or give the "
                "module an attribute input_shape, for example (3, 32, 32)"
            )
        generator = torch_generator(0, "calibration", spec)
        shape = (CALIBRATION_INPUTS, *loaded.input_shape)
        if loaded.vocabulary is not None:
            calibration = torch.randint(loaded.vocabulary, shape, generator=generator)
        else:
            calibration = loaded.preprocess(torch.rand(shape, generator=generator))
        notes.append(f"int8 is calibrated on {CALIBRATION_INPUTS} random inputs; --data is better")
    graph = trace(loaded.module, calibration[:1], identifier(spec))
    return Network(spec, graph, calibration, tuple(notes))


def choose_precision(target: str, wanted: str) -> Precision:
    """The precision of a program on a target; "auto" is fp32 on the host, int8 elsewhere.

    Raises:
        UnknownNameError: no such target.
        ConfigError: no such precision, or the target does not compute in it.
    """
    if wanted not in ("auto", "fp32", "int8"):
        raise ConfigError(f"unknown precision {wanted!r}; known: auto, fp32, int8")
    found = find_target(target)
    if isinstance(found, Platform):
        return "fp32" if wanted == "fp32" else "int8"
    if isinstance(found, Modelled):
        if wanted == "fp32":
            raise ConfigError(f"target {target!r} computes in integers; use precision int8 or auto")
        return "int8"
    return device(target).precisions(wanted)[0]
