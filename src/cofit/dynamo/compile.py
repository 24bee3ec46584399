"""One piece as a program: traced, its zeros named, compiled, and compared with eager PyTorch."""

from __future__ import annotations

import contextlib
import io
import threading
from dataclasses import replace

import torch

from cofit.codegen import Program, emit, machine
from cofit.codegen import compile as compile_program
from cofit.core import ModelError, UnsupportedOpError, VerificationError, torch_generator
from cofit.dynamo.pieces import Extractor, Piece, Seen
from cofit.ir import Graph, trace
from cofit.ir.trace import vocabularies
from cofit.structures import detect

TOLERANCE = 1e-4  # relative; float32 networks differ by some 1e-6, mixed samples by 1
_TAKEN = (torch.float32, torch.int32, torch.int64)
_LAYERS = frozenset({"conv2d", "linear", "matmul", "gru", "lstm"})


class CompiledPiece:
    """A program with torch tensors on both sides. Calls take turns: they share one arena.

    Attributes:
        program: what runs, one input of the batch after the other, in a loop in C.
    """

    def __init__(self, program: Program, gives: Seen) -> None:
        self.program = program
        self._turned = gives.channels_last
        self._rows = next(iter(vocabularies(program.graph).values()), None)
        self._turn = threading.Lock()

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Results (N, ...) of a batch (N, ...), in the memory format that eager PyTorch gives.

        Raises:
            IndexError: a token is not in the table.
        """
        if self._rows is not None and not 0 <= int(x.min()) <= int(x.max()) < self._rows:
            raise IndexError(f"a token is not in [0, {self._rows}), the rows of its table")
        with self._turn:
            y = torch.from_numpy(self.program.runner.run(x.detach().numpy()))
        return y.contiguous(memory_format=torch.channels_last) if self._turned else y


def lower(extractor: Extractor, piece: Piece, x: torch.Tensor | None) -> Graph:
    """The graph of a piece for one sample, each weight marked with the structure of its zeros.

    Args:
        extractor: makes the piece's module.
        piece: what is lowered.
        x: its input in the call at hand, None if that was not kept.

    Raises:
        CofitError: it cannot be represented, or has no kernel.
    """
    if len(piece.inputs) != 1:
        raise ModelError(f"it reads {len(piece.inputs)} computed tensors; programs read one")
    takes = extractor.seen[piece.inputs[0]]
    gives = None if piece.result is None else extractor.seen.get(piece.result)
    if takes.dtype not in _TAKEN:
        raise ModelError(f"its input is {takes.dtype}; programs take float32, or int64 for tokens")
    if piece.result is not None and (gives is None or gives.dtype != torch.float32):
        kind = "no tensor" if gives is None else gives.dtype
        raise ModelError(f"its result is {kind}; programs give float32")
    example = _noise(takes, 1) if x is None else x[:1]
    with contextlib.redirect_stderr(io.StringIO()):  # modules of torch.fx print their errors
        graph = trace(extractor.single(piece), example, "torch_graph")
    graph = graph.with_tensors(
        {
            weight.name: replace(weight, structure=found.text)
            for op in graph.ops
            for weight in graph.weights(op)
            if (found := detect(torch.from_numpy(weight.data))) is not None
        }
    )
    emit(graph, machine("host"))
    return graph


def compile_piece(extractor: Extractor, piece: Piece, graph: Graph) -> CompiledPiece:
    """Build and verify a program, and compare it with eager PyTorch on a whole batch of noise.

    Tracing looks at one sample; the comparison finds what mixes several.

    Raises:
        UnsupportedOpError: there is no layer in it, so that nothing would be gained.
        VerificationError: its results on the batch are not those of eager PyTorch.
    """
    if not any(op.kind in _LAYERS for op in graph.ops):
        raise UnsupportedOpError("it holds no convolution, linear, matmul or recurrent layer")
    assert piece.result is not None
    takes, gives = (extractor.seen[node] for node in (piece.inputs[0], piece.result))
    compiled = CompiledPiece(compile_program(graph), gives)
    if (batch := takes.shape[0]) > 1:
        x = _noise(takes, batch, min(vocabularies(graph).values(), default=1))
        (wanted,) = extractor.eager(piece)(x, *extractor.numbers)
        got = compiled(x)
        error = (got - wanted).abs().max() if got.shape == wanted.shape else torch.inf
        if not error <= TOLERANCE * wanted.abs().max():
            raise VerificationError(
                f"on a batch of {batch} its results differ from those of one sample after the "
                "other; programs cannot mix samples"
            )
    return compiled


def _noise(like: Seen, batch: int, rows: int = 1) -> torch.Tensor:
    generator = torch_generator(0, "dynamo")
    shape = (batch, *like.shape[1:])
    if like.dtype.is_floating_point:
        return torch.randn(shape, generator=generator)
    return torch.randint(rows, shape, generator=generator, dtype=like.dtype)
