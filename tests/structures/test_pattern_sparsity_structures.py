"""Acceptance checks of pattern-based sparsity that concern structures."""

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
import torch

from cofit.core import StructureError, torch_generator
from cofit.structures import (
    ALL_CENTRED,
    CORNERS,
    T_SHAPES,
    VGG8,
    YOLO13,
    Connectivity,
    Pattern,
    PatternLibrary,
    extract_library,
    parse,
)

LIBRARIES = {"t": T_SHAPES, "corner": CORNERS, "vgg": VGG8, "yolo": YOLO13}


def subsets(library):
    return [{i for i in range(9) if mask >> i & 1} for mask in library.masks]


@pytest.mark.parametrize("library", LIBRARIES.values(), ids=LIBRARIES)
@pytest.mark.parametrize("shape", [(64, 16, 3, 3), (13, 7, 3, 3)])
@pytest.mark.parametrize("connectivity", ["1", "1.7", "3.6"])
@pytest.mark.parametrize("tied", [False, True])
def test_01_hard_pruned_kernels_are_patterns_and_counts_exact(library, shape, connectivity, tied):
    base = Fraction(9, library.entries)
    rate = float(base * Fraction(connectivity))
    weight = torch.ones(shape) if tied else torch.randn(shape, generator=torch_generator(1))
    projected = Pattern(library, 1, rate).project(weight)
    shapes = subsets(library)
    kept = 0
    for kernel in projected.reshape(-1, 9):
        seen = set(kernel.nonzero().flatten().tolist())
        kept += bool(seen)
        assert any(seen <= shape for shape in shapes)
    assert kept == math.ceil(Fraction(shape[0] * shape[1]) / Fraction(connectivity))


@pytest.mark.parametrize("library", LIBRARIES.values(), ids=LIBRARIES)
def test_02_projection_is_idempotent_and_optimal(library):
    kernels = torch.randn(1000, 1, 3, 3, generator=torch_generator(2))
    structure = Pattern(library, 1, 9 / library.entries)
    projected = structure.project(kernels)
    assert torch.equal(structure.project(projected), projected)
    patterns = [torch.tensor([i in s for i in range(9)]).reshape(3, 3) for s in subsets(library)]
    for kernel, got in zip(kernels[:, 0].double(), projected[:, 0].double(), strict=True):
        candidates = [torch.where(p, kernel, 0.0) for p in patterns]
        best = min(candidates, key=lambda z: float((kernel - z).square().sum()))
        assert torch.equal(got, best)  # 0 ulp


@pytest.mark.parametrize(("group", "k"), [(1, 2), (4, 5), (8, 9)])
@pytest.mark.parametrize("library", [T_SHAPES, CORNERS], ids=["t", "corner"])
def test_02_joint_pattern_and_connectivity_is_optimal(library, group, k):
    """Every choice of kernels and every choice of patterns, tried one by one."""
    c = 2
    structure = Pattern(library, group, 4.5)  # half the kernels
    units = list(itertools.product(range(math.ceil(k / group)), range(c)))
    bits = library.bits()
    for seed in range(10):
        weight = torch.randn(k, c, 3, 3, generator=torch_generator(seed, group))
        flat = weight.double().square().reshape(k, c, 9)
        best = 0.0
        for chosen in itertools.combinations(units, len(units) // 2):
            for patterns in itertools.product(bits, repeat=len(chosen)):
                energy = sum(
                    float(flat[g * group : (g + 1) * group, channel][:, p].sum())
                    for (g, channel), p in zip(chosen, patterns, strict=True)
                )
                best = max(best, energy)
        projected = structure.project(weight)
        assert float(projected.double().square().sum()) == pytest.approx(best, rel=1e-12)


def test_02_connectivity_with_pattern_is_the_joint_projection():
    weight = torch.randn(12, 9, 3, 3, generator=torch_generator(3))
    joint = parse("connectivity@3.6+pattern8g1@2.25").project(weight)
    assert torch.equal(joint, parse("pattern8g1@8.1").project(weight))
    assert parse("pattern8g1@2.25+connectivity@3.6") == parse("connectivity@3.6+pattern8g1@2.25")
    # the order of the papers, connectivity first, is a member but not nearer
    steps = parse("pattern8g1@2.25").project(parse("connectivity@3.6").project(weight))
    assert parse("pattern8g1@8.1").check(steps) is None
    assert (weight - joint).norm() < (weight - steps).norm()
    balanced = parse("connectivity-filter@3+pattern4g1@2.25").project(weight)
    assert set((balanced != 0).any(3).any(2).sum(1).tolist()) == {3}


def test_03_scp_identity():
    mean = T_SHAPES.bits().double().mean(0).reshape(3, 3)
    assert mean.tolist() == [[0, 0.75, 0], [0.75, 1, 0.75], [0, 0.75, 0]]


def test_03_libraries_are_those_of_the_papers():
    assert len(ALL_CENTRED.masks) == math.comb(8, 3) and len(set(ALL_CENTRED.masks)) == 56
    assert all(4 in subset for subset in subsets(ALL_CENTRED))
    assert subsets(CORNERS) == [{0, 1, 3, 4}, {1, 2, 4, 5}, {3, 4, 6, 7}, {4, 5, 7, 8}]
    assert len(YOLO13.masks) == 13 and YOLO13.entries == 5
    assert sum(4 not in subset for subset in subsets(YOLO13)) == 4
    assert len(VGG8.masks) == 8 and set(CORNERS.masks) < set(VGG8.masks)


def test_04_planted_library():
    generator = torch_generator(4)
    chosen = torch.randperm(56, generator=generator)[:8].tolist()
    planted = [ALL_CENTRED.masks[i] for i in chosen]
    bits = PatternLibrary(tuple(planted)).bits()
    weights = []
    for k, c in ((32, 16), (48, 32), (24, 24)):
        which = torch.randint(0, 8, (k, c), generator=generator)
        size = 0.5 + torch.rand(k, c, 9, generator=generator)
        sign = torch.randint(0, 2, (k, c, 9), generator=generator) * 2 - 1
        noise = 0.1 * torch.randn(k, c, 9, generator=generator)
        weights.append((bits[which] * size * sign + noise).reshape(k, c, 3, 3))
    assert set(extract_library(weights, 8).masks) == set(planted)
    # a staged shrink over the survivors ends at the same eight
    library = ALL_CENTRED
    for size in (32, 16, 8):
        library = extract_library(weights, size, library)
    assert set(library.masks) == set(planted)


def test_04_extraction_counts_kernels_and_orders_by_use():
    kernel = torch.zeros(6, 1, 3, 3)
    kernel[:3, 0, 1, 1] = 0.1  # the centre stays although it is small
    kernel[:3, 0, 0, :] = torch.tensor([1.0, 2.0, 3.0])
    kernel[3:5, 0, 2, :] = torch.tensor([1.0, 2.0, 3.0])
    library = extract_library([kernel], 2)  # kernel 5 is zero and has no vote
    assert subsets(library) == [{0, 1, 2, 4}, {4, 6, 7, 8}]
    assert extract_library([kernel[:5]], 2) == library


@pytest.mark.parametrize(
    ("k", "c", "rate"), [(1, 1, 2.25), (7, 5, 4), (64, 3, 8.1), (37, 29, 20), (16, 16, 2.25)]
)
@pytest.mark.parametrize("library", LIBRARIES.values(), ids=LIBRARIES)
def test_07_fkw_round_trip_and_bytes(library, k, c, rate):
    structure = Pattern(library, 1, rate)
    weight = structure.project(torch.randn(k, c, 3, 3, generator=torch_generator(5, k, c)))
    if k > 2 and c > 1:
        weight[k // 2] = 0  # an empty filter
    encoding = structure.encode(weight.numpy())
    assert encoding.decode().tobytes() == weight.numpy().tobytes()
    n = int((weight != 0).any(3).any(2).sum())
    p, e = len(library.masks), library.entries
    assert encoding.nbytes == 4 * (k + 1) + 2 * k + 2 * n + 2 * k * (p + 1) + 4 * e * n
    assert len(b"".join(a.tobytes() for a in encoding.arrays.values())) == encoding.nbytes


@pytest.mark.parametrize("group", [1, 4, 8])
def test_07_fkw_arrays_mean_what_they_say(group):
    """Read the five arrays with plain loops, as a kernel does."""
    structure = Pattern(VGG8, group, 6)
    weight = structure.project(torch.randn(21, 10, 3, 3, generator=torch_generator(6)))
    encoding = structure.encode(weight.numpy())
    arrays, parameters = encoding.arrays, encoding.parameters
    rebuilt = np.zeros(encoding.shape, np.float32)
    lengths = []
    for g in range(len(arrays["offset"]) - 1):
        start, end = arrays["offset"][g : g + 2].tolist()
        lengths.append(end - start)
        assert arrays["stride"][g, 0] == 0 and arrays["stride"][g, -1] == end - start
        for p in range(parameters["patterns"]):
            taps = [i for i in range(9) if parameters[f"pattern{p}"] >> i & 1]
            first, last = arrays["stride"][g, p : p + 2].tolist()
            run = arrays["index"][start + first : start + last].tolist()
            assert run == sorted(run)
            for n in range(start + first, start + last):
                for f, (t, tap) in itertools.product(range(group), enumerate(taps)):
                    slot = g * group + f
                    if slot < 21:
                        where = arrays["reorder"][slot], arrays["index"][n], tap // 3, tap % 3
                        rebuilt[where] = arrays["values"][n, t, f]
                    else:
                        assert arrays["values"][n, t, f] == 0
    assert np.array_equal(rebuilt, weight.numpy())
    whole = lengths[: 21 // group]
    assert whole == sorted(whole, reverse=True)  # neighbours run equally long


def test_07_reorder_puts_equal_filters_side_by_side():
    weight = np.zeros((6, 4, 3, 3), np.float32)
    weight[0::2, 0, 0, :] = 1  # even filters use channel 0, odd ones channels 1 and 2
    weight[1::2, 1, 1, :] = 1
    weight[5, 1] = 0
    weight[5, 3, 1, :] = 1
    library = PatternLibrary.of([(0, 1, 2), (3, 4, 5)])
    reorder = Pattern(library, 1, 3).encode(weight).arrays["reorder"].tolist()
    assert reorder == [0, 2, 4, 1, 3, 5]


def test_10_bad_input():
    weight = torch.randn(8, 4, 5, 5, generator=torch_generator(7))
    with pytest.raises(ValueError, match=r"pattern8g1@4 .*\(8, 4, 5, 5\).*3x3 patterns.* 5x5"):
        parse("pattern8g1@4").project(weight)
    with pytest.raises(ValueError, match=r"connectivity: rate 0.5 .* from 1 up"):
        Connectivity(0.5)
    with pytest.raises(ValueError, match=r"pattern8g1: rate 2 .* from 2.25 up"):
        Pattern(VGG8, 1, 2)
    with pytest.raises(ValueError, match=r"\(0, 1, 3, 4\) is in the library twice"):
        PatternLibrary.of([(0, 1, 3, 4), (1, 2, 4, 5), (4, 3, 1, 0)])
    with pytest.raises(StructureError, match="equal size"):
        PatternLibrary.of([(0, 1, 3, 4), (1, 2, 4)])
    with pytest.raises(StructureError, match="distinct positions from 0 to 8"):
        PatternLibrary.of([(0, 1, 3, 9)])
    with pytest.raises(StructureError, match="at least one"):
        PatternLibrary(())
    with pytest.raises(StructureError, match="groups of 1, 4, 8"):
        Pattern(VGG8, 3, 4)
    with pytest.raises(StructureError, match=r"choose 1 to 56"):
        extract_library([torch.ones(1, 1, 3, 3)], 57)
    with pytest.raises(StructureError, match="no non-zero 3x3 kernel"):
        extract_library([torch.zeros(1, 1, 3, 3)], 8)
    with pytest.raises(StructureError, match="NaN"):
        parse("pattern8g1@4").project(torch.full((4, 4, 3, 3), float("nan")))
