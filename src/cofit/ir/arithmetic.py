"""Lowering of sums and products, where either operand may be a constant."""

from __future__ import annotations

import math
from typing import Any

import torch

from cofit.ir import attributes as at
from cofit.ir.lowering import Builder, Constant, Ref, Refusal, Value


def add(b: Builder, a: Any) -> Value:
    """X + alpha * y."""
    return _sum(b, a.self, _scaled(b, a.other, a.alpha))


def sub(b: Builder, a: Any) -> Value:
    """X - alpha * y."""
    return _sum(b, a.self, _scaled(b, a.other, -a.alpha))


def rsub(b: Builder, a: Any) -> Value:
    """Y - alpha * x."""
    return _sum(b, _scaled(b, a.self, -a.alpha), a.other)


def mul(b: Builder, a: Any) -> Value:
    """X * y."""
    return _product(b, a.self, a.other)


def div(b: Builder, a: Any) -> Value:
    """X / constant."""
    if getattr(a, "rounding_mode", None) is not None or isinstance(a.other, Ref):
        raise Refusal("only division by a constant, without rounding")
    return _product(b, a.self, Constant(1 / _operand(a.other)))


def neg(b: Builder, a: Any) -> Value:
    """-x."""
    return _scaled(b, a.self, -1)


def _sum(b: Builder, x: Value, y: Value) -> Ref:
    if not isinstance(x, Ref):
        x, y = y, x
    if isinstance(y, Ref):
        x, y = _same_rank(b, x, y)
        if x.shape != y.shape:
            raise Refusal(f"shapes {x.shape} and {y.shape}; computed tensors are added if equal")
        return b.emit(at.Add(), x, y)
    constant = _beside(x, y)
    neutral = constant.name is None and not constant.value.any()
    return x if neutral else b.emit(at.Add(), x, constant)


def _product(b: Builder, x: Value, y: Value) -> Ref:
    if not isinstance(x, Ref):
        x, y = y, x
    if isinstance(y, Ref):
        x, y = _same_rank(b, x, y)
        large, small = (y, x) if math.prod(y.shape) > math.prod(x.shape) else (x, y)
        return b.emit(at.Mul(), large, small)
    constant = _beside(x, y)
    neutral = constant.name is None and (constant.value == 1).all()
    return x if neutral else b.emit(at.Mul(), x, constant)


def _same_rank(b: Builder, x: Ref, y: Ref) -> tuple[Ref, Ref]:
    """Both as sequences, where one of the same axes is held as an image."""
    if x.lead == y.lead or x.shape[x.lead :] != y.shape[y.lead :]:
        return x, y
    return b.reshaped(x, x.shape[x.lead :]), b.reshaped(y, y.shape[y.lead :])


def _scaled(b: Builder, x: Value, factor: float) -> Value:
    if factor == 1:
        return x
    if not isinstance(x, Ref):
        return Constant(_operand(x) * factor)
    constant = _beside(x, factor)
    return b.emit(at.Mul(), x, constant, part="scale")


def _beside(x: Ref, y: Value) -> Constant:
    """A constant operand of x, of the same rank."""
    value = _operand(y)
    shape = (1,) * (len(x.shape) - value.ndim) + tuple(value.shape)
    fits = all(n in (1, m) for n, m in zip(shape[-len(x.shape) :], x.shape, strict=True))
    if not fits or len(shape) > len(x.shape):
        raise Refusal(f"a constant of shape {tuple(value.shape)} widens a tensor of {x.shape}")
    return Constant(value.reshape(shape), y.name if isinstance(y, Constant) else None)


def _operand(value: Value) -> torch.Tensor:
    if isinstance(value, Constant):
        return value.value.to(torch.float64)
    return torch.tensor(value, dtype=torch.float64)
