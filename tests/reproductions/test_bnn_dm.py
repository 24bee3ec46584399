"""BNN-DM in software: flows, counts, blocks, distribution, plans. Hardware: test_bnn_dm_rtl.py."""

import itertools
import math
import tracemalloc
from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from torch import nn

from cofit.core import ConfigError, ModelError, UnsupportedOpError, torch_generator
from cofit.data import load
from cofit.models.bayesian import (
    BayesianConv2d,
    BayesianLinear,
    Plan,
    Posterior,
    blocked,
    cheapest,
    count_multiplications,
    hybrid,
    local,
    negative_log_likelihood,
    normal_noise,
    posteriors,
    standard,
    tree,
    votes,
    works,
)
from cofit.regimes import Batches, Recipe, Variational, fit


def random_layers(
    sizes: Sequence[int], bias: bool = False, seed: int = 0, after: nn.Module | None = None
) -> list[Posterior]:
    generator = torch_generator(seed, "layers")

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    return [
        Posterior(
            draw(rows, columns), draw(rows, columns).abs(), draw(rows) if bias else None,
            draw(rows).abs() if bias else None, after=None if rows == sizes[-1] else after,
        )
        for columns, rows in itertools.pairwise(sizes)
    ]  # fmt: skip


def repeated(tensors: Sequence[torch.Tensor]) -> Callable[[tuple[int, ...]], torch.Tensor]:
    """Noise that is given, in order; shapes are checked."""
    left = list(tensors)

    def take(shape: tuple[int, ...]) -> torch.Tensor:
        found = left.pop(0)
        assert found.shape == shape
        return found

    return take


def test_01_flows_agree_on_the_same_noise() -> None:
    layers = random_layers((30, 20, 10), bias=True, after=nn.ReLU())
    x = torch.randn(30, generator=torch_generator(1), dtype=torch.float64)
    for samples in ((12, 1), (4, 3)):
        plans = [tree(samples), Plan(samples, ("standard",) * 2), hybrid(12, 2)][
            : 2 + (samples[1] == 1)
        ]
        found = []
        for plan in plans:
            noise = normal_noise(torch_generator(2), torch.float64)
            found.append(votes(layers, x, plan, noise))
        for other in found[1:]:
            torch.testing.assert_close(
                other, found[0], rtol=0, atol=1e-12 * float(found[0].abs().max())
            )
        assert len({tuple(vote.tolist()) for vote in found[0]}) == 12  # every voter draws its own


def test_01_convolutions_agree_on_the_same_noise() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        BayesianConv2d(2, 3, 3, stride=2, padding=1), nn.ReLU(), nn.Flatten(), BayesianLinear(48, 5)
    ).double()
    for layer in (model[0], model[3]):
        nn.init.zeros_(layer.weight_rho)  # sigma = log 2: the noise matters
    layers = posteriors(model)
    x = torch.randn(2, 8, 8, dtype=torch.float64)
    found = [
        votes(layers, x, plan, normal_noise(torch_generator(3), torch.float64))
        for plan in (tree((4, 3)), Plan((4, 3), ("standard", "standard")))
    ]
    assert found[0].shape == (12, 5)
    torch.testing.assert_close(*found, rtol=0, atol=1e-11)
    quiet = [
        Posterior(
            a.mu, 0 * a.sigma, a.bias_mu, 0 * a.bias_sigma, a.kernel, a.stride, a.padding, a.after
        )
        for a in layers
    ]
    expected = model.eval()(x[None]).expand(12, 5)
    torch.testing.assert_close(
        votes(quiet, x, tree((4, 3)), normal_noise(torch_generator(3), torch.float64)), expected
    )


@pytest.mark.parametrize("bias", [False, True])
def test_02_counted_multiplications_are_the_closed_forms(bias: bool) -> None:
    sizes, voters = (40, 30, 20, 10), 12
    pairs = list(zip(sizes[1:], sizes[:-1], strict=True))
    layers = random_layers(sizes, bias, after=nn.ReLU())
    x = torch.ones(40, dtype=torch.float64)
    weights = [m * n for m, n in pairs]
    biases = [voters * m * bias for m, _ in pairs]
    first, *rest = weights
    expected = {
        standard(voters, 3): 2 * voters * sum(weights) + sum(biases),
        hybrid(voters, 3): (2 + voters) * first + 2 * voters * sum(rest) + sum(biases),
        tree((3, 2, 2)): (
            1 * (2 + 3) * weights[0] + 3 * (2 + 2) * weights[1] + 6 * (2 + 2) * weights[2]
            + bias * (3 * sizes[1] + 6 * sizes[2] + 12 * sizes[3])
        ),
        local(voters, 3): sum(
            n_inputs * (2 * m * n + n) + voters * m
            for n_inputs, (m, n) in zip((1, voters, voters), pairs, strict=True)
        ),
    }  # fmt: skip
    assert all(float(layer.variance.min()) >= 0 for layer in layers)  # made before it is counted
    assert not bias or all(layer.bias_variance is not None for layer in layers)
    for plan, number in expected.items():
        with count_multiplications() as count:
            votes(layers, x, plan, normal_noise(torch_generator(0), torch.float64))
        assert count.total == number == plan.multiplications(works(layers, x))


def test_02_published_sizes() -> None:
    """784-200-200-10 with 100 voters: the specification's numbers, executed, not only computed."""
    layers = [
        Posterior(torch.zeros(m, n), torch.zeros(m, n))
        for n, m in ((784, 200), (200, 200), (200, 10))
    ]
    zeros = torch.zeros(1)
    for plan, millions in (
        (standard(100, 3), 39.76), (hybrid(100, 3), 24.39), (tree((10, 10, 1)), 7.28),
        (tree((5, 5, 4)), 2.80),
    ):  # fmt: skip
        with count_multiplications() as count:
            votes(layers, torch.zeros(784), plan, zeros.expand)
        assert round(count.total / 1e6, 2) == millions


def test_02_counts_convolutions_and_refuses_the_unknown() -> None:
    torch.manual_seed(0)
    layers = posteriors(nn.Sequential(BayesianConv2d(2, 3, 3, bias=False)))
    x = torch.zeros(2, 6, 7)
    size, positions = 3 * 18, 4 * 5
    for plan, number in (
        (standard(10, 1), 10 * size * (1 + positions)), (tree((10,)), (2 + 10) * size * positions)
    ):  # fmt: skip
        with count_multiplications() as count:
            votes(layers, x, plan, normal_noise(torch_generator(0)))
        assert count.total == number == plan.multiplications(works(layers, x))
    with count_multiplications() as count:
        nn.functional.conv2d(x[None], torch.zeros(3, 2, 3, 3))
    assert count.total == size * positions
    ones = torch.ones(3)
    with pytest.raises(UnsupportedOpError, match="cumprod"), count_multiplications():
        torch.cumprod(ones, 0)


def test_03_blocks_change_neither_outputs_nor_the_buffer_bound() -> None:
    rows, columns, voters = 70, 100, 100
    draw = np.random.default_rng(0)
    mu, sigma = draw.normal(size=(rows, columns)), np.abs(draw.normal(size=(rows, columns)))
    x, eps = draw.normal(size=columns), draw.normal(size=(voters, rows, columns))
    whole = blocked(mu, sigma, x, lambda k, i: eps[k, i], voters, 1.0)
    np.testing.assert_allclose(
        whole, np.einsum("kij,j->ki", mu + sigma * eps, x), rtol=0, atol=1e-11
    )
    for alpha in (1.0, 1 / 2, 1 / 7, 1 / rows):
        order = []

        def noise(voter: int, row: int) -> np.ndarray:
            order.append((voter, row))  # noqa: B023
            return eps[voter, row]

        assert (blocked(mu, sigma, x, noise, voters, alpha) == whole).all()
        height = max(1, int(alpha * rows))
        assert order == sorted(order, key=lambda at: (at[1] // height, at[0], at[1]))
        tracemalloc.start()
        blocked(mu, sigma, x, lambda k, i: eps[k, i], voters, alpha)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak <= 1.1 * 8 * (alpha * rows * columns + voters * rows)


@pytest.mark.parametrize("flow", ["standard", "memorised", "local"])
def test_04_moments_of_one_layer(flow: str) -> None:
    layer = random_layers((20, 6), bias=True)[0]
    x = torch.randn(20, generator=torch_generator(5), dtype=torch.float64)
    voters = 20000
    y = votes([layer], x, Plan((voters,), (flow,)), normal_noise(torch_generator(6), torch.float64))
    variance = layer.sigma**2 @ x**2 + layer.bias_sigma**2
    mean = layer.mu @ x + layer.bias_mu
    assert ((y.mean(0) - mean).abs() < 4 * (variance / voters).sqrt()).all()
    assert ((y.var(0) - variance).abs() < 4 * variance * math.sqrt(2 / voters)).all()


@pytest.mark.parametrize("flow", ["standard", "memorised"])
def test_04_tree_voters_covary_as_predicted(flow: str) -> None:
    """Voters of one group share the first layer's sample: its variance is their covariance.

    With a positive hidden layer y = w2 (W1 x), so that the moments have closed forms.
    """
    hidden, inputs, groups, per_group, repeats = 5, 8, 6, 5, 3000
    draw = torch_generator(7)
    mu1 = torch.rand(hidden, inputs, generator=draw, dtype=torch.float64) + 2
    sigma1 = torch.rand(hidden, inputs, generator=draw, dtype=torch.float64)
    mu2 = torch.rand(1, hidden, generator=draw, dtype=torch.float64) + 0.5
    sigma2 = torch.rand(1, hidden, generator=draw, dtype=torch.float64) / 10
    x = torch.rand(inputs, generator=draw, dtype=torch.float64) + 1
    layers = [Posterior(mu1, sigma1, after=nn.ReLU()), Posterior(mu2, sigma2)]
    mean_h, var_h = mu1 @ x, sigma1**2 @ x**2
    between = float((mu2**2 @ var_h).item())
    within = float((sigma2**2 @ (mean_h**2 + var_h)).item())

    def sampled(plan: Plan) -> torch.Tensor:
        noise = normal_noise(torch_generator(8), torch.float64)
        return torch.stack([votes(layers, x, plan, noise)[:, 0] for _ in range(repeats)])

    y = sampled(Plan((groups, per_group), (flow, flow))).reshape(repeats, groups, per_group)
    y = y - float((mu2 @ mean_h).item())
    shared = (y[:, :, 0] * y[:, :, 1]).flatten()
    apart = (y[:, 0] * y[:, 1]).flatten()
    assert abs(float(shared.mean()) - between) < 4 * float(shared.std()) / math.sqrt(len(shared))
    assert abs(float(apart.mean())) < 4 * float(apart.std()) / math.sqrt(repeats)
    total = float(y.square().mean())
    assert total == pytest.approx(between + within, rel=0.05)
    # the mean over voters: groups average the shared part, all voters the rest
    expected = between / groups + within / (groups * per_group)
    assert float(y.mean((1, 2)).var()) == pytest.approx(expected, rel=4 * math.sqrt(2 / repeats))
    # so that neither independent voters nor one sample for all would pass
    assert expected > 1.5 * (between + within) / (groups * per_group)
    assert expected < 0.5 * between
    independent = sampled(Plan((groups * per_group, 1), (flow, flow)))
    assert float(independent.mean(1).var()) == pytest.approx(
        (between + within) / (groups * per_group), rel=4 * math.sqrt(2 / repeats)
    )


def small_network() -> tuple[nn.Sequential, torch.Tensor, torch.Tensor]:
    """A Bayesian network that has learnt the digits a little, and test digits."""
    data = load("digits")
    torch.manual_seed(0)
    model = nn.Sequential(BayesianLinear(64, 16), nn.ReLU(), BayesianLinear(16, 10))
    batches = Batches(data.train.inputs.flatten(1), data.train.targets, size=64)
    recipe = Recipe(30, 3e-2, "adam", weight_decay=0.0)
    trained, ledger = fit(model, batches, recipe, Variational(len(data.train)))
    assert ledger.rows[-1].losses["kl"] < ledger.rows[0].losses["kl"]
    assert isinstance(trained, nn.Sequential)
    return trained, data.test.inputs.flatten(1)[:100], data.test.targets[:100]


def test_07_accuracy_and_likelihood_are_those_of_the_standard_flow() -> None:
    model, inputs, targets = small_network()
    layers = posteriors(model)
    sigma = layers[0].sigma
    assert float(sigma.std()) > 1e-3  # training moved the deviations, not only the means

    def scores(plan: Plan, seed: int) -> tuple[float, float]:
        noise = normal_noise(torch_generator(seed, *plan.flows))
        p = torch.stack([votes(layers, x, plan, noise).softmax(1).mean(0) for x in inputs])
        return float((p.argmax(1) == targets).float().mean()), negative_log_likelihood(p, targets)

    pairs = [(scores(standard(10, 2), s), scores(hybrid(10, 2), s)) for s in range(20)]
    assert np.mean([a[0] for a, _ in pairs]) > 0.8
    for metric in range(2):
        gaps = np.array([b[metric] - a[metric] for a, b in pairs])
        assert gaps.std() > 0  # other draws than the standard flow's
        assert abs(gaps.mean()) < 3 * gaps.std(ddof=1) / math.sqrt(len(gaps))


def test_08_one_sample_takes_the_standard_flow() -> None:
    layers = random_layers((40, 30, 10))
    sizes = works(layers, torch.zeros(40, dtype=torch.float64))
    for samples, flow in ((1, "standard"), (2, "standard"), (3, "memorised")):
        assert cheapest((samples, 1), sizes).flows == (flow, "standard")
    one = sizes[0].multiplications("memorised", 1, 1) / sizes[0].multiplications("standard", 1, 1)
    assert one == 1.5
    two = [sizes[0].multiplications(flow, 1, 2) for flow in ("standard", "memorised")]
    assert two[0] == two[1]
    with count_multiplications() as count:
        votes(layers, torch.zeros(40, dtype=torch.float64), cheapest((1, 1), sizes),
              normal_noise(torch_generator(0), torch.float64))  # fmt: skip
    assert count.total == 2 * (40 * 30 + 30 * 10)


def test_09_errors() -> None:
    good = torch.ones(2, 3)
    for bad, text in ((-0.5, "-0.5"), (math.nan, "nan")):
        sigma = good.clone()
        sigma[1, 2] = bad
        with pytest.raises(ConfigError, match=text):
            Posterior(good, sigma)
    with pytest.raises(ConfigError, match="bias_sigma has -1"):
        Posterior(good, good, torch.ones(2), -torch.ones(2))
    with pytest.raises(ConfigError, match="one shape"):
        Posterior(good, good.T)
    with pytest.raises(ConfigError, match="0 samples"):
        tree((3, 0))
    with pytest.raises(ConfigError, match="make 6 voters, not 7"):
        tree((3, 2), voters=7)
    with pytest.raises(ConfigError, match="plan for 2 layers, a network of 1"):
        votes([Posterior(good, good)], torch.zeros(3), tree((3, 2)), torch.zeros)
    with pytest.raises(ConfigError, match="alpha"):
        blocked(np.ones((2, 3)), np.ones((2, 3)), np.ones(3), lambda k, i: np.ones(3), 4, 0.0)
    with pytest.raises(ModelError, match="Linear"):
        posteriors(nn.Sequential(nn.Linear(3, 2)))
    with pytest.raises(ModelError, match="no Bayesian layer"):
        Variational(5).attach(nn.Sequential(nn.Linear(3, 2)), torch.zeros(1, 3))
    with pytest.raises(ConfigError, match="sampling"):
        BayesianLinear(3, 2, sampling="other")  # type: ignore[arg-type]
