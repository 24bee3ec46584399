"""A network as a file of `torch.export.save`."""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path

import torch
from torch import nn

from cofit.core import CofitError, ModelError, VerificationError, atomic_write
from cofit.ir.equivalence import mode
from cofit.models import load_model


def export_pt2(module: nn.Module, example: torch.Tensor, path: Path) -> None:
    """Write a network as a .pt2 file, whole or not at all.

    The batch is left open, or fixed at one if the network does not allow that. A file is written
    only after it was read back by `cofit.models.load_model` and gave the module's outputs bit for
    bit.

    Args:
        module: one float tensor in, one out; exported in evaluation mode, itself unchanged.
        example: inputs (N, ...).
        path: of the file.

    Raises:
        ModelError: the module cannot be exported, or its file cannot be read back.
        VerificationError: the file gives other outputs than the module.
        FileError: the file cannot be written.
    """
    one = example[:1].detach()
    several = torch.cat([one, -one, one / 2])
    with mode(module, False), torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.export's own, and the network's
        try:
            blob = _exported(module, several, [several, one])
        except CofitError:  # the network computes with the size of its batch
            blob = _exported(module, one, [one])
    with atomic_write(path) as file:
        file.write(blob)


def _exported(module: nn.Module, example: torch.Tensor, trials: list[torch.Tensor]) -> bytes:
    """Bytes of the file, tried on inputs; a batch of one is fixed, others leave it open."""
    shapes = torch.export.ShapesCollection()
    if len(example) > 1:
        shapes[example] = {0: torch.export.Dim("N")}
    try:
        spec = shapes.dynamic_shapes(module, (example,))
        program = torch.export.export(module, (example,), dynamic_shapes=spec, strict=False)
    except Exception as error:  # tracing runs the network's own code, which may fail in any way
        cause = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ModelError(
            f"{type(module).__name__} cannot be exported: {cause}; networks must run on the "
            "example and must not branch on values of tensors"
        ) from error
    with tempfile.TemporaryDirectory() as folder:
        written = Path(folder) / "network.pt2"
        torch.export.save(program, written)
        again = load_model(str(written)).module
        for x in trials:
            if not _same(again, module, x):
                raise VerificationError(
                    f"{type(module).__name__} gives other outputs after torch.export on inputs "
                    f"{tuple(x.shape)}; please report this with the network"
                )
        return written.read_bytes()


def _same(exported: nn.Module, module: nn.Module, x: torch.Tensor) -> bool:
    try:
        return torch.equal(exported(x), module(x))
    except RuntimeError:  # a size that export has fixed
        return False
