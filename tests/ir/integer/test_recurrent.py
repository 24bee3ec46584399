"""Integer GRU and LSTM: their tables, and how close they stay to float over many steps."""

import numpy as np
import pytest
import torch
from torch import nn

from cofit.core import UnsupportedOpError, torch_generator
from cofit.ir import (
    DType,
    Graph,
    Op,
    Quantisation,
    QuantSpec,
    Tensor,
    attributes,
    calibrate,
    dequantise_output,
    quantise,
    quantise_input,
    run_float,
    run_integer,
    trace,
)
from cofit.ir.integer.recurrent import gate, gate_table


class States(nn.Module):
    """All states of a recurrent layer."""

    def __init__(self, cell: nn.Module) -> None:
        super().__init__()
        self.cell = cell

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.cell(x)[0]


@pytest.mark.parametrize("function", ["sigmoid", "tanh"])
def test_tables_are_good_to_two_units_everywhere(function):
    values = np.arange(-(1 << 15), 1 << 15)
    exact = getattr(torch, function)(torch.from_numpy(values / 4096.0)).numpy() * 32768
    assert np.abs(gate(gate_table(function), values) - exact).max() < 2
    assert gate(gate_table(function), np.array([0]))[0] == (0 if function == "tanh" else 16384)


@pytest.mark.parametrize(("kind", "hidden"), [(nn.GRU, 64), (nn.LSTM, 64), (nn.GRU, 3)])
def test_sixty_steps_stay_within_the_weights_own_error(kind, hidden):
    """The arithmetic adds less than two output steps to float states of the rounded weights."""
    torch.manual_seed(hidden)
    x = torch.randn(16, 60, 20, generator=torch_generator(1))
    graph = trace(States(kind(20, hidden, batch_first=True)), x[:1])
    integer = quantise(graph, calibrate(graph, [x]))
    stored = quantise_input(integer, x.numpy())
    (found,) = run_integer(integer, {graph.inputs[0]: stored}).values()
    y = dequantise_output(integer, found)
    real = {}
    for name in graph.ops[0].inputs[1:]:
        tensor = integer.tensors[name]
        scales = np.array(tensor.quantisation.scale).reshape(-1, *[1] * (len(tensor.shape) - 1))
        real[name] = Tensor(name, tensor.shape, data=(tensor.data * scales).astype(np.float32))
    rounded = torch.from_numpy(dequantise_output(integer, stored, graph.inputs[0]))
    (wanted,) = run_float(
        graph.with_tensors(real), {graph.inputs[0]: rounded}, torch.float64
    ).values()
    step = integer.tensors[graph.outputs[0]].quantisation.scale[0]
    assert np.abs(y - wanted.numpy()).max() < 1.2 * step
    (float_states,) = run_float(graph, {graph.inputs[0]: x}).values()
    assert np.abs(y - float_states.numpy()).max() < 0.05


def test_sums_that_leave_int32_are_refused():
    hidden = 600
    most = np.full((3 * hidden, hidden), 127, np.int8)
    of = Quantisation((0.01,))
    tensors = {t.name: t for t in (
        Tensor("x", (1, 1, 2), DType.I8, Quantisation((0.02,), 0)),
        Tensor("w", (3 * hidden, 2), DType.I8, of, np.ones((3 * hidden, 2), np.int8)),
        Tensor("u", (3 * hidden, hidden), DType.I8, of, most),
        Tensor("b", (3 * hidden,), DType.I32, of, np.zeros(3 * hidden, np.int32)),
        Tensor("c", (3 * hidden,), DType.I32, of, np.zeros(3 * hidden, np.int32)),
        Tensor("y", (1, 1, hidden), DType.I8, Quantisation((1 / 128,), 0)),
    )}  # fmt: skip
    op = Op("y", attributes.Gru(), ("x", "w", "u", "b", "c"))
    graph = Graph.build("wide", ("x",), ("y",), (op,), tensors, QuantSpec())
    with pytest.raises(UnsupportedOpError, match="int32"):
        run_integer(graph, {"x": np.zeros((1, 1, 2), np.int8)})
