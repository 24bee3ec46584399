"""How each aten operator becomes ops: `LOWERINGS`, the list of what `trace` supports."""

from __future__ import annotations

from typing import Any

import torch

from cofit.ir import arithmetic
from cofit.ir import attributes as at
from cofit.ir.lowering import Builder, Constant, Lowering, Ref, Refusal, Value


def _convolution(b: Builder, a: Any) -> Value:
    x, weight = _ref(a.input), _constant(a.weight, "weight")
    if len(x.shape) != 4 or getattr(a, "transposed", False):
        raise Refusal("only two-dimensional convolutions that are not transposed")
    dilation = _pair(a.dilation)
    if a.padding == "same":
        total = [d * (k - 1) for d, k in zip(dilation, weight.value.shape[2:], strict=True)]
        rows, columns = ((n // 2, n - n // 2) for n in total)
    else:
        height, width = (0, 0) if a.padding == "valid" else _pair(a.padding)
        rows, columns = (height, height), (width, width)
    conv = at.Conv2d(_pair(a.stride), (*rows, *columns), dilation, a.groups)
    return _weighted(b, conv, x, weight, a.bias)


def _linear(b: Builder, a: Any) -> Value:
    return _weighted(b, at.Linear(), _ref(a.input), _constant(a.weight, "weight"), a.bias)


def _addmm(b: Builder, a: Any) -> Value:
    if a.alpha != 1 or a.beta != 1:
        raise Refusal("alpha and beta must be 1")
    return _weighted(b, at.Linear(), _ref(a.mat1), _transposed(a.mat2), a.self)


def _matmul(b: Builder, a: Any) -> Value:
    matrix = a.mat2 if hasattr(a, "mat2") else a.other
    return _weighted(b, at.Linear(), _ref(a.self), _transposed(matrix), None)


def _transposed(matrix: Value) -> Constant:
    columns = _constant(matrix, "second factor").value
    if columns.ndim != 2:
        raise Refusal(f"the second factor has {columns.ndim} dimensions, only 2 will do")
    return Constant(columns.t())


def _weighted(b: Builder, layer: at.Attributes, x: Ref, weight: Constant, bias: Value) -> Ref:
    """A conv2d or linear, called by the path of its weight, with a zero bias if it has none."""
    owner, _, leaf = (weight.name or "").rpartition(".")
    if bias is None:
        bias = Constant(weight.value.new_zeros(len(weight.value)))
    return b.emit(
        layer, x, weight, _constant(bias, "bias"),
        layer=owner if leaf == "weight" else None, roles=("", "weight", "bias"),
    )  # fmt: skip


def _native_batch_norm(b: Builder, a: Any) -> Value:
    return [_batch_norm(b, a), None, None]


def _batch_norm(b: Builder, a: Any) -> Value:
    """Two ops, which `passes` folds: y = x * (w / sqrt(var + eps)) + (b - mean * that)."""
    if getattr(a, "training", False) or a.running_mean is None:
        raise Refusal("batch statistics; it needs running statistics")
    x, mean, variance = _ref(a.input), a.running_mean.value, a.running_var.value
    scale = torch.rsqrt(variance + a.eps)
    if a.weight is not None:
        scale = scale * _constant(a.weight, "weight").value
    shift = -mean * scale
    if a.bias is not None:
        shift = shift + _constant(a.bias, "bias").value
    sizes = (1, -1, *[1] * (len(x.shape) - 2))
    scaled = b.emit(at.Mul(), x, Constant(scale.reshape(sizes)), roles=("", "weight"))
    moved = Constant(shift.reshape(sizes))
    return b.emit(at.Add(), scaled, moved, part="shift", roles=("", "bias"))


def _cat(b: Builder, a: Any) -> Value:
    """Concat; blocks of zeros at either end become padding."""
    axis = a.dim % len(b.shape)
    parts = list(a.tensors)
    before, after = _strip_zeros(parts, axis), _strip_zeros(parts[::-1], axis)
    parts = [part for part in parts if isinstance(part, Ref)]
    joined = parts[0] if len(parts) == 1 else b.emit(at.Concat(axis), *parts)
    if not before and not after:
        return joined
    pads = [(0, 0)] * len(b.shape)
    pads[axis] = (before, after)
    return b.emit(at.Pad(tuple(pads)), joined, part="pad")


def _strip_zeros(parts: list[Value], axis: int) -> int:
    """Sizes of the leading zero constants; a constant between computed tensors is refused."""
    leading = next(i for i, part in enumerate(parts) if isinstance(part, Ref))
    if any(_constant(part, "part").value.any() for part in parts[:leading]):
        raise Refusal("a constant part that is not zero")
    trailing = next(i for i, part in enumerate(parts[::-1]) if isinstance(part, Ref))
    if any(not isinstance(part, Ref) for part in parts[leading : len(parts) - trailing]):
        raise Refusal("a constant part between computed ones")
    return sum(part.value.shape[axis] for part in parts[:leading])


def _max_pool(b: Builder, a: Any) -> Value:
    kernel, stride, pads = _window(a)
    if _pair(a.dilation) != (1, 1):
        raise Refusal("dilation must be 1")
    return b.emit(at.MaxPool2d(kernel, stride, pads), _ref(a.self))


def _avg_pool(b: Builder, a: Any) -> Value:
    kernel, stride, pads = _window(a)
    if a.divisor_override is not None:
        raise Refusal("divisor_override is not supported")
    counted = bool(a.count_include_pad and any(pads))
    return b.emit(at.AvgPool2d(kernel, stride, pads, counted), _ref(a.self))


def _window(a: Any) -> tuple[tuple[int, int], tuple[int, int], at.Pads]:
    if a.ceil_mode:
        raise Refusal("ceil_mode; pad the input instead")
    kernel = _pair(a.kernel_size)
    height, width = _pair(a.padding)
    return kernel, _pair(a.stride) if a.stride else kernel, (height, height, width, width)


def _adaptive_pool(b: Builder, a: Any) -> Value:
    x = _ref(a.self)
    size, out = x.shape[2:], b.shape[2:]
    if out == (1, 1):
        return b.emit(at.GlobalMean(), x)
    if any(n % m for n, m in zip(size, out, strict=True)):
        raise Refusal(f"{size} is not a multiple of {out}")
    kernel = (size[0] // out[0], size[1] // out[1])
    return x if kernel == (1, 1) else b.emit(at.AvgPool2d(kernel, kernel), x)


def _mean(b: Builder, a: Any) -> Value:
    x = _ref(a.self)
    axes = sorted(axis % len(x.shape) for axis in getattr(a, "dim", None) or range(len(x.shape)))
    if len(x.shape) != 4 or axes != [2, 3]:
        raise Refusal(f"mean of {x.shape} over axes {axes}; only height and width of an image")
    return b.emit(at.GlobalMean(keep=bool(a.keepdim)), x)


def _reshape(b: Builder, a: Any) -> Value:
    x = _ref(a.self)
    if b.shape[:1] != x.shape[:1]:
        raise Refusal(f"{x.shape} to {b.shape} does not keep the batch axis")
    return x if b.shape == x.shape else b.emit(at.Reshape(b.shape), x)


def _permute(b: Builder, a: Any) -> Value:
    """Moving axes of size one is a reshape; anything else is refused."""
    x = _ref(a.self)
    rank = len(x.shape)
    order = list(range(rank))
    if hasattr(a, "dims"):
        order = [axis % rank for axis in a.dims]
    else:
        i, j = (a.dim0 % rank, a.dim1 % rank) if hasattr(a, "dim0") else (0, rank - 1)
        order[i], order[j] = order[j], order[i]
    wide = [axis for axis in order if x.shape[axis] > 1]
    if wide != sorted(wide):
        raise Refusal(f"axes {tuple(order)} of {x.shape} change the order of elements")
    return _reshape(b, a)


def _slice(b: Builder, a: Any) -> Value:
    return _cut(b, _ref(a.self), a.dim, a.start, a.end, a.step)


def _select(b: Builder, a: Any) -> Value:
    x = _ref(a.self)
    index = a.index % x.shape[a.dim]
    if a.dim % len(x.shape) == 0:
        raise Refusal("the batch axis cannot be dropped")
    one = _cut(b, x, a.dim, index, index + 1, 1)
    return b.emit(at.Reshape(b.shape), one, part="drop")


def _split(b: Builder, a: Any) -> Value:
    x = _ref(a.self)
    total = x.shape[a.dim]
    if hasattr(a, "split_sizes"):
        sizes = list(a.split_sizes)
    elif hasattr(a, "chunks"):
        sizes = [-(-total // a.chunks)] * a.chunks
    else:
        sizes = [a.split_size] * -(-total // a.split_size)
    starts = [sum(sizes[:i]) for i in range(len(sizes))]
    return [
        _cut(b, x, a.dim, start, min(start + size, total), 1)
        for start, size in zip(starts, sizes, strict=True)
        if start < total
    ]


def _cut(b: Builder, x: Ref, dim: int, start: int | None, stop: int | None, step: int) -> Ref:
    axis = dim % len(x.shape)
    low, high, step = slice(start, stop, step).indices(x.shape[axis])
    if axis == 0 and (low, high) != (0, x.shape[0]):
        raise Refusal("the batch axis cannot be cut")
    if (low, high, step) == (0, x.shape[axis], 1):
        return x
    starts, stops, steps = [0] * len(x.shape), list(x.shape), [1] * len(x.shape)
    starts[axis], stops[axis], steps[axis] = low, high, step
    return b.emit(at.Slice(tuple(starts), tuple(stops), tuple(steps)), x)


def _pad(b: Builder, a: Any) -> Value:
    x = _ref(a.self)
    if getattr(a, "mode", "constant") != "constant" or a.value not in (None, 0):
        raise Refusal("only padding with the constant zero")
    if min(a.pad) < 0:
        raise Refusal(f"pads {tuple(a.pad)}; cut with a slice instead of a negative pad")
    pairs = [(a.pad[i], a.pad[i + 1]) for i in range(0, len(a.pad), 2)]
    pads = ((0, 0),) * (len(x.shape) - len(pairs)) + tuple(reversed(pairs))
    if pads[0] != (0, 0):
        raise Refusal("the batch axis cannot be padded")
    return x if not any(a.pad) else b.emit(at.Pad(pads), x)


def _function(name: at.Function) -> Lowering:
    return lambda b, a: b.emit(at.Activation(name), _ref(a.self))


def _clamp(b: Builder, a: Any) -> Value:
    low = a.min_val if hasattr(a, "min_val") else a.min
    high = getattr(a, "max_val", getattr(a, "max", None))
    match low, high:
        case 0, None:
            return b.emit(at.Activation("relu"), _ref(a.self))
        case 0, 6:
            return b.emit(at.Activation("relu6"), _ref(a.self))
    raise Refusal(f"clamp to [{low}, {high}]; only [0, 6] and [0, None]")


def _silu(b: Builder, a: Any) -> Value:
    x = _ref(a.self)
    return b.emit(at.Mul(), x, b.emit(at.Activation("sigmoid"), x, part="sigmoid"))


def _softmax(b: Builder, a: Any) -> Value:
    x = _ref(a.self)
    if a.dim % len(x.shape) != len(x.shape) - 1 or len(x.shape) > 3:
        raise Refusal(f"softmax over axis {a.dim} of {x.shape}; only the last of (N, C), (N, T, C)")
    return b.emit(at.Softmax(), x)


def _same(b: Builder, a: Any) -> Value:
    x = next(iter(vars(a).values()))
    dtype = getattr(a, "dtype", None)
    if getattr(a, "train", False) or not (dtype is None or dtype.is_floating_point):
        raise Refusal("only as a step that changes nothing")
    return _ref(x)


def _expand(b: Builder, a: Any) -> Value:
    """Nothing where a product broadcasts anyway."""
    x = _ref(a.self)
    if b.shape != x.shape and b.users() != {"mul"}:
        raise Refusal(f"{x.shape} is widened to {b.shape}; only a factor of mul may be")
    return x


def _like(b: Builder, a: Any) -> Value:
    """Zeros and ones of the shape of a computed tensor are constants."""
    kind = str(b.node.target)
    if "zeros" not in kind and "ones" not in kind:
        raise Refusal("only zeros and ones")
    return Constant(torch.full(b.shape, float("ones" in kind), dtype=torch.float64))


def _ref(value: Value) -> Ref:
    if not isinstance(value, Ref):
        raise Refusal("its first operand is a constant")
    return value


def _constant(value: Value, role: str) -> Constant:
    if not isinstance(value, Constant):
        raise Refusal(f"its {role} is computed from the input; only constants will do")
    return value


def _pair(value: Any) -> tuple[int, int]:
    numbers = list(value) if isinstance(value, list | tuple) else [value]
    return int(numbers[0]), int(numbers[-1])


LOWERINGS: dict[str, Lowering] = {
    "_adaptive_avg_pool2d": _adaptive_pool,
    "_native_batch_norm_legit_no_training": _native_batch_norm,
    "_softmax": _softmax,
    "_to_copy": _same,
    "_unsafe_view": _reshape,
    "adaptive_avg_pool2d": _adaptive_pool,
    "add": arithmetic.add,
    "addmm": _addmm,
    "alias": _same,
    "avg_pool2d": _avg_pool,
    "batch_norm": _batch_norm,
    "cat": _cat,
    "chunk": _split,
    "clamp": _clamp,
    "clamp_min": _clamp,
    "clone": _same,
    "constant_pad_nd": _pad,
    "contiguous": _same,
    "conv2d": _convolution,
    "convolution": _convolution,
    "detach": _same,
    "div": arithmetic.div,
    "dropout": _same,
    "expand": _expand,
    "expand_as": _expand,
    "flatten": _reshape,
    "hardsigmoid": _function("hardsigmoid"),
    "hardswish": _function("hardswish"),
    "hardtanh": _clamp,
    "linear": _linear,
    "matmul": _matmul,
    "max_pool2d": _max_pool,
    "mean": _mean,
    "mm": _matmul,
    "mul": arithmetic.mul,
    "neg": arithmetic.neg,
    "new_ones": _like,
    "new_zeros": _like,
    "ones_like": _like,
    "pad": _pad,
    "permute": _permute,
    "relu": _function("relu"),
    "relu6": _function("relu6"),
    "reshape": _reshape,
    "rsub": arithmetic.rsub,
    "select": _select,
    "sigmoid": _function("sigmoid"),
    "silu": _silu,
    "slice": _slice,
    "softmax": _softmax,
    "split": _split,
    "split_with_sizes": _split,
    "squeeze": _reshape,
    "sub": arithmetic.sub,
    "t": _permute,
    "tanh": _function("tanh"),
    "to": _same,
    "transpose": _permute,
    "unflatten": _reshape,
    "unsqueeze": _reshape,
    "view": _reshape,
    "zeros_like": _like,
}
