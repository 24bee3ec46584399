"""Acceptance checks of NPAS that concern structures."""

import itertools
import math

import numpy as np
import pytest

from cofit.core import torch_generator
from cofit.structures import Block, detect

import torch  # isort: skip


@pytest.mark.parametrize("shape", [(64, 16, 3, 3), (37, 7, 3, 3), (21, 5, 1, 1), (9, 6, 5, 5)])
@pytest.mark.parametrize(("out", "in_", "rate"), [(8, 4, 3), (16, 1, 7.5), (4, 2, 2.5), (8, 1, 1)])
def test_01_block_punched(shape, out, in_, rate):
    """Whole (filter group, channel group, position) blocks; exact count; virtual padding."""
    structure = Block(out, in_, rate)
    if structure.applies(shape) is not None:
        pytest.fail(structure.applies(shape))
    k, c, r, s = shape
    weight = torch.randn(shape, generator=torch_generator(0, out, in_))
    projected = structure.project(weight)
    kept = 0
    blocks = list(itertools.product(range(0, k, out), range(0, c, in_), range(r), range(s)))
    for k0, c0, i, j in blocks:
        block = projected[k0 : k0 + out, c0 : c0 + in_, i, j]
        filled = int((block != 0).sum())
        assert filled in (0, block.numel())
        kept += filled > 0
    assert len(blocks) == math.ceil(k / out) * math.ceil(c / in_) * r * s
    assert kept == math.ceil(len(blocks) / rate)
    encoding = structure.encode(projected.numpy())
    assert len(encoding.arrays["index"]) == kept
    assert np.array_equal(encoding.decode(), projected.numpy())
    assert rate == 1 or detect(projected, [f"block{out}x{in_}"]).kept(shape) == kept
