"""A small recommendation model: dense and pooled sparse features, their products, an MLP."""

from __future__ import annotations

import time

import numpy as np
import torch
from torch import nn

from cofit.core import numpy_generator
from cofit.targets.memory import Bags, Placement, pool


class DLRM(nn.Module):
    """Scores of users: a bottom MLP, pooled embeddings, all pairwise products, a top MLP.

    Args:
        rows: of every table.
        dense: dense features.
        width: of embeddings and of the bottom MLP's output.
        hidden: width of the hidden layers.
    """

    first: torch.Tensor
    second: torch.Tensor

    def __init__(self, rows: tuple[int, ...], dense: int, width: int, hidden: int) -> None:
        super().__init__()
        self.dense = dense
        self.tables = nn.ModuleList(nn.EmbeddingBag(count, width, mode="sum") for count in rows)
        self.bottom = nn.Sequential(
            nn.Linear(dense, hidden), nn.ReLU(), nn.Linear(hidden, width), nn.ReLU()
        )
        for count, table in zip(rows, self.embeddings, strict=True):
            nn.init.uniform_(table.weight, -(count**-0.5), count**-0.5)
        fields = len(rows) + 1
        self.top = nn.Sequential(
            nn.Linear(width + fields * (fields - 1) // 2, hidden), nn.ReLU(),
            nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, 1),
        )  # fmt: skip
        first, second = torch.triu_indices(fields, fields, 1)
        self.register_buffer("first", first)
        self.register_buffer("second", second)

    @property
    def embeddings(self) -> list[nn.EmbeddingBag]:
        """The tables, typed."""
        return [table for table in self.tables if isinstance(table, nn.EmbeddingBag)]

    def forward(self, dense: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
        """(N,) scores of dense (N, F) and indices (N, T, P), P lookups per table."""
        return self.score(dense, self.pooled(indices))

    def pooled(self, indices: torch.Tensor) -> torch.Tensor:
        """(N, T, D) sums of embeddings."""
        return torch.stack([table(indices[:, t]) for t, table in enumerate(self.tables)], 1)

    def score(self, dense: torch.Tensor, pooled: torch.Tensor) -> torch.Tensor:
        """(N,) scores of dense (N, F) and pooled embeddings (N, T, D)."""
        bottom = self.bottom(dense)
        fields = torch.cat([bottom[:, None], pooled], 1)
        products = fields @ fields.mT
        pairs = products[:, self.first, self.second]
        scores: torch.Tensor = self.top(torch.cat([bottom, pairs], 1))
        return scores[:, 0]


def bags_for(model: DLRM, indices: torch.Tensor) -> Bags:
    """The lookups of (N, T, P) indices, user by user."""
    users, tables, pooling = indices.shape
    rows = tuple(table.num_embeddings for table in model.embeddings)
    return Bags(
        rows,
        np.tile(np.arange(tables), users),
        np.zeros(users * tables, np.int64),
        np.arange(users * tables + 1) * pooling,
        indices.reshape(-1).numpy(),
    )


def pooled_near_memory(model: DLRM, indices: torch.Tensor, placement: Placement) -> torch.Tensor:
    """(N, T, D) embeddings as the near-memory units pool them."""
    tables = [table.weight.detach().numpy() for table in model.embeddings]
    found = pool(tables, bags_for(model, indices), placement)
    return torch.from_numpy(found).reshape(len(indices), len(tables), -1)


def seconds_apart(model: DLRM, users: int, pooling: int, repeats: int) -> dict[str, list[float]]:
    """Seconds of pooling, and of all else, for a batch of random users."""
    generator = numpy_generator(0, "recnmp", "users")
    size = model.embeddings[0].num_embeddings
    dense = torch.from_numpy(generator.standard_normal((users, model.dense), np.float32))
    found: dict[str, list[float]] = {"pooling": [], "rest": []}
    with torch.no_grad():
        for _ in range(repeats):
            drawn = generator.integers(size, size=(users, len(model.tables), pooling))
            indices = torch.from_numpy(drawn)
            start = time.perf_counter()
            pooled = model.pooled(indices)
            middle = time.perf_counter()
            model.score(dense, pooled)
            found["pooling"].append(middle - start)
            found["rest"].append(time.perf_counter() - middle)
    return found
