"""Messages from neighbours to points, and their reduction without forming what is not needed."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F


def messages(x: torch.Tensor, neighbours: torch.Tensor, parts: Sequence[str]) -> torch.Tensor:
    """Every message, formed in memory.

    Args:
        x: (points, d) features.
        neighbours: (points, k) row numbers of the sources.
        parts: see `MESSAGES`.

    Returns:
        (points, k, width).
    """
    sources = _sources(x, neighbours)
    targets = x[:, None].expand_as(sources)
    found = {
        "source": lambda: sources,
        "target": lambda: targets,
        "relative": lambda: sources - targets,
        "distance": lambda: _lengths(sources - targets)[..., None],
    }
    return torch.cat([found[part]() for part in parts], -1)


def reduce_messages(
    x: torch.Tensor, neighbours: torch.Tensor, parts: Sequence[str], reducer: str
) -> torch.Tensor:
    """`messages` reduced over the neighbours of each point, part by part.

    The target is the same in all messages of a point, so only sources are reduced: the relative
    part is their reduction less the target. Rounding is monotone, so that of max and min is the
    same in bits. Sums run without the sources being formed.

    Returns:
        (points, width).
    """
    k = neighbours.shape[1]
    sources = _sources(x, neighbours) if reducer in ("max", "min") or "distance" in parts else None
    target = x * k if reducer == "add" else x
    needed = "source" in parts or "relative" in parts
    reduced = _reduced_sources(x, neighbours, sources, reducer) if needed else x
    found = {
        "source": lambda: reduced,
        "target": lambda: target,
        "relative": lambda: reduced - target,
        "distance": lambda: _reduce(_distances(sources, x), reducer)[:, None],
    }
    columns = [found[part]() for part in parts]
    return columns[0] if len(columns) == 1 else torch.cat(columns, 1)


def _sources(x: torch.Tensor, neighbours: torch.Tensor) -> torch.Tensor:
    return x.index_select(0, neighbours.reshape(-1)).view(*neighbours.shape, -1)


def _reduced_sources(
    x: torch.Tensor, neighbours: torch.Tensor, sources: torch.Tensor | None, reducer: str
) -> torch.Tensor:
    if reducer in ("max", "min"):
        assert sources is not None
        return _reduce(sources, reducer)
    return F.embedding_bag(neighbours, x, mode="sum" if reducer == "add" else "mean")


def _distances(sources: torch.Tensor | None, x: torch.Tensor) -> torch.Tensor:
    assert sources is not None
    return _lengths(sources - x[:, None])


def _lengths(relative: torch.Tensor) -> torch.Tensor:
    lengths: torch.Tensor = torch.linalg.vector_norm(relative, dim=-1)
    return lengths


def _reduce(values: torch.Tensor, reducer: str) -> torch.Tensor:
    if reducer == "max":
        return values.amax(1)
    if reducer == "min":
        return values.amin(1)
    return values.sum(1) if reducer == "add" else values.mean(1)
