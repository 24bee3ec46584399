"""A machine of known law: real draws, real caches, a clock that computes the time."""

import math
from itertools import islice

import numpy as np

from cofit.core import derive_seed, numpy_generator
from cofit.graphs import Graph
from cofit.graphs.minibatch import CachedLoader, ClosedForm, Configuration, Device, Measurement
from cofit.graphs.minibatch.measure import network
from cofit.reproductions.gnnavigator import Profile
from cofit.search import Outcome

BATCHES = 2


def lawful(
    graph: Graph, configuration: Configuration, device: Device, seed: int = 0, noise: float = 0.02
) -> Measurement:
    """Counts are those of drawn batches; seconds and bytes follow from them.

    Aggregation slows down by up to 2.5 times beyond a size (a processor's cache that overflows)
    and drawing with a bias costs half as much again, which no closed form here knows.
    """
    c = configuration
    loader = CachedLoader(graph, c, Device(math.inf, 0.0), derive_seed(seed, "law"))
    loader.warm(90, 4)
    for _ in islice(loader.epoch(0), BATCHES + 1):  # the last one is not ended, nor counted
        pass
    log = loader.log

    def mean(name: str) -> float:
        return float(np.mean([getattr(phases, name) for phases in log]))

    rows, edges, sent = mean("rows"), mean("edges"), mean("feature_bytes")
    seconds, outputs = Device(device.bandwidth_Bps, device.latency_s), c.hidden
    draw = numpy_generator(seed, "noise", c.text)
    work = rows * loader.row_bytes
    slower = 1 + 1.5 / (1 + math.exp(-4 * math.log(max(work, 1.0) / 1e5)))
    sample = (1e-4 + 4e-8 * edges) * (1.5 if c.bias else 1.0)
    transfer = 2e-10 * work + seconds.transfer_s(sent)
    replace = 2e-8 * (rows - mean("hits")) if c.cache_policy in ("lru", "fifo") else 0.0
    flops = mean_flops(log, graph, c)
    compute = 3e-4 + flops / 2e10 * slower
    times = np.array([sample, transfer, replace, compute]) * np.exp(noise * draw.normal(size=4))
    prepare = float(times[:3].sum())
    step = max(prepare, float(times[3])) if c.prefetch else float(times.sum())
    model = 16 * sum(p.numel() for p in network(graph, c, 0).parameters())
    batch = mean("index_bytes") + rows * loader.row_bytes
    active = 4 * outputs * sum(log[0].layers[1:]) * 2.2 + 19 * edges
    peak = model + loader.cache.lines * loader.row_bytes + (1 + c.prefetch) * batch + active
    return Measurement(
        len(loader), step, *map(float, times), rows, edges,
        sum(p.hits for p in log) / sum(p.rows for p in log), sent, loader.row_bytes, int(peak),
    )  # fmt: skip


def mean_flops(log: list, graph: Graph, c: Configuration) -> float:
    assert graph.x is not None
    widths = [graph.x.shape[1], *[c.hidden] * (c.layers - 1), graph.num_classes]
    return float(np.mean([
        sum(6 * p.layers[i + 1] * widths[i] * widths[i + 1] for i in range(c.layers))
        + 6 * p.edges * c.hidden for p in log
    ]))  # fmt: skip


def accuracy(c: Configuration) -> float:
    """Rises with the fan-outs and falls with the batch."""
    fan = sum(math.log(100 if k is None else k) for k in c.fanouts)
    return 0.6 + 0.04 * fan - 0.02 * math.log2(c.batch_size / 32) - 0.02 * c.bias


def outcome(graph: Graph, c: Configuration, device: Device, seed: int = 0) -> Outcome:
    values = {**lawful(graph, c, device, seed).document(), "accuracy": accuracy(c)}
    return Outcome(accuracy(c), values)


def profile(closed: ClosedForm, graph: Graph, c: Configuration, seed: int = 0) -> Profile:
    return Profile(closed, c, lawful(graph, c, Device(), seed), accuracy(c))
