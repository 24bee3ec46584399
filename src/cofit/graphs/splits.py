"""Train, validation and test nodes."""

from __future__ import annotations

from dataclasses import replace

import torch

from cofit.core import DataError, torch_generator
from cofit.graphs.graph import Graph


def stratified_split(graph: Graph, train_per_class: int, val_per_class: int, seed: int) -> Graph:
    """The graph with as many training and validation nodes of each class; the others are the test.

    Nodes of class -1 are in no part.

    Raises:
        DataError: no classes, or one has too few nodes to leave one for the test.
    """
    if graph.y is None or graph.y.dim() != 1:
        raise DataError("a stratified split needs one class per node; give y of shape (n,)")
    masks = torch.zeros(3, graph.num_nodes, dtype=torch.bool)
    for label in range(graph.num_classes):
        members = torch.nonzero(graph.y == label).squeeze(1)
        if len(members) <= train_per_class + val_per_class:
            raise DataError(
                f"class {label} has {len(members)} nodes, too few for {train_per_class} to train, "
                f"{val_per_class} to validate and one to test; ask for fewer"
            )
        generator = torch_generator(seed, "split", label)
        drawn = members[torch.randperm(len(members), generator=generator)]
        for mask, nodes in zip(
            masks,
            drawn.tensor_split((train_per_class, train_per_class + val_per_class)),
            strict=True,
        ):
            mask[nodes] = True
    return replace(graph, train_mask=masks[0], val_mask=masks[1], test_mask=masks[2])


def random_split(graph: Graph, train: float, val: float, seed: int) -> Graph:
    """The graph with fractions of its nodes drawn for training and validation, the rest to test.

    Nodes of class -1 are in no part.

    Raises:
        DataError: the fractions leave a part empty.
    """
    known = torch.arange(graph.num_nodes)
    if graph.y is not None and graph.y.dim() == 1:
        known = known[graph.y >= 0]
    first, second = round(train * len(known)), round((train + val) * len(known))
    if not 0 < first < second < len(known):
        raise DataError(
            f"fractions {train} to train and {val} to validate of {len(known)} nodes leave a part "
            "empty; choose positive ones whose sum is below 1"
        )
    drawn = known[torch.randperm(len(known), generator=torch_generator(seed, "split"))]
    masks = torch.zeros(3, graph.num_nodes, dtype=torch.bool)
    for mask, nodes in zip(masks, drawn.tensor_split((first, second)), strict=True):
        mask[nodes] = True
    return replace(graph, train_mask=masks[0], val_mask=masks[1], test_mask=masks[2])
