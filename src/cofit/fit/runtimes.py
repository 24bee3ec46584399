"""Other runtimes on one network: what each is, how it is set, and how it is called."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cofit.codegen.export import onnx_model
from cofit.ir import Graph
from cofit.ir.module import GraphModule

Array = NDArray[np.float32]
Call = Callable[[Array], Array]
"""Outputs (1, ...) of one input (1, ...)."""


@dataclass(frozen=True)
class Runtime:
    """A way to run a network; `call` is None where it is absent, and `note` says why."""

    name: str
    note: str
    call: Call | None


def runtimes(real: Graph, integer: Graph | None, threads: int = 1) -> list[Runtime]:
    """Every runtime we compare with, at batch 1, at its fastest settings.

    The int8 ones read our own QDQ file of the integer graph; ONNX Runtime makes the same kernels
    of it as of a file by its own static quantisation.

    Args:
        real: the float graph.
        integer: its integer graph; None leaves the int8 ones out.
        threads: of each runtime but torch, whose threads are those of the process.
    """
    rows: list[tuple[str, str, Graph | None, Callable[[Any, Graph, int], Call], str]] = [
        ("torch eager fp32", "torch", real, _torch, "inference mode, batch norms folded"),
        ("onnxruntime fp32", "onnxruntime", real, _onnxruntime, "all optimisations"),
        ("onnxruntime int8", "onnxruntime", integer, _onnxruntime, "all optimisations, QDQ"),
        ("openvino fp32", "openvino", real, _openvino, "latency hint, f32"),
        ("openvino int8", "openvino", integer, _openvino, "latency hint, QDQ"),
    ]
    return [
        _runtime(name, package, graph, make, settings, threads)
        for name, package, graph, make, settings in rows
        if graph is not None
    ]


def _runtime(
    name: str, package: str, graph: Graph, make: Callable[[Any, Graph, int], Call], settings: str,
    threads: int,
) -> Runtime:  # fmt: skip
    try:
        call = make(importlib.import_module(package), graph, threads)
    except ImportError:
        return Runtime(name, "not installed: pip install 'cofit[peers]'", None)
    except Exception as error:  # another runtime may refuse a network in any way; it is not ours
        cause = (str(error).strip() or type(error).__name__).splitlines()[0]
        return Runtime(name, f"{package} {metadata.version(package)} refuses it: {cause}", None)
    count = "1 thread" if threads == 1 else f"{threads} threads"
    return Runtime(name, f"{package} {metadata.version(package)}, {count}, {settings}", call)


def _torch(_: Any, graph: Graph, __: int) -> Call:
    module = GraphModule(graph).eval()

    def call(x: Array) -> Array:
        with torch.inference_mode():
            y: Array = module(torch.from_numpy(x)).numpy()
        return y

    return call


def _onnxruntime(ort: Any, graph: Graph, threads: int) -> Call:
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    # its threads spin within a run, and not while another contender runs
    options.add_session_config_entry("session.force_spinning_stop", "1")
    options.log_severity_level = 3
    options.add_free_dimension_override_by_name("N", 1)
    session = ort.InferenceSession(
        onnx_model(graph).SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    name = graph.inputs[0]

    def call(x: Array) -> Array:
        y: Array = session.run(None, {name: x})[0]
        return y

    return call


def _openvino(ov: Any, graph: Graph, threads: int) -> Call:
    core = ov.Core()
    network = core.read_model(onnx_model(graph).SerializeToString())
    network.reshape(list(graph.tensors[graph.inputs[0]].shape))
    compiled = core.compile_model(
        network,
        "CPU",
        {
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "f32",  # of what is not int8; bf16 would be another network
            "ENABLE_CPU_PINNING": False,
        },
    )
    request = compiled.create_infer_request()

    def call(x: Array) -> Array:
        found = request.infer([x], share_inputs=True)
        y: Array = found[0]
        return y

    return call
