"""Hamming co-design; gate-level energy (check 6) is tested in test_hamming_codesign_gates."""

import itertools

import numpy as np
import pytest
import torch
from provenance import states_sources

from cofit.core import (
    CofitError,
    ConfigError,
    ModelError,
    StructureError,
    UnknownNameError,
    torch_generator,
)
from cofit.ir import (
    calibrate,
    channel_groups,
    quantise,
    randomise_statistics_,
    run_integer,
    trace,
)
from cofit.reproductions import reproduce
from cofit.reproductions.hamming_codesign.claims import EXPECTED
from cofit.reproductions.hamming_codesign.energy import MAC_ENERGY, mac_energy
from cofit.reproductions.hamming_codesign.flips import ENCODINGS, codes, row_flips, stream_flips
from cofit.reproductions.hamming_codesign.network import SmallInvertedResidual
from cofit.reproductions.hamming_codesign.path import path_length, short_path, spanning_tree
from cofit.reproductions.hamming_codesign.permutations import cluster, reorder
from cofit.reproductions.hamming_codesign.streams import (
    Stream,
    count,
    natural,
    segmented,
    short_order,
    streams,
    total,
    weight_matrix,
)
from cofit.reproductions.hamming_codesign.training import HammingAware
from cofit.reproductions.hamming_codesign.trellis import round_for_flips
from cofit.reproductions.harness import seeded

rng = np.random.default_rng(0)


def laplace(k, c, seed=0):
    draw = np.random.default_rng(seed).laplace(0, 14, (k, c))
    return np.clip(np.rint(draw), -127, 127).astype(np.int8)


def stream_of(weight, encoding="twos_complement"):
    return Stream("w", codes(weight, encoding), weight.shape[1], 1)


@pytest.fixture(scope="module")
def network():
    """An int8 network with residual additions, depthwise layers and a linear head."""
    model = seeded(lambda: SmallInvertedResidual(3, ((1, 8, 1, 1), (3, 12, 3, 2)), 1, 24), 1)
    randomise_statistics_(model, torch_generator(1, "norms"))
    example = torch.randn(8, 3, 8, 8, generator=torch_generator(1, "images"))
    graph = trace(model, example)
    return quantise(graph, calibrate(graph, [example]))


def outputs(graph, x):
    return run_integer(graph, {graph.inputs[0]: x})[graph.outputs[0]]


def shortest(distance):
    """Held-Karp: the least length of an open path through all rows."""
    n = len(distance)
    best = {(1 << i, i): 0 for i in range(n)}
    for size in range(2, n + 1):
        for rows in itertools.combinations(range(n), size):
            mask = sum(1 << i for i in rows)
            for last in rows:
                rest = mask ^ (1 << last)
                best[mask, last] = min(best[rest, i] + distance[i, last] for i in rows if i != last)
    return min(best[(1 << n) - 1, i] for i in range(n))


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("bits", [8, 4])
def test_01_flips_are_those_of_counting_bit_by_bit(encoding, bits):
    top = 2 ** (bits - 1)

    def pattern(value):
        if encoding == "twos_complement":
            return format(value % (2 * top), f"0{bits}b")
        return ("1" if value < 0 else "0") + format(abs(value), f"0{bits - 1}b")

    low = -top if encoding == "twos_complement" else 1 - top
    weight = rng.integers(low, top, (9, 5))
    weight[0, :3], weight[1, :3] = (low, 0, top - 1), (top - 1, low, 0)
    rows = codes(weight.astype(np.int8), encoding, bits)

    def differ(a, b):
        return sum(
            x != y
            for u, v in zip(a, b, strict=True)
            for x, y in zip(pattern(u), pattern(v), strict=True)
        )

    expected = [[differ(a, b) for b in weight.tolist()] for a in weight.tolist()]
    assert (row_flips(rows) == expected).all()
    assert stream_flips(rows) == sum(expected[i][i + 1] for i in range(8))
    order = rng.permutation(9)
    assert stream_flips(rows, order) == sum(expected[a][b] for a, b in itertools.pairwise(order))


def test_01_extremes():
    assert codes(np.array([-128, 0, 127], np.int8), "twos_complement").tolist() == [128, 0, 127]
    assert codes(np.array([-127, 0, 127], np.int8), "sign_magnitude").tolist() == [255, 0, 127]
    assert codes(np.array([-0.0]), "sign_magnitude").tolist() == [0]
    with pytest.raises(StructureError, match="-128"):
        codes(np.array([-128], np.int8), "sign_magnitude")
    with pytest.raises(StructureError, match="-8 to 7"):
        codes(np.array([8], np.int8), "twos_complement", 4)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_02_permuted_networks_compute_the_same_bits(network, encoding):
    x = rng.integers(-128, 128, (1000, 3, 8, 8)).astype(np.int8)
    expected = outputs(network, x)
    for permuted in (reorder(network, encoding), cluster(network, encoding, 4)):
        for name, tensor in network.tensors.items():
            if ".conv.3.weight" in name:  # depthwise layers move with their neighbours
                assert (tensor.data != permuted.tensors[name].data).any()
        assert (outputs(permuted, x) == expected).all()


def test_02_layers_tied_by_additions_move_together(network):
    permuted = reorder(network, "twos_complement")
    tied = max(channel_groups(network), key=lambda group: len(group.activations))
    producers = [m.tensor for m in tied.constants if m.axis == 0 and m.tensor.endswith("weight")]
    assert len(producers) >= 3

    def order(name):
        before = network.tensors[name].data.reshape(tied.size, -1)
        after = permuted.tensors[name].data.reshape(tied.size, -1)
        # inputs are permuted too, so rows are recognised by their sorted values
        keys = [np.sort(row).tobytes() for row in before]
        return [keys.index(np.sort(row).tobytes()) for row in after]

    assert len({tuple(order(name)) for name in producers}) == 1


@pytest.mark.parametrize("height", [1, 3, 8, 64])
def test_02_orders_per_segment_accumulate_the_same_sums(network, height):
    for op, weight in network.weighted():
        matrix = weight_matrix(weight.data)
        (stream,) = (s for s in streams(network, "twos_complement") if s.name == weight.name)
        x = rng.integers(-128, 128, matrix.shape[1])
        sums, flips, borders, register = np.zeros(len(matrix), np.int64), 0, 0, None
        orders = segmented(stream, height)
        for segment, order in enumerate(orders):
            held = np.zeros(min(height, matrix.shape[1]), np.int64)
            part = slice(segment * height, (segment + 1) * height)
            held[: len(x[part])] = x[part]
            for step, k in enumerate(order):
                weights = np.zeros(len(held), np.int64)
                weights[: len(x[part])] = matrix[k, part]
                if register is not None:
                    toggled = sum(
                        (a ^ b).bit_count()
                        for a, b in zip(
                            (register % 256).tolist(), (weights % 256).tolist(), strict=True
                        )
                    )
                    flips, borders = flips + toggled * (step > 0), borders + toggled * (step == 0)
                sums[k] += int(held @ weights)
                register = weights
        assert (sums == matrix.astype(np.int64) @ x).all(), op.output
        found = count(stream, height, orders, True)
        assert (found.flips, found.border_flips) == (
            flips * stream.repeats, borders * stream.repeats
        )  # fmt: skip


def test_03_orders_are_optimal_in_small_and_never_worse_than_given():
    missed = 0
    for case in range(200):
        distance = row_flips(codes(laplace(2 + case % 7, 4, case), "twos_complement"))
        order = short_path(distance)
        best = shortest(distance)
        assert sorted(order) == list(range(len(distance)))
        assert spanning_tree(distance) <= best <= path_length(distance, order)
        missed += path_length(distance, order) > best
    assert missed <= 10
    for seed in range(20):
        distance = row_flips(codes(laplace(40, 6, seed), "sign_magnitude"))
        given = np.random.default_rng(seed).permutation(40)
        for start in (given, short_path(distance)):
            found = short_path(distance, start)
            assert spanning_tree(distance) <= path_length(distance, found)
            assert path_length(distance, found) <= path_length(distance, start)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_03_measures_do_not_flip_more_than_natural_order(network, encoding):
    def flips(graph, height, order):
        return [count(s, height, order(s, height), False) for s in streams(graph, encoding)]

    reordered, clustered = reorder(network, encoding), cluster(network, encoding, 4)
    plain = flips(network, 4, natural)
    own = flips(network, 4, segmented)
    both = flips(clustered, 4, segmented)
    assert all(a.bound <= a.flips <= b.flips for a, b in zip(own, plain, strict=True))
    assert total(flips(reordered, 128, natural)).flips < total(flips(network, 128, natural)).flips
    assert total(both).flips <= total(own).flips
    assert all(a.bound <= a.flips for a in both)


def test_03_columns_sorted_on_their_own_pass_the_bound():
    weight = laplace(64, 16)
    fake = codes(np.sort(weight, axis=0), "twos_complement")
    assert stream_flips(fake) < spanning_tree(row_flips(codes(weight, "twos_complement")))


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("height", [96, 16, 4, 1])
def test_04_reductions_of_laplace_weights(encoding, height):
    ratios, ceilings = [], []
    for seed in range(5):
        stream = stream_of(laplace(128, 96, seed), encoding)
        before = count(stream, height, natural(stream, height), False)
        after = count(stream, height, segmented(stream, height), True)
        ratios.append(before.flips / after.flips)
        ceilings.append(before.flips / after.bound)
    assert np.mean(ratios) >= 0.97 * EXPECTED[encoding][height]
    assert np.mean(ratios) <= np.mean(ceilings)
    assert before.streamed_bits == 8 * 127 * 96
    share = {"twos_complement": 0.5, "sign_magnitude": 0.378}[encoding]
    assert before.flips / before.streamed_bits == pytest.approx(share, abs=0.01)


def test_05_degenerate_streams():
    same = stream_of(np.full((6, 4), -3, np.int8))
    assert count(same, 2, segmented(same, 2), True).flips == 0
    one = stream_of(laplace(1, 4))
    assert count(one, 4, natural(one, 4), False).flips == 0
    assert count(one, 4, natural(one, 4), False).bound == 0
    for seed in range(10):
        weight = laplace(40, 1, seed) // 8
        distinct = np.unique(weight)[:, None].astype(np.int8)
        rows = codes(weight.astype(np.int8), "twos_complement")
        best = shortest(row_flips(codes(distinct, "twos_complement")))
        assert stream_flips(rows, short_order(rows)) == best


def test_energy_grows_with_flips_and_ever_less():
    steps = np.diff(MAC_ENERGY)
    assert MAC_ENERGY[0] == 0 and (steps > 0).all() and steps[0] == steps.max()
    rows = np.array([[0, 0], [1, 0], [0, 255]], np.uint8)
    assert mac_energy(rows) == 2 * MAC_ENERGY[1] + MAC_ENERGY[8]


def test_08_overhead_is_counted_or_said_to_be_none():
    stream = stream_of(laplace(48, 10))
    own = segmented(stream, 4)
    found = count(stream, 4, own, True)
    assert found.table_bits == 3 * 48 * 6
    lines = sum((int(a) ^ int(b)).bit_count() for o in own for a, b in itertools.pairwise(o))
    assert found.address_flips == lines
    assert found.with_addresses == found.flips + found.border_flips + lines
    free = count(stream, 4, natural(stream, 4), False)
    assert free.table_bits == 0 and free.address_flips > 0, "a counter toggles too"


def test_09_bad_input_is_refused(network):
    with pytest.raises(StructureError, match="not integers"):
        codes(np.array([[0.5]]), "twos_complement")
    with pytest.raises(StructureError, match="not integers"):
        codes(np.array([[np.nan]]), "twos_complement")
    with pytest.raises(UnknownNameError, match="sign_magnitude"):
        codes(np.zeros((1, 1), np.int8), "grey")
    with pytest.raises(ConfigError, match="2 to 8"):
        codes(np.zeros((1, 1), np.int8), "twos_complement", 9)
    stream = stream_of(laplace(4, 4))
    with pytest.raises(ConfigError, match="height 0"):
        segmented(stream, 0)
    with pytest.raises(ConfigError, match="height 0"):
        cluster(network, "twos_complement", 0)
    with pytest.raises(ConfigError, match="permutation"):
        count(stream, 4, [np.array([0, 0, 1, 2])], True)
    with pytest.raises(ConfigError, match="square"):
        short_path(np.zeros((2, 3), np.int64))
    with pytest.raises(ConfigError, match="strength -1"):
        HammingAware(("w",), "twos_complement", 16, -1.0)
    with pytest.raises(UnknownNameError, match="sign_magnitude"):
        HammingAware(("w",), "grey", 16, 1.0)
    with pytest.raises(ConfigError, match="price"):
        round_for_flips(np.zeros((2, 2), np.float32), -1.0, "twos_complement")
    graph = trace(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2)), torch.ones(1, 4))
    with pytest.raises(ModelError, match="quantise"):
        streams(graph, "twos_complement")
    assert issubclass(StructureError, CofitError) and issubclass(StructureError, ValueError)


@pytest.mark.device
def test_smoke_runs_and_its_steps_resume(tmp_path, monkeypatch):
    finding = reproduce("hamming-codesign", "smoke", tmp_path, lambda *_: None)
    assert states_sources(finding)
    assert len(finding.claims) in (11, 13)  # the last two need Yosys
    assert all(np.isfinite(claim.measured.mean) for claim in finding.claims)
    (unchanged,) = (c for c in finding.claims if c.claim.startswith("inputs whose output"))
    assert unchanged.holds
    (tmp_path / "finding.json").unlink()

    def forbidden(*_, **__):
        raise AssertionError("a finished step was computed again")

    for name in ("fit", "train", "cluster"):
        monkeypatch.setattr(f"cofit.reproductions.hamming_codesign.study.{name}", forbidden)
    monkeypatch.setattr("cofit.reproductions.hamming_codesign.datapath.activity", forbidden)
    again = reproduce("hamming-codesign", "smoke", tmp_path, lambda *_: None)
    assert again.claims == finding.claims
