"""Bayesian layers: what training draws, the divergence, metrics; flows are in test_bnn_dm.py."""

import pytest
import torch
from torch import nn
from torch.distributions import Normal, kl_divergence

from cofit.models.bayesian import (
    BayesianConv2d,
    BayesianLinear,
    expected_calibration_error,
    negative_log_likelihood,
    normal_noise,
    posteriors,
    predictive_entropy,
    sample_votes,
    tree,
    votes,
)
from cofit.regimes import Variational, testing


def layer(kind: str, sampling: str) -> tuple[nn.Module, torch.Tensor]:
    torch.manual_seed(0)
    if kind == "linear":
        made: nn.Module = BayesianLinear(6, 4, sampling=sampling)
        x = torch.randn(3, 6)
    else:
        made = BayesianConv2d(2, 3, 3, stride=2, padding=1, sampling=sampling)
        x = torch.randn(3, 2, 5, 5)
    for name, value in made.named_parameters():
        if name.endswith("rho"):
            nn.init.normal_(value, -1, 0.5)
    return made, x


@pytest.mark.parametrize("sampling", ["local", "flipout"])
@pytest.mark.parametrize("kind", ["linear", "conv"])
def test_training_draws_have_the_moments_of_the_weights(kind: str, sampling: str) -> None:
    made, x = layer(kind, sampling)
    mean = made.eval()(x)
    variance = made.linear_map(x.square(), made.sigma.square(), made.bias_sigma.square())
    made.train()
    repeats = 4000
    with torch.no_grad():
        drawn = torch.stack([made(x) for _ in range(repeats)])
    assert ((drawn.mean(0) - mean).abs() < 5 * (variance / repeats).sqrt()).all()
    torch.testing.assert_close(drawn.var(0), variance, rtol=0.15, atol=0)
    # examples are decorrelated: one weight for the whole batch would fail
    a, b = (drawn - mean)[:, 0].flatten(1), (drawn - mean)[:, 1].flatten(1)
    correlation = (a * b).mean(0) / (a.std(0) * b.std(0))
    assert correlation.abs().max() < 5 / repeats**0.5


def test_divergence_is_that_of_torch() -> None:
    made, _ = layer("linear", "local")
    expected = sum(
        kl_divergence(Normal(mu, sigma), Normal(0.0, 1.0)).sum()
        for mu, sigma in ((made.weight, made.sigma), (made.bias, made.bias_sigma))
    )
    torch.testing.assert_close(made.kl(), expected)


class Mean(BayesianLinear):
    """Without draws, which the layer (not the regime) takes from the global generator."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear_map(x, self.weight, self.bias)


@pytest.mark.parametrize("check", testing.CHECKS, ids=lambda check: check.__name__)
def test_variational_is_a_regime(check: object) -> None:
    def model() -> nn.Module:
        torch.manual_seed(0)
        return nn.Sequential(Mean(5, 8), nn.ReLU(), Mean(8, 3))

    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(64, 5, generator=generator)
    check(testing.Case(model, lambda _: Variational(64), inputs, (inputs[:, 0] > 0).long()))  # type: ignore[operator]


def test_batches_share_networks_and_single_inputs_have_the_same_votes() -> None:
    """With the noise of one input, a batch of it votes as `votes` does."""
    torch.manual_seed(0)
    layers = posteriors(nn.Sequential(BayesianLinear(6, 5), nn.ReLU(), BayesianLinear(5, 3)))
    x = torch.randn(6)

    def noise() -> object:
        return normal_noise(torch.Generator().manual_seed(1))

    single = votes(layers, x, tree((4, 3)), noise())  # type: ignore[arg-type]
    batch = sample_votes(layers, torch.stack([x, -x]), (4, 3), noise())  # type: ignore[arg-type]
    torch.testing.assert_close(batch[:, 0], single)
    assert not torch.equal(batch[:, 1], single)


def test_metrics_by_hand() -> None:
    p = torch.tensor([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8]])
    targets = torch.tensor([0, 1, 1])
    assert negative_log_likelihood(p, targets) == pytest.approx(0.4149, abs=1e-4)
    # bins of 0.9 and 0.8 are right, that of 0.6 wrong
    assert expected_calibration_error(p, targets) == pytest.approx((0.1 + 0.6 + 0.2) / 3, abs=1e-6)
    assert predictive_entropy(torch.full((1, 4), 0.25)).item() == pytest.approx(1.3863, abs=1e-4)
