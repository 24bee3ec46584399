"""Networks of every legal mode, with weights and statistics that no test can guess."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread

import torch

from cofit.core import torch_generator
from cofit.graphs.points import PointNetwork, parse
from cofit.graphs.points.coinference import EdgeServer, Zoo

BY_MODE = {
    "D": "sample:knn aggregate:relative/max combine:16 pool:max combine:32",
    "E": "communicate sample:knn aggregate:full/mean combine:16 pool:max|mean",
    "DE": "sample:knn combine:8 communicate aggregate:full/max combine:16 pool:mean",
    "DE, sampled anew": "sample:knn aggregate:source/add communicate sample:knn "
    "aggregate:relative/mean pool:max",
    "DE, pooled": "sample:knn aggregate:full/add combine:16 pool:max communicate combine:32",
    "DE, classifier": "sample:knn aggregate:full/max pool:add communicate",
    "ED": "communicate sample:knn combine:8 communicate aggregate:full/mean combine:16 pool:max",
    "ED, all but the classifier": "communicate sample:knn aggregate:source/max pool:mean|add "
    "communicate",
    "DED": "sample:knn combine:8 communicate aggregate:relative/mean combine:8 communicate "
    "aggregate:full/max combine:16 pool:mean",
    "DED, sampled anew": "sample:knn aggregate:source/max communicate sample:knn combine:8 "
    "communicate aggregate:full/add pool:max",
    "DED, skip": "combine:8 communicate combine:8 communicate connect:skip sample:knn "
    "aggregate:target|relative/max pool:max",
}
K, CLASSES = 4, 5


def network(text: str, seed: int = 0) -> PointNetwork:
    """A network in eval mode; the same of the same text and seed in every process."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made = PointNetwork(parse(text), CLASSES, K)
    generator = torch_generator(seed, "statistics")
    for name, buffer in made.named_buffers():
        if "running" in name:
            buffer.copy_(torch.rand(buffer.shape, generator=generator) + 0.5)
    return made.eval()


def zoo() -> Zoo:
    """One network per case."""
    return Zoo.of([network(text, seed) for seed, text in enumerate(BY_MODE.values())])


def clouds(number: int = 3, n: int = 20, seed: int = 0) -> torch.Tensor:
    """(number, n, 3) points."""
    return torch.randn(number, n, 3, generator=torch_generator(seed, "clouds"))


@contextmanager
def served(server: EdgeServer) -> Iterator[EdgeServer]:
    """A server in a thread of this process."""
    thread = Thread(target=server.serve)
    thread.start()
    try:
        yield server
    finally:
        server.close()
        thread.join()
