"""Lowering of what sequences need: moved axes, products of activations, attention, recurrence."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from cofit.ir import attributes as at
from cofit.ir.lowering import Builder, Constant, Ref, Refusal, Value

# an image of rank 4 is wanted by these; a sequence of heads by those
_IMAGE_READERS = frozenset({
    "conv2d", "convolution", "max_pool2d", "avg_pool2d", "adaptive_avg_pool2d", "batch_norm",
    "_native_batch_norm_legit_no_training",
})  # fmt: skip
_SEQUENCE_READERS = frozenset({
    "permute", "transpose", "matmul", "einsum", "scaled_dot_product_attention",
})  # fmt: skip


def reshape(b: Builder, a: Any) -> Value:
    """Elements stay in order; of rank 4, an image unless heads are clearly meant."""
    image = not b.users() & _SEQUENCE_READERS
    return b.reshaped(_ref(a.self), b.shape, image=image)


def permute(b: Builder, a: Any) -> Value:
    """A reshape where only axes of size one move, else a transposition of the others."""
    x = _ref(a.self)
    rank = len(x.shape) - x.lead
    order = list(range(rank))
    if hasattr(a, "dims"):
        order = [axis % rank for axis in a.dims]
    else:
        i, j = (a.dim0 % rank, a.dim1 % rank) if hasattr(a, "dim0") else (0, rank - 1)
        order[i], order[j] = order[j], order[i]
    return moved(b, x, order, image=bool(b.users() & _IMAGE_READERS))


def moved(b: Builder, x: Ref, order: Sequence[int], image: bool = False) -> Ref:
    """The axes that torch knows, in another order."""
    shape = x.shape[x.lead :]
    wide = [axis for axis in order if shape[axis] > 1]
    result = tuple(shape[axis] for axis in order)
    if wide == sorted(wide):
        return b.reshaped(x, result, image=image or not x.lead)
    kept = b.reshaped(x, (1, *(shape[axis] for axis in sorted(wide))))
    first = len(kept.shape) - len(wide)
    axes = (first + sorted(wide).index(axis) for axis in wide)
    turned = b.emit(at.Transpose((*range(first), *axes)), kept)
    return b.reshaped(turned, result, image=image)


def matmul(b: Builder, a: Any) -> Value:
    """A linear op by a constant matrix, else a product of two activations."""
    x, y = a.self, a.mat2 if hasattr(a, "mat2") else a.other
    if isinstance(y, Constant):
        return b.linear(_ref(x), _columns(y))
    return product(b, _ref(x), _ref(y))


def product(b: Builder, x: Ref, y: Ref, transposed: bool = False, scale: float = 1.0) -> Ref:
    """Scale * x @ y over equal leading axes."""
    x, y = (b.reshaped(each, each.shape[each.lead :]) for each in (x, y))
    if x.shape[:-2] != y.shape[:-2] or min(len(x.shape), len(y.shape)) < 3:
        raise Refusal(f"factors {x.shape} and {y.shape}; their leading axes must be equal")
    return b.emit(at.Matmul(transposed, scale), x, y)


def addmm(b: Builder, a: Any) -> Value:
    """Bias + x @ constant."""
    if a.alpha != 1 or a.beta != 1:
        raise Refusal("alpha and beta must be 1")
    return b.linear(_ref(a.mat1), _columns(a.mat2), a.self)


def baddbmm(b: Builder, a: Any) -> Value:
    """Beta * y + alpha * batch1 @ batch2."""
    found = product(b, _ref(a.batch1), _ref(a.batch2), scale=float(a.alpha))
    if a.beta == 0:
        return found
    if a.beta != 1 or isinstance(a.self, Ref):
        raise Refusal("beta must be 0, or 1 beside a constant")
    term = a.self.value
    return b.emit(at.Add(), found, Constant(term.expand(b.shape).reshape(found.shape)), part="add")


def attention(b: Builder, a: Any) -> Value:
    """softmax(scale * q @ k^T) @ v, in three ops."""
    if a.attn_mask is not None or a.is_causal or getattr(a, "enable_gqa", False):
        raise Refusal("attention with a mask or grouped heads; only attention over all tokens")
    q, k, v = (_ref(x) for x in (a.query, a.key, a.value))
    scale = a.scale if a.scale is not None else 1 / math.sqrt(q.shape[-1])
    scores = product(b, q, k, transposed=True, scale=float(scale))
    return product(b, b.emit(at.Softmax(), scores, part="softmax"), v)


def einsum(b: Builder, a: Any) -> Value:
    """A sum over what two factors share, as one product of matrices."""
    left, _, out = a.equation.replace(" ", "").partition("->")
    labels = left.split(",")
    if "." in a.equation or not out or len(labels) != 2 or len(a.tensors) != 2:
        raise Refusal(f"{a.equation!r}; only products of two tensors with a stated result")
    x, y = _ref(a.tensors[0]), _ref(a.tensors[1])
    sizes = dict(zip(labels[0], x.shape[x.lead :], strict=True))
    sizes |= zip(labels[1], y.shape[y.lead :], strict=True)
    shared = [c for c in labels[0] if c in labels[1] and c in out]
    summed = [c for c in labels[0] if c in labels[1] and c not in out]
    rows = [c for c in labels[0] if c not in labels[1]]
    columns = [c for c in labels[1] if c not in labels[0]]
    if sorted(out) != sorted(shared + rows + columns) or len(set(labels[0] + labels[1])) < len(
        shared + summed + rows + columns
    ):
        raise Refusal(f"{a.equation!r}; an index is summed in one factor alone, or repeated")

    def factor(value: Ref, of: str, *groups: list[str]) -> Ref:
        turned = moved(b, value, [of.index(c) for group in groups for c in group])
        matrices, *shape = (math.prod(sizes[c] for c in group) for group in groups)
        return b.reshaped(turned, (1, matrices, *shape) if matrices > 1 else (1, *shape))

    found = product(
        b, factor(x, labels[0], shared, rows, summed), factor(y, labels[1], shared, summed, columns)
    )
    order = shared + rows + columns
    split = b.reshaped(found, tuple(sizes[c] for c in order))
    return moved(b, split, [order.index(c) for c in out])


def layer_norm(b: Builder, a: Any) -> Value:
    """Over the last axis."""
    x = _ref(a.input)
    if len(a.normalized_shape) != 1:
        raise Refusal(f"layer norm over {tuple(a.normalized_shape)}; only over the last axis")
    ones = torch.ones(x.shape[-1], dtype=torch.float64)
    weight = Constant(ones) if a.weight is None else _constant(a.weight, "weight")
    bias = Constant(0 * ones) if a.bias is None else _constant(a.bias, "bias")
    return b.emit(at.LayerNorm(float(a.eps)), x, weight, bias, roles=("", "weight", "bias"))


def native_layer_norm(b: Builder, a: Any) -> Value:
    """The same, which also gives statistics that nobody may read."""
    return [layer_norm(b, a), None, None]


def embedding(b: Builder, a: Any) -> Value:
    """Rows of a constant table."""
    tokens = _ref(a.indices)
    return b.emit(at.Embedding(), tokens, _constant(a.weight, "table"), roles=("", "weight"))


def gelu(b: Builder, a: Any) -> Value:
    """By erf, or by tanh."""
    return b.emit(at.Activation("gelu" if a.approximate == "none" else "gelu_tanh"), _ref(a.self))


def unbind(b: Builder, a: Any) -> Value:
    """One tensor per index of an axis."""
    x = _ref(a.self)
    axis = x.axis(a.dim)
    if axis == 0:
        raise Refusal("the batch axis cannot be dropped")
    shape = (*x.shape[x.lead : axis], *x.shape[axis + 1 :])
    return [
        b.reshaped(b.cut(x, axis, i, i + 1, 1), shape, part="drop") for i in range(x.shape[axis])
    ]


def stack(b: Builder, a: Any) -> Value:
    """A concatenation along a new axis."""
    axis = a.dim % len(b.shape)
    one = (*b.shape[:axis], 1, *b.shape[axis + 1 :])
    parts = [b.reshaped(_ref(part), one) for part in a.tensors]
    return b.emit(at.Concat(parts[0].axis(axis)), *parts)


def gru(b: Builder, a: Any) -> Value:
    """One op per layer; (states, last states)."""
    return list(_layers(b, a, at.Gru(), [] if isinstance(a.hx, Ref) else [a.hx]))


def lstm(b: Builder, a: Any) -> Value:
    """One op per layer; (states, last states, no cell)."""
    if any(user.args[1] == 2 and user.users for user in b.node.users):
        raise Refusal("the last cell state is read; only the hidden states are computed")
    return [*_layers(b, a, at.Lstm(), list(a.hx)), None]


def _layers(
    b: Builder, a: Any, attributes: at.Gru | at.Lstm, first: list[Value]
) -> tuple[Ref, Ref]:
    x = _ref(a.input)
    if a.bidirectional or not a.batch_first or len(x.shape) != 3 or x.lead:
        raise Refusal("only one direction over (N, T, C) with batch_first=True")
    if any(_constant(state, "first state").value.any() for state in first):
        raise Refusal("a first state that is not zero")
    carried = a.hx if isinstance(a.hx, Ref) else None
    per_layer = 4 if a.has_biases else 2
    if len(a.params) != per_layer * a.num_layers:
        raise Refusal("projections of the state are not supported")
    last = []
    for layer in range(a.num_layers):
        w_ih, w_hh, *biases = a.params[layer * per_layer : (layer + 1) * per_layer]
        zeros = Constant(torch.zeros(len(w_ih.value), dtype=torch.float64))
        state = () if carried is None else (_first_state(b, carried, layer),)
        x = b.emit(
            attributes, x, w_ih, w_hh, *(biases or (zeros, zeros)), *state,
            part=f"l{layer}" if a.num_layers > 1 else "",
            roles=("", f"weight_ih_l{layer}", f"weight_hh_l{layer}", f"bias_ih_l{layer}",
                   f"bias_hh_l{layer}", ""),
        )  # fmt: skip
        last.append(b.cut(x, 1, x.shape[1] - 1, x.shape[1], 1, part="last"))
    states = last[0] if len(last) == 1 else b.emit(at.Concat(1), *last, part="states")
    # (1, L, H) of the graph is (L, 1, H) of torch, whose first axis is not the batch
    lifted = (1, 1, a.num_layers, 1, x.shape[-1])
    return x, b.emit(at.Reshape(lifted), states, part="states")


def _first_state(b: Builder, states: Ref, layer: int) -> Ref:
    """(1, 1, H) of the layer, from (L, 1, H) of torch."""
    one = b.cut(states, states.axis(0), layer, layer + 1, 1, part=f"first{layer}")
    return b.reshaped(replace(one, lead=0), (1, 1, one.shape[-1]), part=f"first{layer}")


def _columns(matrix: Value) -> Constant:
    columns = _constant(matrix, "second factor").value
    if columns.ndim != 2:
        raise Refusal(f"the second factor has {columns.ndim} dimensions, only 2 will do")
    return Constant(columns.t())


def _ref(value: Value) -> Ref:
    if not isinstance(value, Ref):
        raise Refusal("its first operand is a constant")
    return value


def _constant(value: Value, role: str) -> Constant:
    if not isinstance(value, Constant):
        raise Refusal(f"its {role} is computed from the input; only constants will do")
    return value
