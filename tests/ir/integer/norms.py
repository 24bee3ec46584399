"""Graphs of one layer norm, and their distance from the float one."""

import numpy as np
import torch
import torch.nn.functional as F

from cofit.ir import Graph, Op, Ranges, Tensor, attributes, quantise, run_integer


def norm_graph(
    rng: np.random.Generator, channels: int, rows: int = 4, eps: float = 1e-5, spread: float = 3.0
) -> tuple[Graph, Graph]:
    """Integer and float graph of one layer norm whose input lies within +-spread."""
    weight = rng.normal(1, 0.4, channels).astype(np.float32)
    bias = rng.normal(0, 0.5, channels).astype(np.float32)
    shape = (1, rows, channels)
    tensors = {
        "x": Tensor("x", shape),
        "w": Tensor("w", (channels,), data=weight),
        "b": Tensor("b", (channels,), data=bias),
        "y": Tensor("y", shape),
    }
    op = Op("y", attributes.LayerNorm(eps), ("x", "w", "b"))
    graph = Graph.build("norm", ("x",), ("y",), (op,), tensors)
    lower = {"x": -spread, "y": -4.0}
    return quantise(graph, Ranges(lower, {"x": spread * rng.uniform(0.5, 1), "y": 4.0})), graph


def steps_off(integer: Graph, real: Graph, x: np.ndarray) -> np.ndarray:
    """Steps between the integer result and the rounded float result of the same stored input."""
    qx, qy = (integer.tensors[name].quantisation for name in "xy")
    values = torch.from_numpy((x.astype(np.float64) - qx.zero_point) * qx.scale[0])
    weight, bias = (torch.from_numpy(real.tensors[n].data).double() for n in "wb")
    eps = real.ops[0].attributes.eps
    y = F.layer_norm(values, values.shape[-1:], weight, bias, eps).numpy()
    wanted = np.clip(np.floor(y / qy.scale[0] + 0.5) + qy.zero_point, -128, 127)
    return np.abs(run_integer(integer, {"x": x})["y"] - wanted)
