"""Sequence networks and single operators that several tests trace."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn


class Apply(nn.Module):
    """A function as a network, with layers if it wants some."""

    def __init__(self, function: Callable[..., object], **layers: nn.Module) -> None:
        super().__init__()
        self.function = function
        self.__dict__["names"] = list(layers)
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, *xs: torch.Tensor) -> object:
        return self.function(*xs, *(getattr(self, name) for name in self.names))


def TOKENS() -> nn.Module:
    """An embedding of ten tokens and a product."""
    torch.manual_seed(4)
    return Apply(lambda x, table: 2 * table(x), table=nn.Embedding(10, 6))


def layer(**options: object) -> nn.TransformerEncoderLayer:
    return nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, **options)  # type: ignore[arg-type]


class Encoder(nn.Module):
    """A small BERT: tokens and positions, two encoder layers, the first token's class."""

    def __init__(self, width: int = 16, tokens: int = 6) -> None:
        super().__init__()
        self.tokens = nn.Embedding(8, width)
        self.positions = nn.Parameter(torch.randn(1, tokens, width))
        self.norm = nn.LayerNorm(width)
        one = nn.TransformerEncoderLayer(width, 4, 2 * width, activation="gelu", batch_first=True)
        self.encoder = nn.TransformerEncoder(one, 2, enable_nested_tensor=False)
        self.head = nn.Linear(width, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.encoder(self.norm(self.tokens(x) + self.positions))[:, 0])


class SmallVit(nn.Module):
    """Patches, a class token or the mean of all, two blocks."""

    def __init__(self, token: bool, width: int = 12) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, 4, 4)
        self.token = nn.Parameter(torch.randn(1, 1, width)) if token else None
        self.positions = nn.Parameter(torch.randn(1, 16 + token, width))
        one = nn.TransformerEncoderLayer(
            width, 3, 2 * width, activation="gelu", batch_first=True, norm_first=True
        )
        self.blocks = nn.TransformerEncoder(one, 2, nn.LayerNorm(width), enable_nested_tensor=False)
        self.head = nn.Linear(width, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.patches(x).flatten(2).transpose(1, 2)
        if self.token is not None:
            y = torch.cat([self.token.expand(len(y), -1, -1), y], 1)
        y = self.blocks(y + self.positions)
        return self.head(y[:, 0] if self.token is not None else y.mean(1))


class GruSpeech(nn.Module):
    """Features by steps, two recurrent layers, the last state's class."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(10, 16, 2, batch_first=True)
        self.head = nn.Linear(16, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.gru(x)[1][-1])


def heads(x: torch.Tensor, count: int) -> torch.Tensor:
    return x.view(x.shape[0], x.shape[1], count, -1).permute(0, 2, 1, 3)


def by_hand(x: torch.Tensor, q: nn.Module, k: nn.Module, v: nn.Module) -> torch.Tensor:
    """Attention as many networks write it."""
    scores = heads(q(x), 2) @ heads(k(x), 2).transpose(-2, -1) / 2
    y = (torch.softmax(scores, -1) @ heads(v(x), 2)).transpose(1, 2)
    return y.reshape(x.shape[0], x.shape[1], -1)


ATTENTION = ["linear", "transpose", "transpose", "transpose", "transpose", "matmul", "softmax",
             "matmul", "transpose", "linear"]  # fmt: skip
REST = ["add", "layernorm", "linear", "activation", "linear", "add", "layernorm"]
SEQUENCE = (1, 5, 8)
CASES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], list[str]]] = {
    "layer norm": (lambda: nn.LayerNorm(8), SEQUENCE, ["layernorm"]),
    "layer norm of features": (lambda: nn.LayerNorm(8, elementwise_affine=False), (1, 8),
                               ["layernorm"]),
    "gelu": (nn.GELU, SEQUENCE, ["activation"]),
    "gelu by tanh": (lambda: nn.GELU("tanh"), (1, 4, 3, 3), ["activation"]),
    "softmax of heads": (lambda: Apply(lambda x: heads(x, 2).softmax(-1)), SEQUENCE,
                         ["transpose", "softmax"]),
    "tokens and features": (lambda: Apply(lambda x: x.transpose(1, 2)), SEQUENCE, ["transpose"]),
    "all axes": (lambda: Apply(lambda x: x.permute(0, 3, 1, 2)), (1, 3, 4, 5), ["transpose"]),
    "to an image": (lambda: Apply(lambda x, c: c(x.permute(0, 3, 1, 2)), c=nn.Conv2d(5, 2, 1)),
                    (1, 3, 4, 5), ["transpose", "conv2d"]),
    "three axes moved": (lambda: Apply(lambda x: x.reshape(1, 2, 3, 4, 5).permute(0, 4, 2, 1, 3)),
                         (1, 6, 20), ["transpose"]),
    "mean of tokens": (lambda: Apply(lambda x: x.mean(1)), SEQUENCE, ["transpose", "globalmean"]),
    "mean of tokens kept": (lambda: Apply(lambda x: x.mean(1, keepdim=True)), SEQUENCE,
                            ["transpose", "globalmean"]),
    "gram": (lambda: Apply(lambda x: torch.bmm(x, x.transpose(1, 2))), SEQUENCE,
             ["matmul"]),
    "gram scaled": (lambda: Apply(lambda x: torch.baddbmm(x.new_ones(1, 5, 5), x, x.mT, alpha=0.3)),
                    SEQUENCE, ["matmul", "add"]),
    "einsum": (lambda: Apply(lambda x: torch.einsum("btc,bsc->bts", x, x)), SEQUENCE,
               ["matmul"]),
    "einsum of heads": (lambda: Apply(lambda x: torch.einsum(
        "bthc,bshc->bhts", x.reshape(-1, 5, 2, 4), x.view(-1, 5, 2, 4))), SEQUENCE,
        ["transpose", "transpose", "matmul"]),
    "two classes of tokens": (lambda: Apply(lambda x: torch.cat([2 * x.new_ones(1, 1, 8), x], 1)),
                              SEQUENCE, ["pad", "add"]),
    "stack": (lambda: Apply(lambda x: torch.stack([x, x.relu()], 2).flatten(2)), SEQUENCE,
              ["activation", "concat"]),
    "unbind": (lambda: Apply(lambda x: sum(x.unbind(1))), SEQUENCE, ["add"] * 4),
    "attention": (lambda: Apply(lambda x, m: m(x, x, x, need_weights=False)[0],
                                m=nn.MultiheadAttention(8, 2, batch_first=True)), SEQUENCE,
                  ATTENTION),
    "attention with weights": (lambda: Apply(lambda x, m: m(x, x, x)[0],
                               m=nn.MultiheadAttention(8, 2, batch_first=True)), SEQUENCE, None),
    "attention by hand": (lambda: Apply(by_hand, q=nn.Linear(8, 8), k=nn.Linear(8, 8),
                                        v=nn.Linear(8, 8)), SEQUENCE, None),
    "one head": (lambda: Apply(lambda x: F.scaled_dot_product_attention(x, x, x)), SEQUENCE,
                 ["matmul", "softmax", "matmul"]),
    "encoder layer": (layer, SEQUENCE, None),
    "encoder layer, norm first": (lambda: layer(norm_first=True, activation="gelu"), SEQUENCE,
                                  None),
    "last state of a gru": (lambda: Apply(lambda x, g: g(x)[1][-1],
                                          g=nn.GRU(8, 4, 2, batch_first=True)), SEQUENCE, None),
    "last state of an lstm": (lambda: Apply(lambda x, g: g(x)[1][0].squeeze(0),
                              g=nn.LSTM(8, 4, batch_first=True)), SEQUENCE, ["lstm"]),
    "gru without biases": (lambda: Apply(lambda x, g: g(x)[0][:, -1],
                           g=nn.GRU(8, 4, batch_first=True, bias=False)), SEQUENCE, ["gru"]),
}  # fmt: skip
