"""Files of torch.export: read back by cofit and by torch itself, bit for bit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from cofit.codegen import export_pt2
from cofit.core import FileError, ModelError, torch_generator
from cofit.ir import trace
from cofit.ir.module import GraphModule
from cofit.models import load_model

NETWORKS = ("digits_resnet", "mlperf_tiny/resnet8", "mlperf_tiny/autoencoder", "ds_cnn")


def images(shape: tuple[int, ...], batch: int) -> torch.Tensor:
    return torch.randn(batch, *shape, generator=torch_generator(2, "images"))


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("traced", [False, True])
def test_networks_come_back_bit_for_bit_at_any_batch(
    name: str, traced: bool, tmp_path: Path
) -> None:
    loaded = load_model(name)
    module = loaded.module
    if traced:
        module = GraphModule(trace(module, torch.zeros(1, *loaded.input_shape)))
    module.train()
    export_pt2(module, images(loaded.input_shape, 2), tmp_path / "n.pt2")
    assert module.training  # the caller's module is left as it was
    module.eval()
    again = load_model(str(tmp_path / "n.pt2"))
    assert again.input_shape == loaded.input_shape and not again.fresh
    assert set(again.module.state_dict()) == set(module.state_dict())
    with torch.no_grad():
        for batch in (1, 2, 5):
            x = images(loaded.input_shape, batch)
            assert torch.equal(again.module(x), module(x))


def test_torch_itself_reads_the_file(tmp_path: Path) -> None:
    module = load_model("digits_resnet").module
    export_pt2(module, images((1, 8, 8), 1), tmp_path / "n.pt2")
    x = images((1, 8, 8), 7)
    with torch.no_grad():
        assert torch.equal(torch.export.load(tmp_path / "n.pt2").module()(x), module(x))


class FixedBatch(nn.Module):
    """Writes the batch of one into a reshape."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(12, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x.reshape(1, 12))


def test_a_network_with_a_fixed_batch_is_exported_at_one(tmp_path: Path) -> None:
    module = FixedBatch()
    export_pt2(module, images((3, 4), 1), tmp_path / "n.pt2")
    x = images((3, 4), 1)
    assert torch.equal(load_model(str(tmp_path / "n.pt2")).module(x), module(x))


class Branching(nn.Module):
    """Its control flow looks at values."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x if x.sum() > 0 else -x


def test_what_cannot_be_exported_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"Branching cannot be exported.*branch on values"):
        export_pt2(Branching(), images((3,), 1), tmp_path / "n.pt2")
    (tmp_path / "file").write_text("here")
    with pytest.raises(FileError, match="choose a writable folder"):
        export_pt2(nn.Linear(3, 2), images((3,), 1), tmp_path / "file" / "n.pt2")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
