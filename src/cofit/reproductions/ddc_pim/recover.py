"""Integer layers from stored words: u and ~u on the array, constants added by a recovery unit.

y_a = sum x u + K_a X and y_b = sum x (~u) + K_b X, with X = sum x over the patch, computed once and
shared by all pairs of a group.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from cofit.core import StructureError
from cofit.ir import Graph, Quantisation
from cofit.ir.integer.accumulate import conv_sums
from cofit.structures import Complementary, Encoding, pair_levels
from cofit.structures.complementary import pair_scale

Int64 = NDArray[np.int64]


def array_words(encoding: Encoding) -> NDArray[np.int8]:
    """What the array multiplies with (K, C, R, S): u, ~u, and the unpaired filter as it is."""
    words = encoding.arrays["values"]
    if encoding.format != "paired" or words.dtype != np.int8:
        raise StructureError(f"{encoding.format} of {words.dtype}; encode int8 pairs")
    read = np.stack([words, np.invert(words)], axis=1).reshape(2 * len(words), -1)
    if "single" in encoding.arrays:
        read = np.concatenate([read, encoding.arrays["single"].reshape(1, -1)])
    return read.reshape(encoding.shape)


def recovered_conv(
    x: NDArray[np.int8],
    encoding: Encoding,
    *,
    zero_point: int = 0,
    stride: tuple[int, int] = (1, 1),
    padding: tuple[int, int, int, int] = (0, 0, 0, 0),
    groups: int = 1,
) -> Int64:
    """Sums of (x - zero_point) * w of a paired layer, from its stored words alone.

    Args:
        x: (N, C, H, W).
        encoding: of int8 pairs.
        zero_point: of x; padding has this value.
        stride: rows, columns.
        padding: top, bottom, left, right.
        groups: of channels; C for a depthwise layer.

    Returns:
        (N, K, H', W').
    """
    shared = {"input_offset": -zero_point, "stride": stride, "padding": padding, "groups": groups}
    read = array_words(encoding)
    sums = conv_sums(x, read, **shared)  # type: ignore[arg-type]
    ones = np.ones((groups, *encoding.shape[1:]), np.int8)
    patch = conv_sums(x, ones, **shared)  # type: ignore[arg-type]
    constants = np.zeros(len(read), np.int64)
    constants[: 2 * len(encoding.arrays["constants"])] = encoding.arrays["constants"].reshape(-1)
    each_group = np.repeat(np.arange(groups), len(read) // groups)
    return sums + constants[:, None, None] * patch[:, each_group]


def with_pairs(
    integer: Graph, folded: Graph, weights: dict[str, torch.Tensor], gains: dict[str, torch.Tensor]
) -> Graph:
    """The integer graph with the levels that pairs were trained to, not a rounding of the folded.

    Normalisation stays outside of the stored weights, as a factor of the output scale.

    Args:
        integer: quantised from `folded`.
        folded: float graph, normalisation folded.
        weights: trained members of `Complementary`, before folding, by name.
        gains: factor (K,) that folding multiplied each filter with, by weight name.

    Raises:
        StructureError: naming a layer with a negative gain, or whose weights are no pairs.
    """
    changed = {}
    for op, stored in integer.weighted():
        if stored.name not in weights:
            continue
        weight, gain = weights[stored.name], gains[stored.name].double()
        if bool((gain <= 0).any()):
            raise StructureError(
                f"{stored.name!r} has normalisations that turn the sign of a filter; make their "
                "scales positive before pairing"
            )
        scale = pair_scale(weight)
        levels = pair_levels(weight, scale).to(torch.int8)
        violation = Complementary().check(levels)
        exact = torch.equal(levels * scale.reshape(-1, 1, 1, 1), weight.double())
        if violation is not None or not exact:
            raise StructureError(
                f"{stored.name!r} is not on a grid of pairs ({violation or 'it is off the grid'}); "
                "fold no normalisation into it"
            )
        real = (scale * gain).float().double().numpy()
        assert integer.tensors[op.inputs[0]].quantisation is not None
        step = real * integer.tensors[op.inputs[0]].quantisation.scale[0]  # type: ignore[union-attr]
        bias = np.asarray(folded.tensors[op.inputs[2]].data, np.float64)
        changed[stored.name] = replace(
            stored, data=levels.numpy(), quantisation=Quantisation(tuple(real.tolist()), 0, 8)
        )
        changed[op.inputs[2]] = replace(
            integer.tensors[op.inputs[2]],
            data=np.rint(bias / step).astype(np.int32),
            quantisation=Quantisation(tuple(step.tolist()), 0, 32),
        )
    return integer.with_tensors(changed)
