"""How each aten operator becomes ops: `LOWERINGS`, the list of what `trace` supports."""

from __future__ import annotations

from typing import Any

import torch

from cofit.ir import arithmetic, sequences
from cofit.ir import attributes as at
from cofit.ir.lowering import Builder, Constant, Lowering, Ref, Refusal, Value


def _convolution(b: Builder, a: Any) -> Value:
    x, weight = _image(b, a.input), _constant(a.weight, "weight")
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
    return b.weighted(conv, x, weight, a.bias)


def _linear(b: Builder, a: Any) -> Value:
    return b.linear(_ref(a.input), _constant(a.weight, "weight"), a.bias)


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
    """Concat; constants at either end become padding, and an addition if they are not zero."""
    first = next(part for part in a.tensors if isinstance(part, Ref))
    axis = first.axis(a.dim)
    parts = [
        b.reshaped(part, part.shape[part.lead :], image=len(first.shape) == 4)
        if isinstance(part, Ref) and len(part.shape) != len(first.shape)
        else part
        for part in a.tensors
    ]
    before, after = _leading(parts), _leading(parts[::-1])[::-1]
    parts = parts[len(before) : len(parts) - len(after)]
    if any(not isinstance(part, Ref) for part in parts):
        raise Refusal("a constant part between computed ones")
    joined = parts[0] if len(parts) == 1 else b.emit(at.Concat(axis), *parts)
    if not before and not after:
        return joined
    if axis == 0:
        raise Refusal("the batch axis cannot be padded")
    sizes = [sum(part.value.shape[a.dim] for part in ends) for ends in (before, after)]
    pads = [(0, 0)] * len(joined.shape)
    pads[axis] = (sizes[0], sizes[1])
    padded = b.emit(at.Pad(tuple(pads)), joined, part="pad")
    if not any(part.value.any() for part in before + after):
        return padded
    middle = torch.zeros(joined.shape[first.lead :], dtype=torch.float64)
    ends = torch.cat([*(p.value for p in before), middle, *(p.value for p in after)], a.dim)
    return b.emit(at.Add(), padded, Constant(ends.reshape(padded.shape)), part="ends")


def _leading(parts: list[Value]) -> list[Constant]:
    return parts[: next(i for i, part in enumerate(parts) if isinstance(part, Ref))]


def _max_pool(b: Builder, a: Any) -> Value:
    kernel, stride, pads = _window(a)
    if _pair(a.dilation) != (1, 1):
        raise Refusal("dilation must be 1")
    return b.emit(at.MaxPool2d(kernel, stride, pads), _image(b, a.self))


def _avg_pool(b: Builder, a: Any) -> Value:
    kernel, stride, pads = _window(a)
    if a.divisor_override is not None:
        raise Refusal("divisor_override is not supported")
    counted = bool(a.count_include_pad and any(pads))
    return b.emit(at.AvgPool2d(kernel, stride, pads, counted), _image(b, a.self))


def _window(a: Any) -> tuple[tuple[int, int], tuple[int, int], at.Pads]:
    if a.ceil_mode:
        raise Refusal("ceil_mode; pad the input instead")
    kernel = _pair(a.kernel_size)
    height, width = _pair(a.padding)
    return kernel, _pair(a.stride) if a.stride else kernel, (height, height, width, width)


def _adaptive_pool(b: Builder, a: Any) -> Value:
    x = _image(b, a.self)
    size, out = x.shape[2:], b.shape[2:]
    if out == (1, 1):
        return b.emit(at.GlobalMean(), x)
    if any(n % m for n, m in zip(size, out, strict=True)):
        raise Refusal(f"{size} is not a multiple of {out}")
    kernel = (size[0] // out[0], size[1] // out[1])
    return x if kernel == (1, 1) else b.emit(at.AvgPool2d(kernel, kernel), x)


def _mean(b: Builder, a: Any) -> Value:
    """Of height and width of an image, or of the tokens of a sequence."""
    x = _ref(a.self)
    axes = sorted(x.axis(axis) for axis in getattr(a, "dim", None) or range(len(x.shape) - x.lead))
    if len(x.shape) == 4 and axes == [2, 3]:
        return b.emit(at.GlobalMean(keep=bool(a.keepdim)), x)
    if len(x.shape) == 3 and axes == [1]:
        # in memory, tokens are the pixels of an image: neither op before the mean moves a byte
        row = b.emit(at.Reshape((1, *x.shape)), x, part="row")
        pixels = b.emit(at.Transpose((0, 3, 1, 2)), row, part="pixels")
        return b.emit(at.GlobalMean(keep=False), pixels)
    raise Refusal(f"mean of {x.shape} over axes {axes}; only of an image's pixels or of tokens")


def _slice(b: Builder, a: Any) -> Value:
    return _cut(b, _ref(a.self), a.dim, a.start, a.end, a.step)


def _select(b: Builder, a: Any) -> Value:
    x = _ref(a.self)
    index = a.index % x.shape[x.axis(a.dim)]
    if x.axis(a.dim) == 0:
        raise Refusal("the batch axis cannot be dropped")
    return b.reshaped(_cut(b, x, a.dim, index, index + 1, 1), b.shape, image=True, part="drop")


def _split(b: Builder, a: Any) -> Value:
    x = _ref(a.self)
    total = x.shape[x.axis(a.dim)]
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
    axis = x.axis(dim)
    low, high, step = slice(start, stop, step).indices(x.shape[axis])
    if axis == 0 and (low, high) != (0, x.shape[0]):
        raise Refusal("the batch axis cannot be cut")
    if (low, high, step) == (0, x.shape[axis], 1):
        return x
    return b.cut(x, axis, low, high, step)


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
    if x.axis(a.dim) != len(x.shape) - 1:
        raise Refusal(f"softmax over axis {a.dim} of {x.shape}; only over the last")
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
    if b.shape != x.shape[x.lead :] and b.users() != {"mul"}:
        raise Refusal(f"{x.shape} is widened to {b.shape}; only a factor of mul may be")
    return x


def _like(b: Builder, a: Any) -> Value:
    """Zeros and ones of the shape of a computed tensor are constants."""
    kind = str(b.node.target)
    if "zeros" not in kind and "ones" not in kind:
        raise Refusal("only zeros and ones")
    return Constant(torch.full(b.shape, float("ones" in kind), dtype=torch.float64))


def _image(b: Builder, value: Value) -> Ref:
    """The operand in rank 4, if it was held as a sequence of heads."""
    x = _ref(value)
    return b.reshaped(x, x.shape[x.lead :], image=True) if x.lead else x


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
    "_unsafe_view": sequences.reshape,
    "adaptive_avg_pool2d": _adaptive_pool,
    "add": arithmetic.add,
    "addmm": sequences.addmm,
    "alias": _same,
    "avg_pool2d": _avg_pool,
    "baddbmm": sequences.baddbmm,
    "batch_norm": _batch_norm,
    "bmm": sequences.matmul,
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
    "einsum": sequences.einsum,
    "embedding": sequences.embedding,
    "expand": _expand,
    "expand_as": _expand,
    "flatten": sequences.reshape,
    "gelu": sequences.gelu,
    "gru": sequences.gru,
    "hardsigmoid": _function("hardsigmoid"),
    "hardswish": _function("hardswish"),
    "hardtanh": _clamp,
    "layer_norm": sequences.layer_norm,
    "linear": _linear,
    "lstm": sequences.lstm,
    "matmul": sequences.matmul,
    "max_pool2d": _max_pool,
    "mean": _mean,
    "mm": sequences.matmul,
    "mul": arithmetic.mul,
    "native_layer_norm": sequences.native_layer_norm,
    "neg": arithmetic.neg,
    "new_ones": _like,
    "new_zeros": _like,
    "ones_like": _like,
    "pad": _pad,
    "permute": sequences.permute,
    "relu": _function("relu"),
    "relu6": _function("relu6"),
    "reshape": sequences.reshape,
    "rsub": arithmetic.rsub,
    "scaled_dot_product_attention": sequences.attention,
    "select": _select,
    "sigmoid": _function("sigmoid"),
    "silu": _silu,
    "slice": _slice,
    "softmax": _softmax,
    "split": _split,
    "split_with_sizes": _split,
    "squeeze": sequences.reshape,
    "stack": sequences.stack,
    "sub": arithmetic.sub,
    "t": sequences.permute,
    "tanh": _function("tanh"),
    "to": _same,
    "transpose": sequences.permute,
    "unbind": sequences.unbind,
    "unflatten": sequences.reshape,
    "unsqueeze": sequences.reshape,
    "view": sequences.reshape,
    "zeros_like": _like,
}
