"""Small sequence networks: a text encoder, a vision transformer, a recurrent speech network."""

from __future__ import annotations

import torch
from torch import nn


def _encoder(width: int, heads: int, layers: int, norm_first: bool) -> nn.TransformerEncoder:
    layer = nn.TransformerEncoderLayer(
        width, heads, 4 * width, activation="gelu", batch_first=True, norm_first=norm_first
    )
    last = nn.LayerNorm(width) if norm_first else None
    return nn.TransformerEncoder(layer, layers, last, enable_nested_tensor=False)


class TinyBert(nn.Module):
    """A text encoder of two layers whose first token is classified.

    Source: the architecture of J. Devlin et al., "BERT", NAACL 2019, in the size called tiny by
    I. Turc et al., "Well-Read Students Learn Better", 2019, with a smaller vocabulary.
    """

    def __init__(self, classes: int = 2, vocabulary: int = 1000, tokens: int = 32) -> None:
        super().__init__()
        width = 128
        self.tokens = nn.Embedding(vocabulary, width)
        self.positions = nn.Parameter(torch.randn(1, tokens, width) * 0.02)
        self.norm = nn.LayerNorm(width)
        self.encoder = _encoder(width, 2, 2, norm_first=False)
        self.pooler = nn.Linear(width, width)
        self.head = nn.Linear(width, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Tokens (N, T) -> logits (N, classes)."""
        y = self.encoder(self.norm(self.tokens(x) + self.positions))
        logits: torch.Tensor = self.head(torch.tanh(self.pooler(y[:, 0])))
        return logits


class TinyViT(nn.Module):
    """A vision transformer of four blocks over patches of 4x4 and a class token.

    Source: A. Dosovitskiy et al., "An Image is Worth 16x16 Words", ICLR 2021, made small.
    """

    def __init__(self, classes: int = 10, size: int = 32) -> None:
        super().__init__()
        width, patch = 64, 4
        self.patches = nn.Conv2d(3, width, patch, patch)
        self.token = nn.Parameter(torch.randn(1, 1, width) * 0.02)
        self.positions = nn.Parameter(torch.randn(1, (size // patch) ** 2 + 1, width) * 0.02)
        self.encoder = _encoder(width, 4, 4, norm_first=True)
        self.head = nn.Linear(width, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Images (N, 3, H, W) -> logits (N, classes)."""
        y = self.patches(x).flatten(2).transpose(1, 2)
        y = torch.cat([self.token.expand(len(y), -1, -1), y], 1) + self.positions
        logits: torch.Tensor = self.head(self.encoder(y)[:, 0])
        return logits


class GruSpeech(nn.Module):
    """A GRU over spoken words, some frames of a spectrum at a step; the last state is classified.

    Frames that fill no step at the end are not read.
    """

    def __init__(
        self, classes: int = 10, features: int = 10, hidden: int = 256, stack: int = 3,
        layers: int = 1,
    ) -> None:  # fmt: skip
        super().__init__()
        self.stack = stack
        self.gru = nn.GRU(features * stack, hidden, layers, batch_first=True)
        self.head = nn.Linear(hidden, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Frames (N, 1, T, features) -> logits (N, classes)."""
        steps = x.shape[2] // self.stack
        frames = x[:, 0, : steps * self.stack].reshape(len(x), steps, -1)
        logits: torch.Tensor = self.head(self.gru(frames)[0][:, -1])
        return logits
