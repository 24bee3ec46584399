"""Every compiled program is compared, op by op, with the meaning of its graph.

Each step is checked on the very inputs it had in the arena, so errors cannot hide behind one
another: integers must be equal; floats must lie within an a-priori bound of the float64 result.
The arena is poisoned before every run, and guards around it must stay intact.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import torch

from cofit.codegen.bounds import EPSILON, TINY, forced_states, layer_norm_bound
from cofit.codegen.emit import INPUT, OUTPUT, Source, Step
from cofit.codegen.kernel import Residual
from cofit.codegen.layout import to_memory
from cofit.codegen.runner import Array, Runner
from cofit.core import VerificationError, numpy_generator
from cofit.ir import DType, Graph, Op, attributes, execute, integer
from cofit.ir.trace import vocabularies

RANDOM_INPUTS = 3
T = TypeVar("T")
POISONS = (0xAA, 0xFF)  # a large negative number and NaN as floats, -86 and -1 as int8


def verify(source: Source, runner: Runner) -> None:
    """Run the program step by step on random and extreme inputs.

    Raises:
        VerificationError: naming the first op that is wrong, where and by how much.
    """
    for x in sample_inputs(source):
        results = []
        for poison in POISONS:
            runner.load(x, poison)
            for index, step in enumerate(source.steps):
                reads = [runner.read(name) for name in step.reads]
                runner.step(index)
                got = runner.read(step.writes)
                if poison == POISONS[0]:
                    _check_step(source, step, reads, got)
                if (where := runner.overrun()) is not None:
                    raise _failure(source, step, f"writes {where}")
            results.append(runner.read(source.exit))
        if results[0].tobytes() != results[1].tobytes():
            raise VerificationError(
                f"program {source.name!r} depends on what was in its arena before the run"
            )
        whole = runner.run(x)
        stepped = results[0] if source.machine.io == "float" else to_memory(results[0])
        if whole.tobytes() != stepped.tobytes():
            raise VerificationError(
                f"program {source.name!r} differs from its steps when run whole"
            )


def sample_inputs(source: Source) -> list[Array]:
    """Random inputs and extremes, as the program takes them, each of batch 1."""
    graph = source.graph
    tensor = graph.tensors[graph.inputs[0]]
    rng = numpy_generator(0, "verify", source.name)
    shape = tensor.shape
    values: list[Array]
    if tensor.dtype is DType.I32:
        rows = vocabularies(graph).get(tensor.name, 1)
        return [rng.integers(0, rows, shape, dtype=np.int32) for _ in range(RANDOM_INPUTS)]
    if not graph.is_integer:
        values = [rng.standard_normal(shape).astype(np.float32) for _ in range(RANDOM_INPUTS)]
    else:
        stored: list[Array] = [
            rng.integers(-128, 128, shape, dtype=np.int8) for _ in range(RANDOM_INPUTS)
        ]
        stored += [np.full(shape, value, np.int8) for value in (-128, 127)]
        if source.machine.io == "native":
            return [to_memory(value) for value in stored]
        values = [integer.dequantise_output(graph, q, graph.inputs[0]) for q in stored]  # type: ignore[arg-type]
    return values if source.machine.io == "float" else [to_memory(value) for value in values]


def _check_step(source: Source, step: Step, reads: list[Array], got: Array) -> None:
    graph = source.schedule.graph
    if step.op is None:
        expected = _converted(graph, step, reads[0])
    elif graph.is_integer:
        expected = integer.execute.apply(graph, step.op, _arguments(graph, step.op, reads))  # type: ignore[arg-type]
        if step.residual is not None:
            operands = _operands(step.residual, expected, reads[-1])
            expected = integer.execute.apply(graph, step.residual.op, operands)  # type: ignore[arg-type]
    else:
        _check_floats(source, step, reads, got)
        return
    wrong = np.argwhere(expected != got)
    if len(wrong):
        where = tuple(map(int, wrong[0]))
        raise _failure(
            source,
            step,
            f"gives {got[where]} at {list(where)}, must be {expected[where]} "
            f"({len(wrong)} of {got.size} elements differ)",
        )


def _converted(graph: Graph, step: Step, x: Array) -> Array:
    if not graph.is_integer:
        return x
    if step.name == INPUT:
        return integer.quantise_input(graph, x)  # type: ignore[arg-type]
    assert step.name == OUTPUT
    return integer.dequantise_output(graph, x)  # type: ignore[arg-type]


def _arguments(graph: Graph, op: Op, reads: list[Array]) -> list[Array]:
    """Values of all inputs of an op: activations as read, constants from the graph."""
    activations = iter(reads)
    values: list[Array] = []
    for name in op.inputs:
        data = graph.tensors[name].data
        values.append(next(activations) if data is None else data)
    return values


def _operands(residual: Residual, output: T, other: T) -> list[T]:
    """Operands of an addition in their order."""
    return [output, other] if residual.position == 0 else [other, output]


def _check_floats(source: Source, step: Step, reads: list[Array], got: Array) -> None:
    assert step.op is not None
    arguments = _arguments(source.schedule.graph, step.op, reads)
    tensors = [torch.from_numpy(np.asarray(value, np.float64)) for value in arguments]
    if isinstance(step.op.attributes, attributes.Gru | attributes.Lstm):
        expected, allowed = forced_states(step.op, tensors, torch.from_numpy(got.astype(float)))
    else:
        exact = execute.apply(step.op, tensors)
        own = step.code.bound
        bound = error_bound(step.op, tensors) if own is None else own(tensors)
        if step.residual is not None:
            other = torch.from_numpy(reads[-1].astype(np.float64))
            operands = _operands(step.residual, exact, other)
            exact = execute.apply(step.residual.op, operands)
            bound = bound + error_bound(step.residual.op, operands)
        expected, allowed = exact.numpy(), bound.numpy()
    error = np.abs(expected - got.astype(np.float64))
    bad = ~(error <= allowed)
    if bad.any():
        where = np.unravel_index(
            int(np.argmax(np.where(np.isnan(error), np.inf, error) * bad)), bad.shape
        )
        raise _failure(
            source,
            step,
            f"gives {got[where]:.9g} at {list(map(int, where))}, must be {expected[where]:.9g} "
            f"within {allowed[where]:.2g} ({int(bad.sum())} of {got.size} elements differ)",
        )


def error_bound(op: Op, arguments: list[torch.Tensor]) -> torch.Tensor:
    """Largest float32 rounding error of an op in any order of summation, element by element.

    gamma(n) = n * 2^-24 times the sum of magnitudes, for n roundings (Higham, Accuracy and
    Stability of Numerical Algorithms, section 3.1), doubled to cover second-order terms.
    """
    x = arguments[0]
    size = [value.abs() for value in arguments]
    match op.attributes:
        case attributes.Conv2d() as conv:
            plain = attributes.Conv2d(conv.stride, conv.padding, conv.dilation, conv.groups)
            count = arguments[1][0].numel() + 1
            return 2 * count * EPSILON * execute.apply(Op("", plain, op.inputs), size) + TINY
        case attributes.Linear():
            count = arguments[1].shape[1] + 1
            return (
                2 * count * EPSILON * execute.apply(Op("", attributes.Linear(), op.inputs), size)
                + TINY
            )
        case attributes.Add():
            return 2 * EPSILON * (size[0] + size[1]) + TINY
        case attributes.Mul():
            return 2 * EPSILON * (size[0] * size[1]) + TINY
        case attributes.AvgPool2d() as pool:
            count = pool.kernel[0] * pool.kernel[1] + 2
            return 2 * count * EPSILON * execute.apply(op, size) + TINY
        case attributes.GlobalMean():
            count = x.shape[2] * x.shape[3] + 2
            return 2 * count * EPSILON * execute.apply(op, size) + TINY
        case attributes.Activation():
            # libm functions are good to a few units in the last place
            return 16 * EPSILON * (size[0] + 1) + TINY
        case attributes.Matmul():
            count = x.shape[-1] + 2
            return 2 * count * EPSILON * execute.apply(op, size) + TINY
        case attributes.LayerNorm(eps=eps):
            return layer_norm_bound(arguments, eps)
        case attributes.Softmax():
            y = execute.apply(op, arguments)
            spread = 2 * size[0].amax(-1, keepdim=True) + x.shape[-1] + 16
            return 2 * EPSILON * spread * y + TINY
        case _:
            return torch.zeros_like(execute.apply(op, arguments))


def _failure(source: Source, step: Step, what: str) -> VerificationError:
    return VerificationError(
        f"program {source.name!r} on {source.machine.name}: op {step.name!r} ({step.kind}, "
        f"{step.kernel} {step.code.variant}) {what}; please report this"
    )
