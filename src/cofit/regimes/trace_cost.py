"""Multiply-accumulates of one forward and backward pass, counted from the tensors really used.

Ratios that are judged are computed here, from operands as the kernels got them (after masks,
roundings and gradient pruning), never by the method that is judged.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrize
from torch.overrides import TorchFunctionMode

_CONV = {torch.conv1d: "conv1d", torch.conv2d: "conv2d", torch.conv3d: "conv3d"}
_MATMUL = {
    torch.matmul, torch.mm, torch.bmm,
    torch.Tensor.matmul, torch.Tensor.__matmul__, torch.Tensor.mm, torch.Tensor.bmm,
}  # fmt: skip


@dataclass(frozen=True)
class Operand:
    """How full a tensor was."""

    size: int
    nonzeros: int

    @property
    def density(self) -> float:
        """Kept fraction."""
        return self.nonzeros / self.size if self.size else 0.0


@dataclass
class LayerCost:
    """One executed convolution, linear layer or matrix product.

    Attributes:
        name: name of its weight in the model; "matmul#3" for the third product without one.
        kind: "conv2d", "linear", "matmul", ...
        macs: dense multiply-accumulates of the forward pass, padding included. Each of the two
            backward products has as many.
        input: the left operand, as used forward and for the weight gradient.
        weight: the right operand.
        gradient: gradient of the output as the backward kernels got it; None before backward.
        needs_input_gradient: whether backward computes the gradient of the input.
        needs_weight_gradient: whether backward computes the gradient of the weight.
    """

    name: str
    kind: str
    macs: int
    input: Operand
    weight: Operand
    needs_input_gradient: bool
    needs_weight_gradient: bool
    gradient: Operand | None = None

    @property
    def macs_input_gradient(self) -> int:
        """Dense multiply-accumulates of dX, 0 if it was not computed."""
        return self.macs if self.gradient is not None and self.needs_input_gradient else 0

    @property
    def macs_weight_gradient(self) -> int:
        """Dense multiply-accumulates of dW, 0 if it was not computed."""
        return self.macs if self.gradient is not None and self.needs_weight_gradient else 0

    @property
    def total(self) -> int:
        """Dense multiply-accumulates of all that was executed."""
        return self.macs + self.macs_input_gradient + self.macs_weight_gradient

    @property
    def kept_forward(self) -> int:
        """Forward multiply-accumulates with the non-zero weights."""
        return self.macs * self.weight.nonzeros // max(self.weight.size, 1)

    @property
    def kept_input_gradient(self) -> int:
        """Those of dX with the non-zero output gradients."""
        return self._with_gradient(self.macs_input_gradient)

    @property
    def kept_weight_gradient(self) -> int:
        """Those of dW with the non-zero output gradients."""
        return self._with_gradient(self.macs_weight_gradient)

    def _with_gradient(self, macs: int) -> int:
        if self.gradient is None:
            return 0
        return macs * self.gradient.nonzeros // max(self.gradient.size, 1)


class Trace(TorchFunctionMode):
    """Records a pass: `with Trace(model) as trace: loss(model(x)).backward()`.

    Counts convolutions, linear layers and matrix products, wherever they are called; operands are
    counted, so tracing costs time. Parametrised weights are computed once within the block.

    Attributes:
        layers: in order of execution; one entry per call.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.layers: list[LayerCost] = []
        self._model = model
        self._names: dict[int, str] = {}
        self._scope = contextlib.ExitStack()

    def __enter__(self) -> Trace:
        """Start recording."""
        self._scope.enter_context(parametrize.cached())
        self._names = {id(value): name for name, value in _weights(self._model).items()}
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop recording."""
        super().__exit__(kind, error, traceback)  # type: ignore[no-untyped-call]
        self._scope.close()

    @property
    def macs(self) -> int:
        """Dense multiply-accumulates of the whole pass."""
        return sum(layer.total for layer in self.layers)

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run `func`, and record it if it multiplies."""
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        if func in _CONV:
            x, weight = _pair(args, kwargs, "weight")
            self._record(_CONV[func], x, weight, out, weight[0].numel())
        elif func is F.linear:
            x, weight = _pair(args, kwargs, "weight")
            self._record("linear", x, weight, out, weight.shape[-1])
        elif func in _MATMUL:
            x, right = _pair(args, kwargs, "mat2" if "mat2" in kwargs else "other")
            self._record("matmul", x, right, out, x.shape[-1])
        return out

    def _record(
        self, kind: str, x: torch.Tensor, weight: torch.Tensor, out: torch.Tensor, depth: int
    ) -> None:
        number = 1 + sum(layer.kind == kind for layer in self.layers)
        layer = LayerCost(
            self._names.get(id(weight), f"{kind}#{number}"),
            kind,
            out.numel() * depth,
            _count(x),
            _count(weight),
            x.requires_grad,
            weight.requires_grad,
        )
        self.layers.append(layer)
        if out.requires_grad:

            def keep(gradient: torch.Tensor) -> None:
                layer.gradient = _count(gradient)

            out.register_hook(keep)


def training_macs(model: nn.Module, sample: torch.Tensor) -> int:
    """Dense multiply-accumulates to train on one example: forward, dX and dW.

    The model is traced in eval mode, so that its statistics do not move, and left as it was.

    Args:
        model: gives a tensor.
        sample: (n, ...), the result is per example.
    """
    return sum(training_layers(model, sample).values())


def training_layers(model: nn.Module, sample: torch.Tensor) -> dict[str, int]:
    """Parts of `training_macs` by name of the weight ("matmul#3" where there is none)."""
    modes = {module: module.training for module in model.modules()}
    parameters = [p for p in model.parameters() if p.requires_grad]
    try:
        with torch.enable_grad(), Trace(model.eval()) as trace:
            torch.autograd.grad(model(sample).sum(), parameters, allow_unused=True)
    finally:
        for module, mode in modes.items():
            module.training = mode
    found: dict[str, int] = {}
    for layer in trace.layers:
        found[layer.name] = found.get(layer.name, 0) + layer.total
    return {name: macs // len(sample) for name, macs in found.items()}


def kept_macs(model: nn.Module, layers: Mapping[str, int]) -> int:
    """`training_layers` of one example with the non-zero elements of the trained weights only.

    Nothing is run: the weights, as they are beneath parametrisations, are counted.
    """
    known = dict(model.named_parameters(remove_duplicate=False))
    total = 0
    for name, macs in layers.items():
        owner, _, attribute = name.rpartition(".")
        beneath = f"{owner}.parametrizations.{attribute}.original".lstrip(".")
        weight = known.get(name, known.get(beneath))
        kept, size = (1, 1) if weight is None else (_count(weight).nonzeros, weight.numel())
        total += macs * kept // max(size, 1)
    return total


def _weights(model: nn.Module) -> dict[str, torch.Tensor]:
    weights = {name: p for name, p in model.named_parameters(remove_duplicate=False)}
    found: dict[str, torch.Tensor] = dict(weights)
    for prefix, module in model.named_modules():
        if parametrize.is_parametrized(module):
            for attribute in module.parametrizations:
                found[f"{prefix}.{attribute}".lstrip(".")] = getattr(module, attribute)
    return found


def _pair(
    args: tuple[Any, ...], kwargs: Mapping[str, Any], right: str
) -> tuple[torch.Tensor, torch.Tensor]:
    x = args[0] if args else kwargs["input"]
    return x, args[1] if len(args) > 1 else kwargs[right]


def _count(tensor: torch.Tensor) -> Operand:
    return Operand(tensor.numel(), int(torch.count_nonzero(tensor.detach())))
