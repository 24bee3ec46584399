"""Live bytes against a simulation by hand, and a table that adds up."""

import networks
import torch

from cofit.ir import Graph, Op, Tensor, attributes, describe, live_bytes, macs, trace


def test_live_bytes_of_a_residual_by_hand() -> None:
    relu, add, shape = attributes.Activation("relu"), attributes.Add(), (1, 2, 3, 3)  # 72 bytes
    ops = (
        Op("a", relu, ("x",)),  # x a
        Op("b", attributes.MaxPool2d((3, 3), (1, 1)), ("a",)),  # a b(8 bytes): x is done
        Op("c", relu, ("a",)),  # a b c: b waits, it is an output
        Op("d", add, ("c", "a")),  # a b c d
        Op("e", relu, ("d",)),  # b d e
    )
    tensors = {n: Tensor(n, shape) for n in "xacde"} | {"b": Tensor("b", (1, 2, 1, 1))}
    graph = Graph.build("g", ("x",), ("e", "b"), ops, tensors)
    assert live_bytes(graph) == {"a": 144, "b": 80, "c": 152, "d": 224, "e": 152}


def test_constants_are_not_live_and_the_table_adds_up() -> None:
    graph = trace(networks.ResNet(1, 4), torch.zeros(1, 3, 16, 16), "little")
    lines = describe(graph).splitlines()
    body = lines[2 : 2 + len(graph.ops)]
    assert [line.split()[0] for line in body] == [op.output for op in graph.ops]
    starts = {tuple(i for i, c in enumerate(line) if c == "x" and line[i - 1].isdigit())[:1]
              for line in body}  # fmt: skip
    assert len(starts) == 1  # the shapes are aligned
    cells = [[int(cell.replace(",", "")) for cell in line.split()[-4:]] for line in body]
    constants = sum(t.nbytes for t in graph.tensors.values() if t.data is not None)
    assert sum(row[0] for row in cells) == sum(macs(graph, op) for op in graph.ops)
    assert sum(row[1] for row in cells) == constants
    assert [row[2] for row in cells] == [graph.tensors[op.output].nbytes for op in graph.ops]
    assert [row[3] for row in cells] == list(live_bytes(graph).values())
    peak = 3 * 4 * 16 * 16 * 4  # the skip connection, conv2's output, and their sum
    assert max(row[3] for row in cells) == peak
    assert body[0].split()[1] == "conv2d+relu" and body[0].split()[2] == "1x4x16x16"
    assert lines[-1] == (
        f"little: {len(graph.ops)} ops, {sum(row[0] for row in cells):,} MACs, "
        f"parameters {constants / 1000:.2f} KB, peak activations {peak / 1000:.2f} KB"
    )
    assert all(line == line.rstrip() for line in lines)
