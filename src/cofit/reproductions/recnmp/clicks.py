"""Click sets and a model trained on them: do near-memory sums change its ranking?"""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from cofit.core import DataError, numpy_generator, torch_generator
from cofit.data.locate import find_folder
from cofit.graphs import roc_auc
from cofit.reproductions.recnmp.dlrm import DLRM, pooled_near_memory
from cofit.reproductions.recnmp.traces import COLUMNS
from cofit.targets.memory import MemorySystem, place, zipf_stream

DENSE = 13
NUMBERS = tuple(f"I{i}" for i in range(1, DENSE + 1))
BATCH, RATE = 128, 3e-3


@dataclass(frozen=True, eq=False)
class Clicks:
    """What users look up, and whether they click.

    Attributes:
        dense: (N, 13).
        indices: (N, T, P) lookups per table.
        clicked: (N,) 0 or 1.
        chance: (N,) probabilities that clicks were drawn with; None where nobody knows.
    """

    dense: torch.Tensor
    indices: torch.Tensor
    clicked: torch.Tensor
    chance: torch.Tensor | None = None

    def __len__(self) -> int:
        return len(self.clicked)

    def part(self, begin: int, end: int) -> Clicks:
        """Some of the users."""
        chance = None if self.chance is None else self.chance[begin:end]
        kept = (self.dense[begin:end], self.indices[begin:end], self.clicked[begin:end])
        return Clicks(*kept, chance)


def planted(users: int, tables: int, rows: int, pooling: int, seed: int) -> Clicks:
    """Clicks of users whose taste is the sum of their rows' and a product of two tables' sums.

    Rows are looked up by Zipf's law with exponent 0.9.
    """
    generator = numpy_generator(seed, "recnmp", "clicks")
    count = users * pooling
    drawn = [
        zipf_stream(rows, 0.9, count, numpy_generator(seed, "recnmp", "clicks", t))
        for t in range(tables)
    ]
    indices = np.stack([stream.reshape(users, pooling) for stream in drawn], 1)
    taste = generator.standard_normal((tables, rows))
    sums = np.take_along_axis(taste[None], indices.reshape(users, tables, -1), 2).sum(2)
    sums /= np.sqrt(pooling)
    dense = generator.standard_normal((users, DENSE))
    utility = 2 * sums.mean(1) * np.sqrt(tables) + 0.5 * dense @ generator.standard_normal(DENSE)
    if tables > 1:
        utility += sums[:, 0] * sums[:, 1]
    chance = 1 / (1 + np.exp(1 - utility))
    clicked = generator.random(users) < chance
    return Clicks(
        torch.from_numpy(dense.astype(np.float32)),
        torch.from_numpy(indices),
        torch.from_numpy(clicked.astype(np.float32)),
        torch.from_numpy(chance),
    )


def criteo_clicks(rows: int) -> tuple[Clicks, Clicks]:
    """The 1,999 labelled rows of Criteo's small sample, and 200 of another to judge by.

    Every column is a table that a user looks up once; numbers are taken as log(1 + x), missing
    ones as 0.

    Raises:
        DataError: the samples are absent, or lack a column.
    """
    folder = find_folder("criteo_sample", "criteo_sample", ("train.tiny.csv", "criteo_sample.txt"))
    found = []
    for name, label in (("train.tiny.csv", "Label"), ("criteo_sample.txt", "label")):
        with (folder / name).open(newline="", encoding="utf-8") as file:
            records = list(csv.DictReader(file))
        try:
            ids = [[int(r[c] or "0", 16) % rows for c in COLUMNS] for r in records]
            numbers = [[max(float(r[c] or 0), 0.0) for c in NUMBERS] for r in records]
            clicked = [float(r[label]) for r in records]
        except (KeyError, ValueError, TypeError) as error:
            raise DataError(f"{name}: {error}; fetch the file again") from error
        found.append(
            Clicks(
                torch.tensor(numbers).log1p(),
                torch.tensor(ids)[:, :, None],
                torch.tensor(clicked),
            )
        )
    return found[0], found[1]


def trained(
    model: DLRM, clicks: Clicks, epochs: int, seed: int, progress: Callable[[str, int, int], None]
) -> DLRM:
    """The model, trained in place with Adam on shuffled batches."""
    optimiser = torch.optim.Adam(model.parameters(), RATE)
    generator = torch_generator(seed, "recnmp", "clicks", "order")
    steps = -(-len(clicks) // BATCH)
    model.train()
    for epoch in range(epochs):
        order = torch.randperm(len(clicks), generator=generator)
        for step, chosen in enumerate(order.split(BATCH)):
            progress("train", epoch * steps + step, epochs * steps)
            scores = model(clicks.dense[chosen], clicks.indices[chosen])
            loss = F.binary_cross_entropy_with_logits(scores, clicks.clicked[chosen])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return model.eval()


def judged(model: DLRM, clicks: Clicks, memory: MemorySystem, seed: int) -> dict[str, Any]:
    """AUC with torch's sums and with those of the near-memory units, and the largest error."""
    rows = tuple(table.num_embeddings for table in model.embeddings)
    width = 4 * model.embeddings[0].embedding_dim
    placement = place(rows, width, memory, numpy_generator(seed, "recnmp", "clicks", "pages"))
    with torch.no_grad():
        expected = model(clicks.dense, clicks.indices)
        found = model.score(clicks.dense, pooled_near_memory(model, clicks.indices, placement))
    return {
        "torch": _auc(expected, clicks.clicked),
        "near": _auc(found, clicks.clicked),
        "best": None if clicks.chance is None else _auc(clicks.chance, clicks.clicked),
        "error": float((found - expected).abs().max() / expected.abs().max()),
    }


def _auc(scores: torch.Tensor, clicked: torch.Tensor) -> float:
    return roc_auc(torch.stack([torch.zeros_like(scores), scores], 1), clicked)
