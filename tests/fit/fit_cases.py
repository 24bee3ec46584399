"""Small networks, costs and configurations that the tests of this room share."""

import itertools

import torch
from torch import nn

from cofit.core import Basis, Cost, CostRow
from cofit.fit import make_config
from cofit.fit.planning import Option
from cofit.fit.products import products
from cofit.ir import trace

TINY = {
    "model": "digits_resnet",
    "data": "digits",
    "target": "cortex-m4",
    "budget": "latency<=0.5x, flash<=24KB, accuracy_drop<=3%",
    "rates": [2, 4],
    "structures": ["block2x4", "channel"],
    "threads": 1,
    "pretrain_epochs": 2,
    "epochs": 2,
    "rounds": 2,
    "batch_size": 64,
}
"""A whole fit in seconds, once its cost table is warm."""


def tiny(out, **changed):
    return make_config({**TINY, "out": out, **changed})


def graph_of(module, *shape, seed=0):
    """The trace of a module (eval) whose weights were drawn from a seed."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.4)
    return trace(module.eval(), torch.zeros(1, *shape), name="case")


def mlp(*widths):
    """Linear layers with ReLU between: ops "0", "2", ..."""
    layers = []
    for before, after in itertools.pairwise(widths):
        layers += [nn.Linear(before, after), nn.ReLU()]
    return graph_of(nn.Sequential(*layers[:-1]), widths[0])


def product_of(graph, name):
    """The product of an op, by its name: "conv1", "gru ih"."""
    return next(product for product in products(graph) if product.name == name)


def row(op, latency_s, flash_bytes=0, ram_bytes=0, energy_j=None):
    return CostRow(
        op, "linear", latency_s, flash_bytes, ram_bytes, Basis.MODELLED, energy_j=energy_j
    )


def cost(*rows):
    return Cost("case", rows)


def option(structure, loss, latency_s, flash_bytes=0, ram_bytes=0, energy_j=None, bits=8):
    return Option(structure, bits, loss, latency_s, flash_bytes, ram_bytes, energy_j)
