"""Parameters of each operator kind, as frozen values with `kind` as the discriminator.

`Attributes` is the closed set of operators that cofit knows; adding one here obliges `shapes`,
`execute` and `integer` (mypy's exhaustiveness and `tests/ir` say so).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

Fused = Literal["none", "relu", "relu6"]
"""Clamps that ride on another op's epilogue."""

Function = Literal["relu", "relu6", "hardswish", "hardsigmoid", "sigmoid", "tanh"]
"""Element-wise functions of one variable; a table of 256 bytes in int8."""

Pads = tuple[int, int, int, int]
"""top, bottom, left, right."""


@dataclass(frozen=True)
class Conv2d:
    """inputs: x (1,C,H,W), weight (K,C/groups,R,S), bias (K,). Depthwise is groups == C."""

    kind: ClassVar[str] = "conv2d"
    stride: tuple[int, int] = (1, 1)
    padding: Pads = (0, 0, 0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    fused: Fused = "none"


@dataclass(frozen=True)
class Linear:
    """inputs: x (1,...,C), weight (K,C), bias (K,)."""

    kind: ClassVar[str] = "linear"
    fused: Fused = "none"


@dataclass(frozen=True)
class Add:
    """inputs: two tensors of one shape (or the second a constant that broadcasts to the first)."""

    kind: ClassVar[str] = "add"
    fused: Fused = "none"


@dataclass(frozen=True)
class Mul:
    """inputs: x, and y of the same shape or one that broadcasts to x (as (1,C,1,1))."""

    kind: ClassVar[str] = "mul"
    fused: Fused = "none"


@dataclass(frozen=True)
class Concat:
    """inputs: two or more tensors, joined along `axis` (>= 1)."""

    kind: ClassVar[str] = "concat"
    axis: int = 1


@dataclass(frozen=True)
class MaxPool2d:
    """inputs: x (1,C,H,W); padding never wins (as -inf)."""

    kind: ClassVar[str] = "maxpool2d"
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: Pads = (0, 0, 0, 0)


@dataclass(frozen=True)
class AvgPool2d:
    """inputs: x (1,C,H,W); `count_padding` divides by the whole kernel at borders too."""

    kind: ClassVar[str] = "avgpool2d"
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: Pads = (0, 0, 0, 0)
    count_padding: bool = False


@dataclass(frozen=True)
class GlobalMean:
    """inputs: x (1,C,H,W) -> (1,C,1,1), or (1,C) with `keep` false."""

    kind: ClassVar[str] = "globalmean"
    keep: bool = True


@dataclass(frozen=True)
class Reshape:
    """inputs: x; elements in logical (row-major, C before H before W) order."""

    kind: ClassVar[str] = "reshape"
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Slice:
    """inputs: x; start, stop, step per axis (resolved, step >= 1)."""

    kind: ClassVar[str] = "slice"
    start: tuple[int, ...]
    stop: tuple[int, ...]
    step: tuple[int, ...]


@dataclass(frozen=True)
class Pad:
    """inputs: x; (before, after) per axis, filled with the real number zero."""

    kind: ClassVar[str] = "pad"
    pads: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Activation:
    """inputs: x; element-wise."""

    kind: ClassVar[str] = "activation"
    function: Function


@dataclass(frozen=True)
class Softmax:
    """inputs: x; over the last axis of a (1, C) or (1, T, C) tensor."""

    kind: ClassVar[str] = "softmax"


Attributes = (
    Conv2d
    | Linear
    | Add
    | Mul
    | Concat
    | MaxPool2d
    | AvgPool2d
    | GlobalMean
    | Reshape
    | Slice
    | Pad
    | Activation
    | Softmax
)

KINDS: dict[str, type[Attributes]] = {
    cls.kind: cls
    for cls in (
        Conv2d, Linear, Add, Mul, Concat, MaxPool2d, AvgPool2d, GlobalMean, Reshape, Slice, Pad,
        Activation, Softmax,
    )
}  # fmt: skip
