"""Each rewrite: ops before and after, the same values, and where it must not apply."""

from collections.abc import Callable, Mapping

import numpy as np
import pytest
import torch

from cofit.core import torch_generator
from cofit.ir import Graph, Op, Tensor, assert_equivalent, attributes, passes
from cofit.ir.shapes import output_shape

Row = tuple[str, attributes.Attributes, tuple[str, ...]]
IMAGE = (1, 4, 6, 6)
CONV = attributes.Conv2d(padding=(1, 1, 1, 1))
CONSTANTS = {
    "w": (4, 4, 3, 3), "b": (4,), "c": (1, 4, 1, 1), "d": (4, 1, 1), "s": (1, 1, 1, 1),
    "full": (1, 4, 6, 6), "columns": (1, 1, 1, 6), "lw": (4, 6), "lb": (4,), "lc": (1, 4),
}  # fmt: skip


def build(rows: list[Row], outputs: tuple[str, ...] = (), shape: tuple[int, ...] = IMAGE) -> Graph:
    generator = np.random.default_rng(4)
    tensors = {"x": Tensor("x", shape)}
    for name, size in CONSTANTS.items():
        tensors[name] = Tensor(name, size, data=generator.normal(size=size).astype(np.float32))
    for name, attribute, inputs in rows:
        shapes = tuple(tensors[n].shape for n in inputs)
        tensors[name] = Tensor(name, output_shape(attribute, shapes))
    ops = tuple(Op(name, attribute, inputs) for name, attribute, inputs in rows)
    return Graph.build("g", ("x",), outputs or (rows[-1][0],), ops, tensors)


def kinds(graph: Graph) -> list[str]:
    return [op.kind for op in graph.ops]


def check(
    rewrite: Callable[[Graph], Graph], graph: Graph, after: list[str], tolerance: float = 1e-6
) -> Graph:
    before = graph.ops, dict(graph.tensors)
    changed = rewrite(graph)
    assert kinds(changed) == after
    generator = torch_generator(3)
    shape = graph.tensors["x"].shape
    xs = [(torch.randn(shape, generator=generator),) for _ in range(3)]
    assert_equivalent(graph, changed, xs, tolerance=tolerance)
    assert (graph.ops, dict(graph.tensors)) == before
    assert all(t.data is None or t.data.dtype == np.float32 for t in changed.tensors.values())
    return changed


@pytest.mark.parametrize("constant", ["c", "d", "s"])
@pytest.mark.parametrize("affine", [attributes.Mul(), attributes.Add(fused="relu")])
def test_affine_folds_into_a_convolution(constant: str, affine: attributes.Attributes) -> None:
    graph = build([("y", CONV, ("x", "w", "b")), ("z", affine, ("y", constant))])
    changed = check(passes.fold_affine, graph, ["conv2d"])
    assert changed.ops[0].attributes.fused == affine.fused
    assert changed.ops[0].inputs == ("x", "w", "b")


def test_affine_folds_into_a_linear_along_its_last_axis() -> None:
    rows: list[Row] = [("y", attributes.Linear(), ("x", "lw", "lb"))]
    graph = build([*rows, ("z", attributes.Mul(), ("y", "lc"))], shape=(1, 5, 6))
    check(passes.fold_affine, graph, ["linear"])


@pytest.mark.parametrize(
    ("rows", "outputs"),
    [
        ([("y", CONV, ("x", "w", "b")), ("z", attributes.Mul(), ("y", "full"))], ()),
        ([("y", CONV, ("x", "w", "b")), ("z", attributes.Mul(), ("y", "columns"))], ()),
        ([("y", CONV, ("x", "w", "b")), ("z", attributes.Mul(), ("y", "c"))], ("y", "z")),
        ([("y", CONV, ("x", "w", "b")), ("z", attributes.Mul(), ("y", "y"))], ()),
        ([("y", attributes.Conv2d((1, 1), (1, 1, 1, 1), fused="relu"), ("x", "w", "b")),
          ("z", attributes.Mul(), ("y", "c"))], ()),
        ([("y", CONV, ("x", "w", "b")), ("z", attributes.Mul(), ("y", "c")),
          ("u", attributes.Add(), ("z", "y"))], ()),
    ],
)  # fmt: skip
def test_affine_stays_where_folding_would_be_wrong(
    rows: list[Row], outputs: tuple[str, ...]
) -> None:
    check(passes.fold_affine, build(rows, outputs), [row[1].kind for row in rows])


def test_folding_does_not_touch_a_weight_that_another_op_reads() -> None:
    graph = build([
        ("y", CONV, ("x", "w", "b")), ("z", attributes.Mul(), ("y", "c")),
        ("u", CONV, ("z", "w", "b")),
    ])  # fmt: skip
    changed = check(passes.fold_affine, graph, ["conv2d", "conv2d"])
    assert np.array_equal(changed.tensors["w"].data, graph.tensors["w"].data)


def test_pairs_of_affine_ops_become_one_depthwise() -> None:
    pair: list[Row] = [
        ("y", attributes.Mul(), ("x", "c")), ("z", attributes.Add(fused="relu"), ("y", "d")),
    ]  # fmt: skip
    graph = check(passes.affine_to_depthwise, build(pair), ["conv2d", "add"])
    folded = check(passes.fold_affine, graph, ["conv2d"])
    assert folded.ops[0].attributes == attributes.Conv2d(groups=4, fused="relu")
    swapped: list[Row] = [
        ("y", attributes.Add(), ("x", "c")), ("z", attributes.Mul(), ("y", "d")),
        ("u", attributes.Add(), ("z", "c")),
    ]  # fmt: skip
    check(passes.simplify, build(swapped), ["conv2d"])
    check(passes.affine_to_depthwise, build(pair[:1]), ["mul"])
    scalars: list[Row] = [
        ("y", attributes.Mul(), ("x", "s")), ("z", attributes.Add(), ("y", "s")),
    ]  # fmt: skip
    check(passes.affine_to_depthwise, build(scalars), ["mul", "add"])


@pytest.mark.parametrize("function", ["relu", "relu6", "tanh"])
@pytest.mark.parametrize(
    ("host", "inputs"),
    [(CONV, ("x", "w", "b")), (attributes.Add(), ("x", "x")), (attributes.Mul(), ("x", "c")),
     (attributes.Concat(), ("x", "x"))],
)  # fmt: skip
def test_clamps_fuse_into_what_can_carry_them(
    function: attributes.Function, host: attributes.Attributes, inputs: tuple[str, ...]
) -> None:
    act = attributes.Activation(function)
    fuses = function != "tanh" and host.kind != "concat"
    graph = build([("y", host, inputs), ("z", act, ("y",))])
    check(passes.fuse_activations, graph, [host.kind] if fuses else [host.kind, "activation"])
    seen = build([("y", host, inputs), ("z", act, ("y",))], ("y", "z"))
    check(passes.fuse_activations, seen, [host.kind, "activation"])


def test_only_the_first_clamp_fuses() -> None:
    rows: list[Row] = [
        ("y", CONV, ("x", "w", "b")), ("z", attributes.Activation("relu6"), ("y",)),
        ("u", attributes.Activation("relu"), ("z",)),
    ]  # fmt: skip
    check(passes.fuse_activations, build(rows), ["conv2d", "activation"])


def test_padding_is_absorbed_by_every_convolution_that_reads_it() -> None:
    pad = attributes.Pad(((0, 0), (0, 0), (0, 2), (1, 0)))
    rows: list[Row] = [
        ("p", pad, ("x",)), ("y", CONV, ("p", "w", "b")),
        ("z", CONV, ("p", "w", "b")), ("u", attributes.Concat(), ("y", "z")),
    ]  # fmt: skip
    changed = check(passes.absorb_padding, build(rows), ["conv2d", "conv2d", "concat"])
    assert changed.ops[0].attributes.padding == (1, 3, 2, 1)
    shared: list[Row] = [*rows[:2], ("q", attributes.Slice((0,) * 4, IMAGE, (1,) * 4), ("p",))]
    check(passes.absorb_padding, build(shared, ("y", "q")), ["pad", "conv2d", "slice"])
    channels = attributes.Pad(((0, 0), (1, 1), (0, 0), (0, 0)))
    depthwise = attributes.Slice((0, 1, 0, 0), (1, 5, 6, 6), (1,) * 4)
    check(passes.absorb_padding, build([("p", channels, ("x",)), ("q", depthwise, ("p",)),
                                        ("y", CONV, ("q", "w", "b"))]),
          ["pad", "slice", "conv2d"])  # fmt: skip


def test_slices_and_reshapes_merge() -> None:
    first = attributes.Slice((0, 1, 1, 0), (1, 4, 6, 6), (1, 1, 2, 1))
    second = attributes.Slice((0, 0, 1, 2), (1, 3, 3, 6), (1, 2, 1, 3))
    changed = check(
        passes.merge_slices, build([("y", first, ("x",)), ("z", second, ("y",))]), ["slice"]
    )
    assert changed.ops[0].attributes == attributes.Slice((0, 1, 3, 2), (1, 4, 6, 6), (1, 2, 2, 3))
    shapes = [("y", attributes.Reshape((1, 144)), ("x",)),
              ("z", attributes.Reshape((1, 12, 12)), ("y",))]  # fmt: skip
    check(passes.merge_reshapes, build(shapes), ["reshape"])
    mean = [("y", attributes.GlobalMean(), ("x",)), ("z", attributes.Reshape((1, 4)), ("y",))]
    changed = check(passes.flatten_means, build(mean), ["globalmean"])
    assert changed.outputs == ("y",) and changed.tensors["y"].shape == (1, 4)
    other = [("y", attributes.GlobalMean(), ("x",)), ("z", attributes.Reshape((1, 2, 2)), ("y",))]
    check(passes.flatten_means, build(other), ["globalmean", "reshape"])


def test_simplify_is_idempotent() -> None:
    rows: list[Row] = [
        ("p", attributes.Pad(((0, 0), (0, 0), (1, 1), (1, 1))), ("x",)),
        ("y", attributes.Conv2d(), ("p", "w", "b")), ("m", attributes.Mul(), ("y", "c")),
        ("a", attributes.Add(), ("m", "d")), ("r", attributes.Activation("relu"), ("a",)),
    ]  # fmt: skip
    once = check(passes.simplify, build(rows), ["conv2d"])
    twice = passes.simplify(once)
    assert twice.ops == once.ops and data(twice) == data(once)


def data(graph: Graph) -> Mapping[str, bytes]:
    return {n: t.data.tobytes() for n, t in graph.tensors.items() if t.data is not None}
