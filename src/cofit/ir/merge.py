"""Consecutive convolutions without an activation between them as one: exact, borders included.

A block of an inverted residual is a 1x1 expansion, a depthwise convolution and a 1x1 projection.
Without its activations it is affine, so it is one dense convolution of the depthwise kernel's size
(with the shortcut as one more weight at the centre). Kernels d1, d2 and strides s1, s2 give the
kernel d1 + (d2 - 1) s1 and the stride s1 s2.

The border: a layer that pads pads its *input map* with zeros, whose value away from the border is
the bias of the layers before. So the merged bias depends on which taps see padding. Where it does,
a constant map is added behind the convolution. Where padding stands in front of the first layer
instead, one vector is exact everywhere.

Source: Fu et al., "DepthShrinker", ICML 2022, arXiv 2206.00843, section 3.4 (the inside only).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import reduce

import torch
import torch.nn.functional as F
from torch import nn

from cofit.core import ModelError, UnknownNameError
from cofit.ir import attributes as at
from cofit.ir.types import Graph, Op, Tensor

_ONE_VECTOR = 1e-12
"""Relative size below which differences between pixels of an offset are rounding (float64)."""


@dataclass(frozen=True, eq=False)
class Composite:
    """An affine map of images in float64: a zero-padded convolution plus what zeros give.

    Attributes:
        weight: (O, C, R, S).
        offset: (1, O, H, W), the image that an input of zeros gives.
        stride: rows, columns.
        padding: top, bottom, left, right.
    """

    weight: torch.Tensor
    offset: torch.Tensor
    stride: tuple[int, int]
    padding: at.Pads

    @staticmethod
    def identity(shape: tuple[int, ...]) -> Composite:
        """The map that changes nothing, of images (1, C, H, W)."""
        kernel = torch.eye(shape[1], dtype=torch.float64)[..., None, None]
        zeros = torch.zeros(shape, dtype=torch.float64)
        return Composite(kernel, zeros, (1, 1), (0, 0, 0, 0))

    def then(self, conv: at.Conv2d, weight: torch.Tensor, bias: torch.Tensor) -> Composite:
        """This map, then a convolution (without its fused activation).

        Args:
            conv: its stride, padding and groups; groups are 1 or the channels.
            weight: (K, M / groups, R, S).
            bias: (K,).

        Raises:
            ModelError: the map so far looks at more than one pixel and `conv` pads its output, so
                the border is no convolution of the input; or groups or dilation are of another
                kind.
        """
        if conv.dilation != (1, 1):
            raise ModelError(f"its dilation is {conv.dilation}; merging takes (1, 1)")
        if conv.groups not in (1, self.weight.shape[0]):
            raise ModelError(
                f"it has {conv.groups} groups over {self.weight.shape[0]} channels; "
                "merging takes dense and depthwise convolutions"
            )
        pixelwise = self.weight.shape[2:] == (1, 1) and not any(self.padding)
        if any(conv.padding) and not pixelwise:
            raise ModelError(
                "it pads an image that was already gathered from several pixels; "
                "put all padding in front of the first convolution"
            )
        weight, bias = weight.double(), bias.double()
        top, bottom, left, right = conv.padding
        image = F.pad(self.offset, (left, right, top, bottom))
        rows, columns = self.stride
        first = (self.padding[0], self.padding[1]), (self.padding[2], self.padding[3])
        padding = (
            first[0][0] + rows * top, first[0][1] + rows * bottom,
            first[1][0] + columns * left, first[1][1] + columns * right,
        )  # fmt: skip
        return Composite(
            _composed(self.weight, weight, conv.groups, self.stride),
            F.conv2d(image, weight, bias, conv.stride, groups=conv.groups),
            (rows * conv.stride[0], columns * conv.stride[1]),
            padding,
        )

    def plus_identity(self) -> Composite:
        """This map plus its input; shapes must agree."""
        weight = self.weight.clone()
        channels = torch.arange(len(weight))
        weight[channels, channels, self.padding[0], self.padding[2]] += 1
        return replace(self, weight=weight)

    @property
    def bias(self) -> torch.Tensor:
        """(O,): the offset at the middle of the image."""
        height, width = self.offset.shape[2:]
        return self.offset[0, :, height // 2, width // 2]

    @property
    def border(self) -> torch.Tensor | None:
        """(1, O, H, W): what the offset differs from the bias by; None if nowhere."""
        difference = self.offset - self.bias[:, None, None]
        if difference.abs().max() <= _ONE_VECTOR * self.offset.abs().max():
            return None
        return difference

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) in float64 -> (N, O, H', W')."""
        top, bottom, left, right = self.padding
        padded = F.pad(x, (left, right, top, bottom))
        return F.conv2d(padded, self.weight, stride=self.stride) + self.offset


def compose(graph: Graph, block: str) -> Composite:
    """What the ops of a block compute, as one affine map; see `merge`."""
    return _Block(graph, block).composite()


def merge(graph: Graph, block: str) -> Graph:
    """The same function with the convolutions of a block as one.

    Args:
        graph: a float graph.
        block: path of the block: its ops are called "block.something". They must be a chain of
            convolutions without activations between them (see `without_activations`), perhaps with
            the block's input added in the end. An activation of the last op is kept.

    Returns:
        The graph, with "block.weight", "block.bias" and, where the border needs it,
        "block.border" added behind "block.merged".

    Raises:
        UnknownNameError: no op is under that path.
        ModelError: the block cannot be merged, naming it and the op that forbids it.
    """
    return _Block(graph, block).merged()


def merge_blocks(module: nn.Module, graph: Graph, blocks: Iterable[str]) -> Graph:
    """The graph of a trained module, with blocks merged (see `merge`).

    Args:
        module: what was traced.
        graph: its trace; blocks of it whose activations were identities can be merged.
        blocks: their paths in the module.

    Raises:
        ModelError: a BatchNorm of a block is in training mode, so it is no fixed map; or a block
            cannot be merged.
    """
    chosen = tuple(blocks)
    for path, layer in module.named_modules():
        block = next((name for name in chosen if path.startswith(f"{name}.")), None)
        if block and isinstance(layer, nn.modules.batchnorm._BatchNorm) and layer.training:
            raise ModelError(
                f"block {block!r} cannot be merged: its BatchNorm {path!r} is in training mode; "
                "call eval() when training is done"
            )
    return reduce(merge, chosen, graph)


def without_activations(graph: Graph, block: str) -> Graph:
    """The graph in which all ops of a block but the last have lost their fused activation.

    This changes the function; it is what a block is before `merge`.
    """
    inner = {op.output for op in _ops(graph, block)[:-1]}
    ops = tuple(
        replace(op, attributes=replace(op.attributes, fused="none"))
        if op.output in inner and isinstance(op.attributes, at.Conv2d | at.Linear | at.Add | at.Mul)
        else op
        for op in graph.ops
    )
    return replace(graph, ops=ops)


class _Block:
    """A block that was found fit to be merged, op by op."""

    def __init__(self, graph: Graph, block: str) -> None:
        self._graph = graph
        self._name = block
        if graph.is_integer:
            raise ModelError(f"block {block!r} computes in integers; merge the float graph")
        ops = _ops(graph, block)
        self._last = ops[-1]
        self._source = ops[0].inputs[0]
        self._shortcut = ops[-1].kind == "add"
        self._convs = ops[:-1] if self._shortcut else ops
        self._check()

    def composite(self) -> Composite:
        """The map in float64."""
        tensors = self._graph.tensors
        found = Composite.identity(tensors[self._source].shape)
        for op in self._convs:
            assert isinstance(op.attributes, at.Conv2d)
            weight, bias = (torch.tensor(tensors[name].data) for name in op.inputs[1:])
            try:
                found = found.then(op.attributes, weight, bias)
            except ModelError as error:
                raise self._refusal(op, str(error)) from None
        return found.plus_identity() if self._shortcut else found

    def merged(self) -> Graph:
        """The graph with one convolution instead."""
        found, graph, name, last = self.composite(), self._graph, self._name, self._last
        fused = last.attributes.fused  # type: ignore[union-attr]
        border = found.border
        constants = {"weight": found.weight, "bias": found.bias}
        conv = at.Conv2d(found.stride, found.padding, fused=fused if border is None else "none")
        inputs = (self._source, f"{name}.weight", f"{name}.bias")
        tensors = dict(graph.tensors)
        if border is None:
            new = [Op(last.output, conv, inputs)]
        else:
            inner = f"{name}.merged"
            constants["border"] = border
            tensors[inner] = Tensor(inner, graph.tensors[last.output].shape)
            add = Op(last.output, at.Add(fused), (inner, f"{name}.border"))
            new = [Op(inner, conv, inputs), add]
        for key, value in constants.items():
            data = value.contiguous().float().numpy()
            tensors[f"{name}.{key}"] = Tensor(f"{name}.{key}", data.shape, data=data)
        gone = {op.output for op in (*self._convs, last)}
        ops: list[Op] = []
        for op in graph.ops:
            if op.output == last.output:
                ops.extend(new)
            elif op.output not in gone:
                ops.append(op)
        kept = {key: tensor for key, tensor in tensors.items() if key not in gone - {last.output}}
        return Graph.build(graph.name, graph.inputs, graph.outputs, tuple(ops), kept)

    def _check(self) -> None:
        graph, current = self._graph, self._source
        for op in self._convs:
            if not isinstance(op.attributes, at.Conv2d):
                raise self._refusal(op, f"no convolution can take in its {op.kind}")
        for op in self._convs:
            assert isinstance(op.attributes, at.Conv2d)
            fused = op.attributes.fused
            readers = len(graph.consumers.get(op.output, ())) + (op.output in graph.outputs)
            if op.inputs[0] != current:
                raise self._refusal(op, "it does not read the convolution before it")
            if op is not self._last and fused != "none":
                raise self._refusal(op, f"its {fused} is kept; remove it first")
            if op is not self._last and readers != 1:
                raise self._refusal(op, "its output is read elsewhere too")
            current = op.output
        if not self._convs:
            raise self._refusal(self._last, "there is no convolution before it")
        if self._shortcut and sorted(self._last.inputs) != sorted((self._source, current)):
            raise self._refusal(self._last, "it adds something else than the block's input")

    def _refusal(self, op: Op, reason: str) -> ModelError:
        return ModelError(f"block {self._name!r} cannot be merged at {op.output!r}: {reason}")


def _ops(graph: Graph, block: str) -> list[Op]:
    ops = [op for op in graph.ops if op.output.startswith(f"{block}.") or op.output == block]
    if not ops:
        paths = {op.output.rpartition(".")[0] for op in graph.ops} - {""}
        raise UnknownNameError("block", block, paths)
    return ops


def _composed(
    first: torch.Tensor, second: torch.Tensor, groups: int, stride: tuple[int, int]
) -> torch.Tensor:
    """K[o,c,u,v] = sum over m,i,j of second[o,m,i,j] first[m,c,u - i stride,v - j stride]."""
    channels, height, width = first.shape[1:]
    outputs, _, rows, columns = second.shape
    size = height + (rows - 1) * stride[0], width + (columns - 1) * stride[1]
    kernel = torch.zeros(outputs, channels, *size, dtype=torch.float64)
    fed = first.repeat_interleave(outputs // groups, dim=0) if groups > 1 else first
    for i in range(rows):
        for j in range(columns):
            tap = second[:, :, i, j]
            part = tap[..., None, None] * fed if groups > 1 else torch.tensordot(tap, fed, 1)
            top, left = i * stride[0], j * stride[1]
            kernel[:, :, top : top + height, left : left + width] += part
    return kernel
