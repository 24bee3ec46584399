"""A compiled module whose captured graphs can be looked at."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from cofit.dynamo import CompiledGraph, torch_backend


@dataclass
class Compiled:
    """Calls a module under torch.compile; `graphs` are those dynamo gave to the backend."""

    module: Any
    graphs: list[CompiledGraph] = field(default_factory=list)

    def __post_init__(self) -> None:
        def backend(graph_module, example_inputs):
            self.graphs.append(torch_backend(graph_module, example_inputs))
            return self.graphs[-1]

        self.compiled = torch.compile(self.module, backend=backend)

    def __call__(self, *inputs: torch.Tensor) -> Any:
        with torch.no_grad():
            return self.compiled(*inputs)

    def kernels(self, graph: int = -1) -> dict[str, str]:
        """Kernel family by layer, of the programs that a graph ran last."""
        steps = (s for program in self.graphs[graph].programs for s in program.source.steps)
        return {step.name: step.kernel for step in steps}


class SmallResidual(nn.Module):
    """A stem, one residual block and a head, with batch norm; 8x8 images of 3 channels."""

    def __init__(self, flatten: Any = None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(16)
        self.conv1 = nn.Conv2d(16, 32, 3, padding=1)
        self.conv2 = nn.Conv2d(32, 16, 3, padding=1)
        self.head = nn.Linear(16 * 16, 10)
        self.flatten = flatten or (lambda x: torch.flatten(x, 1))
        with torch.no_grad():
            self.norm.running_mean.normal_()
            self.norm.running_var.uniform_(0.5, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.norm(self.stem(x)))
        x = torch.relu(x + self.conv2(torch.relu(self.conv1(x))))
        return self.head(self.flatten(nn.functional.max_pool2d(x, 2)))


def images(batch: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(batch, 3, 8, 8, generator=torch.Generator().manual_seed(seed))


def assert_close(got: torch.Tensor, wanted: torch.Tensor) -> None:
    """Equal up to float32 rounding in another order: 1e-5 of the largest magnitude."""
    assert (got.shape, got.dtype, got.stride()) == (wanted.shape, wanted.dtype, wanted.stride())
    assert (got - wanted).abs().max() <= 1e-5 * wanted.abs().max()


def eager(module: Any, *inputs: torch.Tensor) -> Any:
    with torch.no_grad():
        return module(*inputs)
