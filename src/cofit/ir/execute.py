"""The float meaning of a graph, in torch: the reference for compiled fp32 programs."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F

from cofit.ir import attributes as at
from cofit.ir.types import DType, Graph, Op

FUNCTIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "none": lambda x: x,
    "relu": F.relu,
    "relu6": F.relu6,
    "hardswish": F.hardswish,
    "hardsigmoid": F.hardsigmoid,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
}


def run_float(
    graph: Graph,
    inputs: Mapping[str, torch.Tensor],
    dtype: torch.dtype = torch.float32,
    keep: bool = False,
) -> dict[str, torch.Tensor]:
    """Run a float graph on a batch.

    Args:
        graph: a graph with float tensors.
        inputs: by name, shape (N, ...) where the graph says (1, ...); tokens of any integer type.
        dtype: arithmetic of the run; float64 for a reference.
        keep: return every activation, not only the outputs.
    """
    values = {
        name: x.long() if graph.tensors[name].dtype is DType.I32 else x.to(dtype)
        for name, x in inputs.items()
    }
    for op in graph.ops:
        values[op.output] = apply(op, [_operand(graph, values, n, dtype) for n in op.inputs])
    return values if keep else {name: values[name] for name in graph.outputs}


def apply(op: Op, args: list[torch.Tensor]) -> torch.Tensor:
    """One op on torch tensors; the batch may be larger than the graph's."""
    x = args[0]
    match op.attributes:
        case at.Conv2d() as conv:
            top, bottom, left, right = conv.padding
            padding = (top, left)
            if padding != (bottom, right):  # torch pads both sides alike; the rest costs a copy
                x, padding = F.pad(x, (left, right, top, bottom)), (0, 0)
            y = F.conv2d(
                x, args[1], args[2], stride=conv.stride, padding=padding,
                dilation=conv.dilation, groups=conv.groups,
            )  # fmt: skip
            return FUNCTIONS[conv.fused](y)
        case at.Linear() as linear:
            return FUNCTIONS[linear.fused](F.linear(x, args[1], args[2]))
        case at.Add() as add:
            return FUNCTIONS[add.fused](x + args[1])
        case at.Mul() as mul:
            return FUNCTIONS[mul.fused](x * args[1])
        case at.Concat() as concat:
            return torch.cat(args, dim=concat.axis)
        case at.MaxPool2d() as pool:
            top, bottom, left, right = pool.padding
            padded = F.pad(x, (left, right, top, bottom), value=float("-inf"))
            return F.max_pool2d(padded, pool.kernel, pool.stride)
        case at.AvgPool2d() as pool:
            return _avgpool(x, pool)
        case at.GlobalMean() as mean:
            return x.mean(dim=(2, 3), keepdim=mean.keep)
        case at.Reshape() as reshape:
            return x.reshape(x.shape[0], *reshape.shape[1:])
        case at.Slice() as cut:
            index = [slice(a, b, s) for a, b, s in zip(cut.start, cut.stop, cut.step, strict=True)]
            return x[(slice(None), *index[1:])]
        case at.Pad() as pad:
            return F.pad(x, [n for before_after in reversed(pad.pads) for n in before_after])
        case at.Activation() as act:
            return FUNCTIONS[act.function](x)
        case at.Softmax():
            return torch.softmax(x, dim=-1)
        case at.Matmul() as product:
            return torch.matmul(x, args[1].mT if product.transposed else args[1]) * product.scale
        case at.Transpose() as transpose:
            return x.permute(transpose.permutation)
        case at.LayerNorm() as norm:
            return F.layer_norm(x, x.shape[-1:], args[1], args[2], norm.eps)
        case at.Embedding():
            return F.embedding(x.long(), args[1])
        case at.Gru():
            return _states(x, args, gru_step)
        case at.Lstm():
            return _states(x, args, lstm_step)


State = tuple[torch.Tensor, ...]
Step = Callable[[torch.Tensor, torch.Tensor, State], State]


def gru_step(inner: torch.Tensor, outer: torch.Tensor, state: State) -> State:
    """Next (h,) of a GRU; inner = W_ih x + b_ih, outer = W_hh h + b_hh, both (N, 3H)."""
    xs, hs = inner.chunk(3, -1), outer.chunk(3, -1)
    r, z = torch.sigmoid(xs[0] + hs[0]), torch.sigmoid(xs[1] + hs[1])
    n = torch.tanh(xs[2] + r * hs[2])
    return ((1 - z) * n + z * state[0],)


def lstm_step(inner: torch.Tensor, outer: torch.Tensor, state: State) -> State:
    """Next (h, c) of an LSTM; inner = W_ih x + b_ih, outer = W_hh h + b_hh, both (N, 4H)."""
    i, f, g, o = (inner + outer).chunk(4, -1)
    c = torch.sigmoid(f) * state[1] + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(c), c


def _states(x: torch.Tensor, args: list[torch.Tensor], step: Step) -> torch.Tensor:
    """Hidden states (N, T, H) of a recurrent layer that begins at zero, or at a given state."""
    _, w_ih, w_hh, b_ih, b_hh, *first = args
    zero = x.new_zeros(len(x), w_hh.shape[1])
    state: State = (first[0][:, 0] if first else zero, zero)
    found = []
    for inner in F.linear(x, w_ih, b_ih).unbind(1):
        state = step(inner, F.linear(state[0], w_hh, b_hh), state)
        found.append(state[0])
    return torch.stack(found, 1)


def _operand(
    graph: Graph, values: dict[str, torch.Tensor], name: str, dtype: torch.dtype
) -> torch.Tensor:
    if name not in values:
        values[name] = torch.from_numpy(graph.tensors[name].data).to(dtype)
    return values[name]


def _avgpool(x: torch.Tensor, pool: at.AvgPool2d) -> torch.Tensor:
    top, bottom, left, right = pool.padding
    area = pool.kernel[0] * pool.kernel[1]
    pads = (left, right, top, bottom)
    sums = F.avg_pool2d(F.pad(x, pads), pool.kernel, pool.stride) * area
    if pool.count_padding:
        return sums / area
    ones = F.pad(torch.ones_like(x[:1, :1]), pads)
    return sums / (F.avg_pool2d(ones, pool.kernel, pool.stride) * area)
