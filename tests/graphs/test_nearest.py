"""Nearest neighbours against brute force, cloud by cloud."""

import pytest
import torch

import cofit.graphs.nearest as nearest
from cofit.core import DataError, torch_generator
from cofit.graphs import knn


def brute_force(x: torch.Tensor, k: int, batch: torch.Tensor, loops: bool) -> list[list[int]]:
    result = []
    for i, point in enumerate(x):
        squares = ((x - point) ** 2).sum(1)
        others = [j for j in range(len(x)) if batch[j] == batch[i] and (loops or j != i)]
        result.append(sorted(others, key=lambda j: float(squares[j]))[:k])
    return result


@pytest.mark.parametrize("loops", [False, True])
@pytest.mark.parametrize("sizes", [[30], [12, 12, 12], [9, 20, 5]])
def test_as_by_brute_force(sizes: list[int], loops: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nearest, "TILE_BYTES", 8 * 40 * 7)  # tiles that do not divide the rows
    batch = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    x = torch.randn(sum(sizes), 3, dtype=torch.float64, generator=torch_generator(0))
    found = knn(x, 4, batch, loops=loops)
    assert found.indices.view(-1, 4).tolist() == brute_force(x, 4, batch, loops)
    assert found.counts.tolist() == [4] * len(x)
    if loops:
        assert torch.equal(found.indices[::4], torch.arange(len(x)))


def test_one_cloud_without_a_batch() -> None:
    x = torch.tensor([[0.0], [1.0], [3.0], [7.0]])
    assert knn(x, 1).indices.tolist() == [1, 0, 1, 2]


@pytest.mark.parametrize(
    ("x", "k", "batch", "text"),
    [
        (torch.ones(4, 2), 4, None, "from 1 to 3"),
        (torch.ones(4, 2), 0, None, "from 1 to 3"),
        (torch.ones(4, 2), 2, torch.tensor([0, 0, 0, 1]), "from 1 to 0"),
        (torch.ones(4, 2), 1, torch.tensor([0, 1, 0, 1]), "ascending"),
        (torch.ones(4, 2), 1, torch.tensor([0, 1]), "ascending"),
        (torch.full((4, 2), torch.nan), 1, None, "finite"),
        (torch.ones(4), 1, None, "finite"),
    ],
)
def test_refused(x: torch.Tensor, k: int, batch: torch.Tensor | None, text: str) -> None:
    with pytest.raises(DataError, match=text):
        knn(x, k, batch)
