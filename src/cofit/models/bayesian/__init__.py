"""Bayesian networks: layers, and inference by standard, memorised (BNN-DM) and local flows."""

from cofit.models.bayesian.counting import count_multiplications
from cofit.models.bayesian.inference import blocked, normal_noise, sample_votes, votes, works
from cofit.models.bayesian.layers import BayesianConv2d, BayesianLinear
from cofit.models.bayesian.metrics import (
    expected_calibration_error,
    negative_log_likelihood,
    predictive_entropy,
)
from cofit.models.bayesian.plan import Plan, Work, cheapest, hybrid, local, standard, tree
from cofit.models.bayesian.posterior import Posterior, posteriors

__all__ = [
    "BayesianConv2d",
    "BayesianLinear",
    "Plan",
    "Posterior",
    "Work",
    "blocked",
    "cheapest",
    "count_multiplications",
    "expected_calibration_error",
    "hybrid",
    "local",
    "negative_log_likelihood",
    "normal_noise",
    "posteriors",
    "predictive_entropy",
    "sample_votes",
    "standard",
    "tree",
    "votes",
    "works",
]
