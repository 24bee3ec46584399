"""Multiplications that torch really executes, counted operator by operator."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from cofit.core import UnsupportedOpError

_FREE = frozenset(
    "add add_ sub sum relu max_pool2d_with_indices im2col view _unsafe_view reshape expand permute "
    "transpose t unsqueeze squeeze select slice clone copy_ cat stack alias detach as_strided "
    "empty zeros new_zeros randn randn.generator normal_ sqrt index repeat".split()
)
"""Operators without multiplications (roots are not counted as such)."""


class count_multiplications(TorchDispatchMode):
    """`with count_multiplications() as count: ...`; then `count.total`.

    Attributes:
        total: scalar multiplications executed.
        by_operator: the same by torch operator.

    Raises:
        UnsupportedOpError: an operator is met whose multiplications are not known.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.by_operator: dict[str, int] = {}

    @property
    def total(self) -> int:
        """Of all operators."""
        return sum(self.by_operator.values())

    def __enter__(self) -> count_multiplications:
        """Start to count."""
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop."""
        super().__exit__(kind, error, traceback)  # type: ignore[no-untyped-call]

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run an operator and count it."""
        out = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        if name in _COUNTED:
            self.by_operator[name] = self.by_operator.get(name, 0) + _COUNTED[name](args, out)
        elif name not in _FREE:
            raise UnsupportedOpError(
                f"operator {name!r} has no known number of multiplications; write the flow with "
                f"{', '.join(_COUNTED)}"
            )
        return out


def _elements(args: tuple[Any, ...], out: torch.Tensor) -> int:
    return out.numel()


def _product(args: tuple[Any, ...], out: torch.Tensor) -> int:
    return out.numel() * int(args[0].shape[-1])


def _convolution(args: tuple[Any, ...], out: torch.Tensor) -> int:
    return out.numel() * int(math.prod(args[1].shape[1:]))


_COUNTED: dict[str, Callable[[tuple[Any, ...], torch.Tensor], int]] = {
    "mul": _elements,
    "mul_": _elements,
    "square": _elements,
    "pow": _elements,
    "mm": _product,
    "bmm": _product,
    "mv": _product,
    "dot": _product,
    "convolution": _convolution,
}
