"""From a PyTorch module to a graph, through `torch.export`.

The module is exported at batch 1 in eval mode, every aten operator is lowered by a row of
`lowering.LOWERINGS`, constants are folded, and `passes.simplify` fuses. All of it happens in
float64; the result is compared with the module in float64 before its constants are rounded to
float32, once.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import nn
from torch.export.graph_signature import InputKind, OutputKind

from cofit.core import CofitError, ModelError, VerificationError, torch_generator
from cofit.ir.equivalence import Inputs, assert_equivalent, mode
from cofit.ir.lowering import Builder, function_name
from cofit.ir.lowerings import LOWERINGS
from cofit.ir.passes import simplify
from cofit.ir.types import Graph, Tensor

_TOKENS = (torch.int32, torch.int64)


def trace(
    module: nn.Module,
    example_inputs: torch.Tensor | Sequence[torch.Tensor],
    name: str = "model",
) -> Graph:
    """The float graph of a module at inference, batch 1.

    Weights and biases bear the qualified names of their parameters ("layer1.0.conv1.weight"), ops
    the paths of their layers; what a layer's path cannot name is called by its function
    ("layer1.0.add"). BatchNorm is folded, relu and relu6 are fused (see `passes`). The module
    itself is not changed.

    Args:
        module: a network whose control flow does not depend on the data.
        example_inputs: one tensor per argument of `forward`, batch first (any batch size): float,
            or int32 or int64 for tokens that an embedding reads.
        name: name of the graph.

    Raises:
        ModelError: the module cannot be exported, or a weight is not finite.
        UnsupportedOpError: naming the operator, where it is used, and the operators known.
        VerificationError: the graph does not compute what the module computes.
    """
    examples = _batch_of_one(example_inputs)
    _check_finite(module)
    program = _export(module, examples)
    graph = simplify(_lower(program, module, name))
    _verify(module, graph, examples)
    return graph.with_tensors({n: _rounded(t) for n, t in graph.tensors.items()})


def _batch_of_one(example_inputs: torch.Tensor | Sequence[torch.Tensor]) -> Inputs:
    examples = (
        (example_inputs,) if isinstance(example_inputs, torch.Tensor) else tuple(example_inputs)
    )
    for i, example in enumerate(examples):
        if not isinstance(example, torch.Tensor) or not (
            example.is_floating_point() or example.dtype in _TOKENS
        ):
            kind = example.dtype if isinstance(example, torch.Tensor) else type(example).__name__
            raise ModelError(
                f"example input {i} is {kind}; only float tensors and tokens (int32 or int64) can "
                "be traced"
            )
        if example.ndim < 2 or len(example) < 1:
            raise ModelError(
                f"example input {i} has shape {tuple(example.shape)}; give a batch, for example "
                "(1, 3, 32, 32)"
            )
    return tuple(example[:1].detach() for example in examples)


def _check_finite(module: nn.Module) -> None:
    for name, value in [*module.named_parameters(), *module.named_buffers()]:
        if value.is_floating_point() and not value.isfinite().all():
            bad = int((~value.isfinite()).sum())
            raise ModelError(
                f"{name!r} holds {bad} values that are NaN or infinite; train or load it again"
            )


def _export(module: nn.Module, examples: Inputs) -> torch.export.ExportedProgram:
    with (
        mode(module, False),
        torch.no_grad(),
        warnings.catch_warnings(),
        _plain_attention(),
        contextlib.redirect_stderr(io.StringIO()),  # it prints the graph where it fails
    ):
        warnings.simplefilter("ignore")  # torch.export's own, and the network's
        try:
            program: torch.export.ExportedProgram = torch.export.export(
                module, examples, strict=False
            )
            if not all(map(_settled, program.graph.nodes)):
                # with an empty table this replaces in-place and composite operators, nothing else
                program = program.run_decompositions({})
        except Exception as error:
            cause = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise ModelError(
                f"{type(module).__name__} cannot be exported: {cause}; networks must run on the "
                "example and must not branch on values of tensors"
            ) from error
    return program


@contextlib.contextmanager
def _plain_attention() -> Iterator[None]:
    """Encoder layers as their parts, not as the one fused operator of eval mode."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


def _settled(node: torch.fx.Node) -> bool:
    """Whether a node needs no decomposition: it changes nothing in place and is in the table."""
    if node.op != "call_function":
        return True
    mutable = getattr(getattr(node.target, "_schema", None), "is_mutable", False)
    return not mutable and function_name(node) in LOWERINGS


def _lower(program: torch.export.ExportedProgram, module: nn.Module, name: str) -> Graph:
    builder = Builder(LOWERINGS)
    signature = program.graph_signature
    # a first layer in place changes the caller's input; what is returned does not depend on that
    allowed = {OutputKind.USER_OUTPUT, OutputKind.USER_INPUT_MUTATION}
    kinds = [spec.kind for spec in signature.output_specs]
    if not allowed.issuperset(kinds):
        raise ModelError(
            f"{type(module).__name__} changes its buffers while it computes; "
            "only functions of the input can be traced"
        )
    held = {
        **dict(module.named_parameters(remove_duplicate=False)),
        **dict(module.named_buffers(remove_duplicate=False)),
    }
    parameters = {
        spec.arg.name: str(spec.target)
        for spec in signature.input_specs
        if spec.kind is not InputKind.USER_INPUT
    }
    inputs: list[str] = []
    outputs: tuple[str, ...] = ()
    for node in program.graph.nodes:
        if node.op == "call_function":
            if node.users:  # torch computes weights of attention that nobody asked for
                builder.lower(node)
        elif node.op == "output":
            outputs = tuple(
                builder.output(value)
                for value, kind in zip(node.args[0], kinds, strict=True)
                if kind is OutputKind.USER_OUTPUT
            )
        elif node.name not in parameters:
            inputs.append(builder.input(node))
        elif (found := held.get(parameters[node.name])) is not None:
            builder.parameter(node, parameters[node.name], found.double())
        else:
            builder.parameter(node, node.name, program.constants[parameters[node.name]])
    return Graph.build(name, tuple(inputs), outputs, tuple(builder.ops), builder.tensors)


def _verify(module: nn.Module, graph: Graph, examples: Inputs) -> None:
    generator = torch_generator(0, "trace", graph.name)

    tables = vocabularies(graph)

    def noise(name: str, example: torch.Tensor) -> torch.Tensor:
        if not example.is_floating_point():
            return torch.randint(tables.get(name, 1), example.shape, generator=generator)
        x = example.to(torch.float64)
        spread = x.std(correction=0).nan_to_num()
        draw = torch.randn(x.shape, generator=generator, dtype=torch.float64)
        return x.mean() + draw * (spread if spread > 0 else 1.0)

    samples = [examples, *(tuple(map(noise, graph.inputs, examples)) for _ in range(2))]
    try:
        assert_equivalent(module, graph, samples, what=f"the traced graph of {graph.name!r}")
    except CofitError:
        raise
    except Exception as error:
        cause = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise VerificationError(
            f"{graph.name!r} cannot be checked, because it does not run in float64 ({cause}); "
            "hold its constant tensors as buffers"
        ) from error


def vocabularies(graph: Graph) -> dict[str, int]:
    """Rows of the smallest table that reads each token input, by its name."""
    found: dict[str, int] = {}
    for op in graph.ops:
        if op.kind == "embedding" and op.inputs[0] in graph.inputs:
            rows = graph.tensors[op.inputs[1]].shape[0]
            found[op.inputs[0]] = min(rows, found.get(op.inputs[0], rows))
    return found


def _rounded(tensor: Tensor) -> Tensor:
    if tensor.data is None:
        return tensor
    with np.errstate(over="ignore"):
        data = tensor.data.astype(np.float32)
    if not np.isfinite(data).all():
        raise ModelError(
            f"{tensor.name!r} exceeds float32 once BatchNorm is folded into it; "
            "look for running variances near zero"
        )
    return replace(tensor, data=data)
