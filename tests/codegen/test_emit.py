"""Generated text: names, constants, determinism, memory sharing."""

import dataclasses
import re

import numpy as np
import pytest
from layers import Builder, every_op

from cofit.codegen import emit, machine
from cofit.codegen.c_text import LIST_BYTES, comment, declare, identifier, unique_identifiers
from cofit.codegen.kernel import Constant
from cofit.codegen.layout import same_bytes, to_logical, to_memory
from cofit.core import ModelError
from cofit.ir import Graph, Op, Tensor, attributes

HOST = machine("host")


def small(name="net", activations=2):
    b = Builder(name, (1, 3, 6, 6), np.random.default_rng(0))
    y = b.conv("x", 4, 3)
    for _ in range(activations):
        y = b.add(attributes.Activation("relu"), y)
    return b.graph(y)


def test_the_same_graph_gives_the_same_bytes():
    first, second = (emit(every_op("net", np.random.default_rng(3)), HOST) for _ in range(2))
    assert first.source == second.source and first.header == second.header
    other = emit(every_op("net", np.random.default_rng(4)), HOST)
    assert other.source != first.source


def test_elementwise_ops_take_over_the_buffer_of_a_dying_input():
    plan = emit(small(activations=0), HOST).plan
    assert emit(small(activations=5), HOST).plan.arena_bytes == plan.arena_bytes


def test_an_input_that_is_read_later_is_not_overwritten():
    b = Builder("net", (1, 8, 4, 4), np.random.default_rng(0))
    a = b.add(attributes.Activation("relu"), "x")
    c = b.add(attributes.Activation("hardswish"), a)
    source = emit(b.graph(b.add(attributes.Add(), c, a)), HOST)
    assert source.offsets[a] != source.offsets[c]


def test_reshapes_that_keep_the_bytes_have_no_step():
    b = Builder("net", (1, 6), np.random.default_rng(0))
    y = b.add(attributes.Reshape((1, 6, 1, 1)), "x")
    y = b.add(attributes.Reshape((1, 1, 2, 3)), y)
    y = b.add(attributes.Reshape((1, 6)), y)
    source = emit(b.graph(b.add(attributes.Activation("relu"), y)), HOST)
    assert [step.kind for step in source.steps] == ["activation"]


@pytest.mark.parametrize(
    ("before", "after"), [((1, 2, 3, 4), (1, 24)), ((1, 6, 1, 2), (1, 6, 2, 1)),
                          ((1, 4, 2, 2), (1, 2, 4, 2)), ((1, 3, 5, 1), (1, 15))]
)  # fmt: skip
def test_layout_identity_agrees_with_moving_the_elements(before, after):
    x = np.arange(np.prod(before)).reshape(before)
    moved = to_memory(x.reshape(after)).ravel()
    assert same_bytes(before, after) == np.array_equal(to_memory(x).ravel(), moved)
    assert np.array_equal(to_logical(to_memory(x), before), x)


def test_colliding_and_strange_names_become_distinct_identifiers():
    names = unique_identifiers(["a.b", "a b", "a_b", "1x", "größe", ""])
    assert len(set(names)) == 6
    assert all(re.fullmatch(r"[A-Za-z][0-9A-Za-z_]*", name) for name in names)
    assert identifier("2net") == "n2net"


def test_a_layer_name_cannot_leave_its_comment():
    assert "*/" not in comment('x */ int main(void) { system("x"); } /* \\\n //')
    assert "\n" not in comment("a\nb") and "\\" not in comment("a\\")


def read_back(text, dtype):
    """Elements of a declaration, as a C compiler reads them."""
    body = text[text.index("= {") + 3 : text.index("};")]
    if '"' not in body:
        return np.array([float(v) for v in body.split(",")]).astype(dtype)
    data = b"".join(
        bytes([int(octal, 8)]) if octal else char.encode()
        for line in re.findall(r'^    "(.*)"$', body, re.M)
        for octal, char in re.findall(r"\\([0-7]{3})|(.)", line)
    )
    return np.frombuffer(data, dtype)


@pytest.mark.parametrize("size", [7, LIST_BYTES // 4, LIST_BYTES // 4 + 1, 3000])
def test_float_constants_are_exact(size):
    rng = np.random.default_rng(0)
    bits = rng.integers(0, 2**32, size, dtype=np.uint32)
    values = bits.view(np.float32)
    values = np.where(np.isfinite(values), values, np.float32(1e-45))
    values[:2] = np.float32(-0.0), np.finfo(np.float32).max
    again = read_back(declare(Constant("c", values)), np.float32)
    assert again.tobytes() == values.tobytes()


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16", "int32"])
@pytest.mark.parametrize("size", [5, 4001])
def test_integer_constants_are_exact(dtype, size):
    info = np.iinfo(dtype)
    values = np.random.default_rng(0).integers(info.min, info.max, size, dtype, endpoint=True)
    values[:2] = info.min, info.max
    assert np.array_equal(read_back(declare(Constant("c", values)), dtype), values)


def test_constants_that_are_not_finite_are_refused():
    with pytest.raises(ModelError, match="NaN or infinity"):
        declare(Constant("weight", np.array([1.0, np.nan], np.float32)))


def test_several_outputs_are_refused():
    tensors = {n: Tensor(n, (1, 4)) for n in ("x", "a", "b")}
    ops = tuple(Op(n, attributes.Activation("relu"), ("x",)) for n in ("a", "b"))
    with pytest.raises(ModelError, match="1 inputs and 2 outputs"):
        emit(Graph.build("net", ("x",), ("a", "b"), ops, tensors), HOST)


def test_float_programs_of_a_freestanding_machine_take_nhwc():
    native = dataclasses.replace(HOST, io="native")
    assert [s.kind for s in emit(small(), native).steps] == ["conv2d", "activation", "activation"]
    assert emit(small(), HOST).steps[0].kind == "convert"
