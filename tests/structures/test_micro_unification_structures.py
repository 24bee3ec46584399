"""Unified blocks: nearest member, identities, assignment and bytes against closed forms."""

import itertools
import math

import numpy as np
import pytest
import torch

from cofit.core import StructureError, torch_generator
from cofit.structures import Unify, from_bytes, parse, to_bytes
from cofit.structures.assignment import FREE, PRUNED, UNIFIED, exact, greedy


def draw(*shape, name="unify"):
    return torch.randn(shape, generator=torch_generator(0, name, *shape))


def test_01_projection_is_the_best_value_and_signs_by_brute_force():
    grid = torch.arange(0, 3, 1e-4, dtype=torch.float64)
    for n in range(1, 7):
        weight = draw(1, n)
        found = Unify(1, n, 1).project(weight).double()
        distance = (weight.double() - found).square().sum()
        best = math.inf
        for signs in itertools.product((-1.0, 1.0), repeat=n):
            s = torch.tensor(signs, dtype=torch.float64)
            all_v = (weight.double() - s * grid[:, None]).square().sum(1)
            best = min(best, float(all_v.min()))
        # the value has 8 significant bits: at most 2^-8 of itself away from the best
        v = float(weight.abs().mean())
        assert float(distance) <= best + n * (v * 2**-8) ** 2 + 1e-9
        assert torch.equal(found.sign(), weight.double().sign())


def test_01_negative_and_mixed_signs_do_not_cancel():
    weight = torch.tensor([[1.0, -1.0, 1.0, -1.0, 0.0, 0.0, 0.0, 0.0]])
    assert torch.equal(Unify(1, 4, 1).project(weight), weight)


def test_02_unify_loss_is_energy_less_n_times_the_squared_mean():
    weight = draw(10_000, 8).double()
    losses = Unify(1, 8, 1).losses(weight)
    energy = weight.square().sum(1)
    identity = energy - 8 * weight.abs().mean(1).square()
    # relative to the energy, from which the identity subtracts
    assert torch.allclose(losses.unify / energy, identity / energy, rtol=0, atol=1e-6)
    assert torch.equal(losses.prune, energy)
    assert bool((losses.unify <= losses.prune).all())
    zero = Unify(1, 8, 1).losses(torch.zeros(2, 8))
    assert torch.equal(zero.unify, zero.prune)


@pytest.mark.parametrize("shape", [(16, 8, 3, 3), (12, 32)])
def test_05_bytes_are_the_closed_form_and_decode_is_bit_equal(shape):
    for structure in (Unify.of(1, 8, 0.6, 0.2), Unify.of(4, 4, 0.3, 0.5), Unify(1, 8, 1)):
        weight = structure.project(draw(*shape)).numpy()
        encoding = structure.encode(weight)
        counts, tiles = structure.counts(shape), structure.tiles(shape)
        expected = math.ceil(counts.unified * tiles.size / 8) + 2 * counts.unified
        expected += 4 * tiles.size * counts.free
        expected += math.ceil(tiles.blocks / 8) if counts.pruned else 0
        expected += math.ceil((tiles.blocks - counts.pruned) / 8) if counts.free else 0
        payload = b"".join(array.tobytes() for array in encoding.arrays.values())
        assert len(payload) == encoding.nbytes == structure.nbytes(shape, 4) == expected
        again = from_bytes(to_bytes(encoding)).decode()
        assert again.tobytes() == weight.tobytes()


@pytest.mark.parametrize("n", [16, 64])
def test_05_limit_of_the_ratio_with_every_block_unified(n):
    shape = (64, n * 4, 3, 3)
    ratio = 4 * math.prod(shape) / Unify(1, n, 1).nbytes(shape, 4)
    assert ratio == pytest.approx(32 * n / (n + 16))


def test_06_exact_assignment_is_the_best_of_all_for_eight_blocks():
    better = 0
    for trial in range(40):
        unify, more = torch.rand(2, 8, generator=torch_generator(trial, "losses")).double()
        prune = unify + more
        pruned, unified = trial % 4, (trial // 4) % 5
        found = exact(prune, unify, pruned, unified)
        simple = greedy(prune, unify, pruned, unified)
        for classes in (found, simple):
            assert int((classes == PRUNED).sum()) == pruned
            assert int((classes == UNIFIED).sum()) == unified
        best = min(
            float(sum(prune[i] for i in gone)) + float(sum(unify[i] for i in joined))
            for gone in itertools.combinations(range(8), pruned)
            for joined in itertools.combinations(sorted(set(range(8)) - set(gone)), unified)
        )
        costs = [_cost(prune, unify, c) for c in (found, simple)]
        assert costs[0] == pytest.approx(best, abs=1e-12)
        assert costs[0] <= costs[1] + 1e-12
        better += costs[0] < costs[1] - 1e-9
    assert better > 5  # so that greedy everywhere would not pass


def test_06_exact_assignment_of_many_blocks_satisfies_optimality():
    unify, more = torch.rand(2, 600, generator=torch_generator(1, "many")).double()
    prune = unify + more
    classes = exact(prune, unify, 150, 300)
    p, u, f = (classes == kind for kind in (PRUNED, UNIFIED, FREE))
    # no exchange of two blocks, nor cycle of three, gains anything
    moves = {
        (PRUNED, UNIFIED): (unify - prune)[p].min(), (UNIFIED, PRUNED): (prune - unify)[u].min(),
        (PRUNED, FREE): (-prune)[p].min(), (FREE, PRUNED): prune[f].min(),
        (UNIFIED, FREE): (-unify)[u].min(), (FREE, UNIFIED): unify[f].min(),
    }  # fmt: skip
    for a, b, c in itertools.permutations((PRUNED, UNIFIED, FREE)):
        assert moves[a, b] + moves[b, a] >= 0
        assert moves[a, b] + moves[b, c] + moves[c, a] >= 0


def test_06_all_kept_blocks_unified_is_a_sort_by_the_difference():
    losses = Unify(1, 8, 2).losses(draw(64, 8))
    gone = set((losses.prune - losses.unify).argsort()[:32].tolist())
    classes = exact(losses.prune, losses.unify, 32, 32)
    assert set((classes == PRUNED).nonzero().flatten().tolist()) == gone


def test_09_padding_is_no_weight():
    structure, weight = Unify(4, 4, 1), draw(10, 6, 3, 3)
    projected = structure.project(weight)
    corner = weight[8:, 4:, 0, 0]  # the last block has 2 x 2 weights, its mean is theirs
    v = float(corner.abs().mean())
    assert torch.allclose(projected[8:, 4:, 0, 0].abs(), torch.tensor(v), rtol=2**-8)
    losses = structure.losses(weight)
    last = structure.tiles((10, 6, 3, 3)).blocks - 9
    assert float(losses.prune[last]) == pytest.approx(float(corner.double().square().sum()))
    assert structure.nbytes((10, 6, 3, 3), 4) == 3 * 2 * 9 * (2 + 2)
    assert projected.shape == weight.shape and structure.check(projected) is None


def test_10_loss_of_gaussian_weights_is_1_less_2_over_pi():
    weight = draw(4000, 64).double()
    losses = Unify(1, 64, 1).losses(weight)
    relative = float(losses.unify.sum() / losses.prune.sum())
    assert relative == pytest.approx((1 - 2 / math.pi) * 63 / 64, rel=0.01)


def test_11_impossible_parameters_are_refused():
    with pytest.raises(ValueError, match=r"0\.6 unified and 0\.5 pruned"):
        Unify.of(1, 8, 0.6, 0.5)
    with pytest.raises(ValueError, match=r"share 1\.5"):
        Unify(1, 8, 1, 1.5)
    with pytest.raises(StructureError, match="not a share"):
        parse("unify1x8u1.2.3@2")
    for structure, shape, reason in [
        (Unify(1, 8, 1), (8, 4, 3, 3), "8 input channels, the weight 4"),
        (Unify(16, 1, 1), (8, 4, 3, 3), "16 output channels, the weight 8"),
        (Unify(4, 1, 1), (32, 1, 3, 3), "depthwise"),
    ]:
        with pytest.raises(ValueError, match=reason):
            structure.project(torch.zeros(shape))


def test_shares_of_all_blocks_give_the_published_counts():
    for unify, prune in ((0.6, 0.2), (0.3, 0.3), (0.25, 0.75), (0.0, 0.5), (1.0, 0.0)):
        for blocks in (10, 64, 97, 1000):
            counts = Unify.of(1, 8, unify, prune).counts((blocks, 8))
            assert abs(counts.pruned - round(prune * blocks)) == 0
            assert abs(counts.unified - round(unify * blocks)) == 0


def test_a_drifted_block_is_no_member():
    structure = Unify(1, 8, 2)
    weight = structure.project(draw(16, 8))
    row = int(weight.abs().sum(1).argmax())
    drifted = weight.clone()
    drifted[row, 3] = torch.nextafter(drifted[row, 3], torch.tensor(9.0))
    assert "one magnitude" in structure.check(drifted).reason
    with pytest.raises(StructureError, match="project it before encoding"):
        structure.encode(drifted.numpy())
    alive = weight.clone()
    alive[int((weight == 0).all(1).nonzero()[0])] = 1e-20
    assert "blocks are zero" in structure.check(alive).reason


def test_integer_levels_of_one_scale_stay_unified():
    weight = Unify(1, 8, 2).project(draw(16, 8))
    levels = (weight / weight.abs().amax(1, keepdim=True).clamp(min=1e-9) * 127).round()
    encoding = Unify(1, 8, 2).encode(levels.to(torch.int8).numpy())
    assert encoding.arrays["magnitudes"].dtype == np.uint8
    assert encoding.nbytes == Unify(1, 8, 2).nbytes((16, 8), 1) == 2 + 8 + 8


def _cost(prune, unify, classes):
    return float(prune[classes == PRUNED].sum() + unify[classes == UNIFIED].sum())
