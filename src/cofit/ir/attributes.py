"""Parameters of each operator kind, as frozen values with `kind` as the discriminator.

`Attributes` is the closed set of operators that cofit knows; adding one here obliges `shapes`,
`execute` and `integer` (mypy's exhaustiveness and `tests/ir` say so).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

Fused = Literal["none", "relu", "relu6"]
"""Clamps that ride on another op's epilogue."""

Function = Literal[
    "relu", "relu6", "hardswish", "hardsigmoid", "sigmoid", "tanh", "gelu", "gelu_tanh"
]  # fmt: skip
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
    """inputs: x (1,...,C); over the last axis."""

    kind: ClassVar[str] = "softmax"


@dataclass(frozen=True)
class Matmul:
    """inputs: x (1,...,M,C), y (1,...,C,N), or (1,...,N,C) if `transposed`; scale * x @ y.

    Leading axes are equal; rank 4 is kept for images, so heads are (1,1,H,M,C).
    """

    kind: ClassVar[str] = "matmul"
    transposed: bool = False
    scale: float = 1.0


@dataclass(frozen=True)
class Transpose:
    """inputs: x; axis i of the output is axis `permutation[i]` of x; the batch stays first."""

    kind: ClassVar[str] = "transpose"
    permutation: tuple[int, ...]


@dataclass(frozen=True)
class LayerNorm:
    """inputs: x (1,...,C), weight (C,), bias (C,); over the last axis, biased variance."""

    kind: ClassVar[str] = "layernorm"
    eps: float = 1e-5


@dataclass(frozen=True)
class Embedding:
    """inputs: tokens (1,...) int32 in [0, V), table (V,C); a row of the table per token."""

    kind: ClassVar[str] = "embedding"


@dataclass(frozen=True)
class Gru:
    """inputs: x (1,T,C), w_ih (3H,C), w_hh (3H,H), b_ih (3H,), b_hh (3H,); every state (1,T,H).

    Gates in the order r, z, n of torch; h before the first step is zero, or a sixth input (1,1,H),
    so that a sequence can go on where another ended. Per step:
    r, z = sigmoid(W_ih x + b_ih + W_hh h + b_hh), n = tanh(W_ih x + b_ih + r * (W_hh h + b_hh)),
    h = (1 - z) * n + z * h.
    """

    kind: ClassVar[str] = "gru"


@dataclass(frozen=True)
class Lstm:
    """inputs: x (1,T,C), w_ih (4H,C), w_hh (4H,H), b_ih (4H,), b_hh (4H,); every state (1,T,H).

    Gates in the order i, f, g, o of torch; h and c before the first step are zero. Per step:
    c = sigmoid(f) * c + sigmoid(i) * tanh(g), h = sigmoid(o) * tanh(c).
    """

    kind: ClassVar[str] = "lstm"


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
    | Matmul
    | Transpose
    | LayerNorm
    | Embedding
    | Gru
    | Lstm
)

KINDS: dict[str, type[Attributes]] = {
    cls.kind: cls
    for cls in (
        Conv2d, Linear, Add, Mul, Concat, MaxPool2d, AvgPool2d, GlobalMean, Reshape, Slice, Pad,
        Activation, Softmax, Matmul, Transpose, LayerNorm, Embedding, Gru, Lstm,
    )
}  # fmt: skip
