"""A recurrent classifier one frame at a time, its state carried from call to call."""

from __future__ import annotations

from typing import cast

import torch
from torch import nn

from cofit.core import ModelError


class StreamingGru(nn.Module):
    """A GRU and a head over the frames of one call, begun at the state that the last call left.

    Programs have one input and one output, so the state travels in both: a call takes
    (1, frames * features + layers * hidden) and gives (1, classes + layers * hidden), where the
    classes are those of the last frame. The first call takes a state of zeros.

    Args:
        gru: a `torch.nn.GRU` over (N, T, C), of any number of layers; its weights are shared.
        head: classifies a state (N, hidden).
        frames: of one call.

    Raises:
        ModelError: the layer is no GRU over (N, T, C), or it needs the frames to come.
    """

    def __init__(self, gru: nn.Module, head: nn.Module, frames: int = 1) -> None:
        super().__init__()
        if not isinstance(gru, nn.GRU) or not gru.batch_first:
            raise ModelError(
                f"cannot stream {type(gru).__name__}; give a GRU with batch_first=True"
            )
        if gru.bidirectional:
            raise ModelError(
                "cannot stream a bidirectional GRU: its backward half begins at the last frame; "
                "train one with bidirectional=False"
            )
        if frames < 1:
            raise ModelError(f"{frames} frames per call; give at least 1")
        self.gru, self.head, self.frames = gru, head, frames

    @property
    def state_size(self) -> int:
        """Elements of the carried state."""
        return self.gru.num_layers * self.gru.hidden_size

    def forward(self, call: torch.Tensor) -> torch.Tensor:
        """Frames and state in, classes and state out."""
        split = self.frames * self.gru.input_size
        x = call[:, :split].reshape(1, self.frames, self.gru.input_size)
        state = call[:, split:].reshape(self.gru.num_layers, 1, self.gru.hidden_size)
        outputs, state = self.gru(x, state)
        classes = cast(torch.Tensor, self.head(outputs[:, -1]))
        return torch.cat([classes, state.reshape(1, -1)], 1)
