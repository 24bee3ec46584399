"""How good predictive probabilities are, and how sure."""

from __future__ import annotations

import torch


def negative_log_likelihood(probabilities: torch.Tensor, targets: torch.Tensor) -> float:
    """Mean -log p of the classes, in nats; (B, classes), (B,)."""
    chosen = probabilities.gather(1, targets[:, None])
    return float(-chosen.clamp_min(1e-12).log().mean())


def expected_calibration_error(
    probabilities: torch.Tensor, targets: torch.Tensor, bins: int = 15
) -> float:
    """Mean gap of confidence and accuracy over equal bins of confidence (Guo et al., ICML 2017)."""
    confidence, decided = probabilities.max(1)
    right = (decided == targets).to(confidence.dtype)
    place = (confidence * bins).long().clamp_max(bins - 1)
    gap = torch.zeros(bins, dtype=confidence.dtype)
    gap.index_add_(0, place, confidence - right)
    return float(gap.abs().sum() / len(targets))


def predictive_entropy(probabilities: torch.Tensor) -> torch.Tensor:
    """Entropy of each prediction in nats, (B,)."""
    return -(probabilities * probabilities.clamp_min(1e-12).log()).sum(1)
