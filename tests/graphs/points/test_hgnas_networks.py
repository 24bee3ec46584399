"""DGCNN and its rewrite, the supernet, costs, measurement, tables, predictor and clouds."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from cofit.core import ConfigError, DataError, torch_generator
from cofit.graphs.points import (
    ACCELERATOR_LIKE,
    DGCNN,
    PI_LIKE,
    SOLIDS,
    Combine,
    EdgeBlock,
    Genes,
    OpTable,
    PointNetwork,
    Supernet,
    allocated_peak_bytes,
    calibrate,
    canonical,
    clouds_from_images,
    design_costs,
    dgcnn_costs,
    encode,
    floor_bytes,
    linear_fit,
    macs,
    measure_table,
    parameters,
    parse,
    peak_bytes,
    report,
    solids,
    time_beside,
    time_call,
)

DESIGNS = (
    "sample:knn aggregate:full/max combine:16 sample:knn aggregate:relative/min connect:skip",
    "combine:8 aggregate:target|relative/mean combine:16 aggregate:source/add combine:8",
    "combine:16 combine:16 connect:skip aggregate:distance/mean combine:8 pool:add combine:16",
)


def clouds(number: int, n: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(number, n, 3, generator=torch_generator(seed, "clouds"))


def randomised(model: torch.nn.Module, low: float) -> torch.nn.Module:
    generator = torch_generator(0, "statistics")
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm1d):
            module.weight.data.uniform_(low, 2, generator=generator)
            module.bias.data.normal_(generator=generator)
            module.running_mean.normal_(generator=generator)
            module.running_var.uniform_(0.5, 2, generator=generator)
    return model


def test_01_dgcnn_has_the_published_parameters_and_macs() -> None:
    assert sum(p.numel() for p in DGCNN(40).parameters()) == 1_809_576
    costs = dgcnn_costs(1024, 20, 40)
    assert macs(costs) == 2_391_418_880
    assert macs(costs, selection=True) == 271_581_184
    edges = [cost.macs for cost in costs if cost.kind == "edge"]
    assert edges == [7_864_320, 167_772_160, 335_544_320, 1_342_177_280]
    fewer = dgcnn_costs(1024, 20, 40, rewritten=True)
    assert [20 * cost.macs for cost in fewer if cost.kind == "edge"] == edges
    assert round(macs(costs) / macs(fewer), 2) == 3.79
    stored = sum(t.numel() for k, t in DGCNN(40).state_dict().items() if "num_batches" not in k)
    assert parameters(costs) == parameters(fewer) == stored


@pytest.mark.parametrize("rewritten", [False, True])
def test_01_macs_are_those_that_run(rewritten: bool) -> None:
    model = DGCNN(7, k=5, rewritten=rewritten).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(clouds(1, 32))
    costs = dgcnn_costs(32, 5, 7, rewritten=rewritten)
    products = macs(costs) + macs(costs, selection=True) - 32 * 32 * 3  # of points: differences
    assert counter.get_total_flops() == 2 * products


@pytest.mark.parametrize("low", [0.1, -2])  # scales that are positive, and of both signs
@pytest.mark.parametrize("training", [False, True])
def test_01_the_rewritten_edge_convolution_gives_the_same(low: float, training: bool) -> None:
    block = randomised(EdgeBlock(6, 12).double(), low).train(training)
    x = torch.randn(40, 6, dtype=torch.float64, generator=torch_generator(0))
    neighbours = torch.randint(0, 40, (40, 5), generator=torch_generator(1))
    assert isinstance(block, EdgeBlock)
    plain = block(x, neighbours)
    block.rewritten = True
    torch.testing.assert_close(block(x, neighbours), plain, rtol=0, atol=1e-10)
    relative = x[neighbours] - x[:, None]
    formed = torch.cat([x[:, None].expand_as(relative), relative], -1) @ block.linear.weight.T
    if not training:
        normed = block.norm(formed.view(-1, 12)).view(40, 5, 12)
        expected = torch.nn.functional.leaky_relu(normed, 0.2).amax(1)
        torch.testing.assert_close(plain, expected, rtol=0, atol=1e-10)


def test_01_whole_dgcnn_gives_the_same_and_does_not_mix_clouds() -> None:
    model = randomised(DGCNN(5, k=4).double().eval(), -1)
    assert isinstance(model, DGCNN)
    x = clouds(3, 16).double()
    plain = model(x)
    torch.testing.assert_close(model.rewrite(True)(x), plain, rtol=0, atol=1e-10)
    single = torch.cat([model(cloud[None]) for cloud in x])
    torch.testing.assert_close(single, plain, rtol=0, atol=1e-10)
    with pytest.raises(DataError, match="3 points for k = 4"):
        model(x[:, :3])


def supernet(designs: list[Genes]) -> Supernet:
    torch.manual_seed(0)
    return Supernet(8, 128, 16, classes=4, k=3, draw=lambda step: designs[step % len(designs)])


@pytest.mark.parametrize("spelt", DESIGNS)
def test_04_a_network_with_copied_weights_gives_the_supernet_s_bits(spelt: str) -> None:
    genes = canonical(parse(spelt))
    shared = supernet([genes])
    network = shared.extract(genes).train()
    for module in network.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    x = clouds(6, 12)
    assert torch.equal(network(x), shared.path(genes, x))
    before = shared.path(genes, x)
    torch.nn.init.zeros_(network.classifier[-1].weight)  # a copy: the supernet keeps its own
    assert torch.equal(shared.path(genes, x), before)


def test_04_calibrated_statistics_are_those_of_the_design() -> None:
    genes = canonical(parse("combine:8 combine:16 aggregate:source/max"))
    network = supernet([genes]).extract(genes)
    x = clouds(5, 12)
    calibrate(network, x)
    first, second = (m for m in network.layers if isinstance(m, Combine))
    rows = first.linear(x.flatten(0, 1))
    torch.testing.assert_close(first.norm.running_mean, rows.mean(0))
    rows = torch.nn.functional.batch_norm(rows, None, None, training=True)
    rows = second.linear(torch.nn.functional.leaky_relu(rows, 0.2))
    torch.testing.assert_close(second.norm.running_mean, rows.mean(0), rtol=1e-4, atol=1e-5)
    assert not network.training


def test_a_training_step_goes_through_the_drawn_design_only() -> None:
    short, long = canonical(parse("combine:8")), canonical(parse("combine:8 " * 3))
    shared = supernet([short, long]).train()
    for used in ((True, False), (True, True)):
        shared.zero_grad()
        shared(clouds(4, 8)).sum().backward()
        found = tuple(shared.positions[i].linear.weight.grad is not None for i in (0, 2))
        assert found == used
    gradient = shared.positions[0].linear.weight.grad
    assert gradient[8:].abs().sum() == gradient[:, 3:].abs().sum() == 0
    with pytest.raises(ConfigError, match="9 operations; this supernet has 8"):
        shared.path(canonical(parse("combine:8 " * 8)), clouds(2, 8))


@pytest.mark.parametrize("spelt", DESIGNS)
def test_costs_are_those_of_what_runs(spelt: str) -> None:
    network = PointNetwork(parse(spelt), classes=4, k=3).eval()
    costs = design_costs(network.genes, 16, 3, 4)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(clouds(1, 16))
    wide = [d for gene, d in zip(network.genes, network.widths, strict=False)
            if gene.op == "sample" and d > 4]  # fmt: skip
    assert counter.get_total_flops() == 2 * (macs(costs) + 16 * 16 * sum(wide))
    stored = sum(t.numel() for k, t in network.state_dict().items() if "num_batches" not in k)
    assert parameters(costs) == stored


@pytest.mark.parametrize("spelt", DESIGNS)
def test_analytic_peak_is_near_the_allocator_s(spelt: str) -> None:
    network = PointNetwork(parse(spelt), classes=4, k=5).eval()
    x = clouds(1, 96)
    with torch.no_grad():
        allocated = allocated_peak_bytes(lambda: network(x))
    costs = design_costs(network.genes, 96, 5, 4)
    assert abs(peak_bytes(costs, weights=False) / allocated - 1) <= 0.3
    assert peak_bytes(costs) - peak_bytes(costs, weights=False) == 4 * parameters(costs)
    assert floor_bytes(96, 3, 8, parameters(costs)) < peak_bytes(costs)


def test_peaks_are_what_was_alive_at_once() -> None:
    def call() -> torch.Tensor:
        one = torch.ones(1000)
        two = one + 1
        del one
        return torch.cat([two, two])

    assert allocated_peak_bytes(call) == 12_000


def test_timing_rule() -> None:
    """Steady runs end early; noisy ones go on; outliers are not averaged."""

    def clock(seconds: list[float]):
        now, ends = [0.0], iter(seconds)

        def read() -> float:
            read.calls += 1  # type: ignore[attr-defined]
            if read.calls % 2 == 0:  # type: ignore[attr-defined]
                now[0] += next(ends)
            return now[0]

        read.calls = 0  # type: ignore[attr-defined]
        return read

    calls = []
    steady = time_call(lambda: calls.append(1), clock=clock([1.0] * 50))
    assert (steady.latency_s, steady.spread, steady.runs, len(calls)) == (1.0, 0.0, 10, 20)
    noisy = time_call(lambda: None, clock=clock([1.0, 2.0, 3.0] * 20), most=30)
    assert noisy.runs == 30 and noisy.latency_s == pytest.approx(2.0)
    spiked = time_call(lambda: None, clock=clock([1.0] * 4 + [50.0] + [1.0] * 45))
    assert spiked.latency_s == pytest.approx(1.0)


def test_ratios_of_neighbouring_runs_stand_a_machine_that_slows_down() -> None:
    now, runs = [0.0], [0]

    def take(seconds: float) -> None:
        runs[0] += 1
        now[0] += seconds * (3.0 if runs[0] > 30 else 1.0)

    timing, ratio = time_beside(
        lambda: take(5.0), lambda: take(2.0), most=30, clock=lambda: now[0]
    )  # fmt: skip
    assert ratio == pytest.approx(2.5) and timing.latency_s > 6.0


def test_tables_interpolate_and_refuse_what_they_do_not_know() -> None:
    table = OpTable({"combine:8": (1.0, 3.0), "sample:knn": (2.0, 2.0), "1 combine:8": (0.5, 0.5),
                     "pool:max": (0.0, 0.0), "classifier": (4.0, 4.0)}, (3, 8))  # fmt: skip
    genes = parse("sample:knn combine:8 communicate combine:8 pool:max combine:8")
    assert table.op_times_s(genes) == [2.0, 1.0, 0.0, 3.0, 0.0, 0.5, 4.0]
    with pytest.raises(ConfigError, match="'combine:16' is not in the table"):
        table.op_times_s(parse("combine:16"))


def test_measured_tables_have_all_operations() -> None:
    genes = parse("combine:8 sample:knn aggregate:full/max connect:skip pool:max|mean")
    table = measure_table(genes, n=16, k=3, classes=4, most=10, grid=(3, 8))
    assert set(table.times_s) == {*map(str, genes), "1 combine:8", "classifier"}
    assert all(t > 0 for times in table.times_s.values() for t in times)


def test_targets_weigh_operations_differently() -> None:
    graphs, products = (
        design_costs(canonical(parse(t)), 128, 10, 10)
        for t in ("combine:8 aggregate:source/max " + "sample:knn aggregate:source/max " * 2,
                  "aggregate:source/max " + "combine:64 " * 4)
    )  # fmt: skip
    assert PI_LIKE.latency_s(graphs) < PI_LIKE.latency_s(products)
    assert ACCELERATOR_LIKE.latency_s(graphs) > ACCELERATOR_LIKE.latency_s(products)


def test_reports_and_lines() -> None:
    true = np.array([1.0, 2.0, 3.0, 4.0])
    found = report(np.array([1.05, 2.0, 4.5, 4.0]), true)
    assert found.mape == pytest.approx((0.05 + 0 + 0.5 + 0) / 4)
    assert (found.within, found.tau, found.pairs) == (0.75, pytest.approx(4 / 6), 5 / 6)
    line = linear_fit(np.array([0.0, 1.0, 2.0]), np.array([1.0, 3.0, 5.0]), np.array([4.0]))
    assert line == pytest.approx([9.0])


def test_encodings_differ_between_designs_and_refuse_long_ones() -> None:
    texts = ("combine:8", "combine:16", "aggregate:full/max", "aggregate:full/min", "pool:add")
    rows = [encode(canonical(parse(t)), [1.0] * (len(canonical(parse(t))) + 1), 4, 16, 3)
            for t in texts]  # fmt: skip
    assert all(not torch.equal(a, b) for a, b in pairwise(rows))
    assert {row.shape for row in rows} == {rows[0].shape}
    with pytest.raises(ConfigError, match="at most 1"):
        encode(parse("combine:8 combine:8"), [1.0] * 3, 1, 16, 3)


def test_images_become_their_brightest_pixels() -> None:
    images = torch.zeros(2, 1, 4, 5)
    images[:, 0, 1, 2], images[:, 0, 3, 4] = 1.0, 0.5
    found = clouds_from_images(images, 6, torch_generator(0))
    assert found.shape == (2, 6, 3)
    for cloud in found:
        assert len({tuple(p) for p in cloud[:, :2].tolist()}) == 6  # no pixel twice
        lit = {tuple(np.round(p, 4)) for p in cloud[cloud[:, 2] > 0].tolist()}
        assert lit == {(0.0, -0.3333, 1.0), (1.0, 1.0, 0.5)}
    with pytest.raises(DataError, match="H W >= 21"):
        clouds_from_images(images, 21, torch_generator(0))


def test_solids_are_centred_unit_sized_and_of_their_kind() -> None:
    found, kinds = solids(40, 400, torch_generator(0), noise=0.0)
    assert kinds.bincount().tolist() == [4] * len(SOLIDS)
    torch.testing.assert_close(found.mean(1), torch.zeros(40, 3), rtol=0, atol=1e-5)
    torch.testing.assert_close(found.norm(dim=2).amax(1), torch.ones(40))
    flat = torch.linalg.svdvals(found)[:, 2] < 1e-3
    assert flat.tolist() == (kinds == SOLIDS.index("disc")).tolist()
    again, _ = solids(40, 400, torch_generator(0), noise=0.0)
    assert torch.equal(found, again)
    distances = torch.cdist(
        found[:10].sort(1).values.flatten(1), found[10:].sort(1).values.flatten(1)
    )
    assert distances.min() > 0  # no cloud twice
