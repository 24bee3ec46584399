import pytest
import torch

from cofit.core import ConfigError, torch_generator
from cofit.regimes import (
    bernoulli_policy,
    gumbel_sigmoid,
    ste_round,
    ste_topk,
    transform_gradient,
)


def draw(*shape, seed=0):
    x = torch.randn(*shape, generator=torch_generator(seed), dtype=torch.float64)
    return x.requires_grad_()


def gradient(y, x):
    weights = torch.arange(1.0, y.numel() + 1, dtype=y.dtype).view_as(y)
    (found,) = torch.autograd.grad((y * weights).sum(), x)
    return found, weights


def test_ste_round_rounds_half_to_even_and_passes_the_gradient():
    x = torch.tensor([0.5, 1.5, -0.5, 2.4, -2.6, 1e6 + 0.3], requires_grad=True)
    y = ste_round(x)
    assert y.tolist() == [0, 2, 0, 2, -3, 1e6]
    found, passed = gradient(y, x)
    assert torch.equal(found, passed)


def test_ste_topk_is_exact_with_ties_and_passes_the_gradient():
    scores = torch.tensor([[1.0, 3.0, 3.0, 3.0], [0.0, 0.0, 0.0, 0.0]], requires_grad=True)
    mask = ste_topk(scores, 2)
    assert mask.tolist() == [[0, 1, 1, 0], [1, 1, 0, 0]]
    found, passed = gradient(mask, scores)
    assert torch.equal(found, passed)
    assert ste_topk(scores, 0).sum() == 0
    with pytest.raises(ConfigError, match="top-5 of 4"):
        ste_topk(scores, 5)


def test_gumbel_sigmoid_gradcheck_and_hard_gradient():
    logits = draw(3, 4)

    def soft(x):
        return gumbel_sigmoid(x, 0.7, torch_generator(1))

    assert torch.autograd.gradcheck(soft, (logits,))
    hard = gumbel_sigmoid(logits, 0.7, torch_generator(1), hard=True)
    assert torch.equal(hard, (soft(logits) > 0.5).double())
    assert torch.equal(gradient(hard, logits)[0], gradient(soft(logits), logits)[0])


def test_gumbel_sigmoid_decides_with_the_stated_probability():
    logits = torch.full((20000,), 0.8)
    ones = gumbel_sigmoid(logits, 0.5, torch_generator(2), hard=True).mean()
    probability = torch.sigmoid(torch.tensor(0.8))
    assert abs(ones - probability) < 4 * (probability * (1 - probability) / 20000).sqrt()


def test_bernoulli_policy_log_probability():
    logits = draw(2, 3)
    assert torch.autograd.gradcheck(lambda x: bernoulli_policy(x, torch_generator(3))[1], (logits,))
    actions, log_probability = bernoulli_policy(logits, torch_generator(3))
    p = torch.sigmoid(logits)
    expected = torch.where(actions == 1, p, 1 - p).log().sum(dim=1)
    assert torch.allclose(log_probability, expected)
    (found,) = torch.autograd.grad(log_probability.sum(), logits)
    assert torch.allclose(found, actions - p) and not actions.requires_grad
    many, _ = bernoulli_policy(torch.full((20000, 1), -1.0), torch_generator(4))
    assert abs(float(many.mean()) - 0.2689) < 0.0126  # four standard deviations


def test_transform_gradient_changes_the_gradient_only():
    x = draw(4, 5)
    y = transform_gradient(x, lambda g: g.masked_fill(g < 10, 0.0))
    assert torch.equal(y, x)
    found, passed = gradient(y, x)
    assert torch.equal(found, torch.where(passed < 10, 0.0, passed))
    assert torch.autograd.gradcheck(lambda v: transform_gradient(v, lambda g: g).sin(), (x,))
