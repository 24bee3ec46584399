"""Conformance checks that every structure must pass, ours and yours.

    @pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
    def test_mine_conforms(check):
        check(MyStructure(4.0), (37, 5, 3, 3), torch_generator(0, "conformance"))

Each check takes a structure, a shape to which it applies and a generator, and raises
AssertionError with the reason. A structure that declares an `approximation` is not asked for the
nearest member; it must test by itself what it claims instead.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from cofit.structures.contract import Array, Encoding, Structure
from cofit.structures.serial import from_bytes, to_bytes
from cofit.structures.support import support, within
from cofit.structures.text import parse

Shape = tuple[int, ...]
Check = Callable[[Structure, Shape, torch.Generator], None]


def check_applies(structure: Structure, shape: Shape, generator: torch.Generator) -> None:
    """A vector and an empty weight are refused with a reason, the given shape is not."""
    assert structure.applies(shape) is None, structure.applies(shape)
    for wrong in ((5,), (0, 3), (2, 3, 4)):
        assert structure.applies(wrong), f"{structure.text} accepts shape {wrong}"


def check_projection(structure: Structure, shape: Shape, generator: torch.Generator) -> None:
    """Projection is idempotent to the bit, keeps type and shape, and its result is a member."""
    weight = torch.randn(shape, generator=generator)
    before = weight.clone()
    once = structure.project(weight)
    assert torch.equal(weight, before), "project changed its argument"
    assert once.shape == weight.shape and once.dtype == weight.dtype
    assert structure.check(once) is None, structure.check(once)
    assert _same_bits(once.numpy(), structure.project(once).numpy()), "project is not idempotent"
    assert not bool(torch.signbit(once[once == 0]).any()), "removed weights are +0"


def check_rejects(structure: Structure, shape: Shape, generator: torch.Generator) -> None:
    """A dense random weight is a member only if projection leaves it alone."""
    weight = torch.randn(shape, generator=generator)
    violation = structure.check(weight)
    unchanged = torch.equal(structure.project(weight), weight)
    assert (violation is None) == unchanged, f"check says {violation}"
    if violation is not None:
        inside = all(0 <= i < n for i, n in zip(violation.where, shape, strict=False))
        assert inside and 0 < len(violation.where) <= len(shape), f"violation at {violation.where}"


def check_nearest(structure: Structure, shape: Shape, generator: torch.Generator) -> None:
    """No random member is nearer than the projection, whether far from or close to it.

    Members are made from supports: those of nearby weights, and the projection's own with one
    dimension shuffled, where `check` accepts it (so that a fixed mask does not pass).
    """
    if getattr(structure, "approximation", None) is not None:
        return
    weight = torch.randn(shape, generator=generator, dtype=torch.float64)
    least = (weight - structure.project(weight)).square().sum()
    supports = [
        support(structure, weight + spread * torch.randn(shape, generator=generator))
        for spread in (0.03, 0.3, 3.0)
    ]
    for dim, n in enumerate(shape):
        order = torch.randperm(n, generator=generator)
        supports.append(support(structure, weight).index_select(dim, order))
    for where in supports:
        member = torch.where(where, weight, 0.0)
        distance = (weight - member).square().sum()
        nearer = structure.check(member) is None and distance < least * (1 - 1e-12)
        assert not nearer, f"a member is nearer: {distance} < {least}"


def check_support(structure: Structure, shape: Shape, generator: torch.Generator) -> None:
    """The support covers the projection and does not depend on values that are kept."""
    weight = torch.randn(shape, generator=generator)
    where = support(structure, weight)
    assert where.dtype == torch.bool and where.shape == weight.shape
    assert bool(where[structure.project(weight) != 0].all())


def check_encoding(structure: Structure, shape: Shape, generator: torch.Generator) -> None:
    """Encoding is bit-exact for float32 and int8, of the promised size, and serialises."""
    for weight in (_member(structure, shape, generator), _levels(structure, shape, generator)):
        encoding = structure.encode(weight)
        assert encoding.shape == shape
        assert _same_bits(encoding.decode(), weight), "decode differs"
        promised = structure.nbytes(shape, weight.itemsize)
        assert encoding.nbytes == promised, f"{encoding.nbytes} bytes, {promised} promised"
        again = from_bytes(to_bytes(encoding))
        assert _same_encoding(again, encoding) and _same_bits(again.decode(), weight)


def check_encoding_of_zero(structure: Structure, shape: Shape, generator: torch.Generator) -> None:
    """The zero weight is a member of every structure here and takes no more than any other."""
    for kind in (np.float32, np.int8):
        weight: Array = np.zeros(shape, kind)
        encoding = structure.encode(weight)
        assert _same_bits(encoding.decode(), weight)
        assert encoding.nbytes <= structure.nbytes(shape, weight.itemsize)


def check_text(structure: Structure, shape: Shape, generator: torch.Generator) -> None:
    """The text reads back as an equal structure with an equal hash."""
    again = parse(structure.text)
    assert again == structure and hash(again) == hash(structure) and again.text == structure.text
    assert structure.rate >= 1


CHECKS: tuple[Check, ...] = (
    check_applies,
    check_projection,
    check_rejects,
    check_nearest,
    check_support,
    check_encoding,
    check_encoding_of_zero,
    check_text,
)


def _member(structure: Structure, shape: Shape, generator: torch.Generator) -> Array:
    member: Array = structure.project(torch.randn(shape, generator=generator)).numpy()
    return member


def _levels(structure: Structure, shape: Shape, generator: torch.Generator) -> Array:
    """Int8 levels, none zero by accident, on the support of a member; small enough for int4."""
    weight = torch.randn(shape, generator=generator)
    where = support(structure, weight)
    levels = torch.randint(1, 8, shape, generator=generator, dtype=torch.int8)
    signs = torch.where(weight < 0, -1, 1).to(torch.int8)
    signed = torch.where(where, levels * signs, torch.zeros_like(levels))
    if structure.check(signed) is not None:  # a set of values, not of supports and signs
        signed = within(structure, structure.project(weight), signed)
    result: Array = signed.numpy()
    return result


def _same_bits(a: Array, b: Array) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def _same_encoding(a: Encoding, b: Encoding) -> bool:
    return (
        (a.format, a.shape, dict(a.parameters)) == (b.format, b.shape, dict(b.parameters))
        and list(a.arrays) == list(b.arrays)
        and all(_same_bits(a.arrays[name], b.arrays[name]) for name in a.arrays)
    )
