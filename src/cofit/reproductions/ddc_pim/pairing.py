"""Channels put in an order in which the filters that fit best are pairs; the function stays."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import torch
from torch import nn

from cofit.ir import ChannelGroup, channel_groups, trace
from cofit.reproductions.ddc_pim.network import norms
from cofit.structures import match_filters, matching_cost


def match_channels(model: nn.Module, sample: torch.Tensor, paired: Collection[str]) -> None:
    """Permute coupled channels in place so that partners are neighbours.

    Layers whose channels are coupled (by shortcuts, by depthwise convolutions) get one order, the
    best for the sum of their costs.

    Args:
        model: convolutions with normalisations, in eval mode.
        sample: an input batch.
        paired: names of the weights whose filters form pairs.
    """
    for group in channel_groups(trace(model, sample[:1])):
        cost = np.zeros((group.size, group.size))
        for member in group.constants:
            if member.axis == 0 and member.tensor in paired:
                rows = [index[0] for index in member.indices]
                cost += matching_cost(model.get_parameter(member.tensor)[rows])
        if cost.any():
            permute_channels(model, group, match_filters(cost))


def permute_channels(model: nn.Module, group: ChannelGroup, order: list[int]) -> None:
    """Move a group's channels in the weights and normalisations that hold them.

    Args:
        model: the module whose trace holds the group.
        group: see `cofit.ir.channel_groups`.
        order: place i gets the channel that was at `order[i]`.
    """
    parameters = dict(model.named_parameters())
    following = norms(model)
    with torch.no_grad():
        for member in group.constants:
            if member.tensor not in parameters:
                continue  # the bias that folding makes; the normalisation moves instead
            parameter = parameters[member.tensor]
            index = np.arange(parameter.shape[member.axis])
            for place, channel in enumerate(order):
                index[list(member.indices[place])] = member.indices[channel]
            rows = torch.from_numpy(index)
            parameter.copy_(parameter.index_select(member.axis, rows))
            if member.axis == 0 and member.tensor in following:
                for value in following[member.tensor].state_dict().values():
                    if value.ndim:
                        value.copy_(value[rows])
