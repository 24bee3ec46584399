"""Published graphs: as PyG reads them, refused where they are not what was published."""

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from cofit.core import DataError, UnknownNameError
from cofit.graphs import (
    Graph,
    GraphSource,
    known_graphs,
    load_graph,
    random_split,
    stratified_split,
)
from cofit.graphs.inert_pickle import read_pickle

PUBLISHED = {  # nodes, directed edges, features, classes, where another library gives them
    "cora": (2708, 10556, 1433, 7),
    "citeseer": (3327, 9104, 3703, 6),
    "tolokers": (11758, 1038000, 10, 2),
    "chameleon": (890, 17708, 2325, 5),
    "squirrel": (2223, 93996, 2089, 5),
}


@pytest.mark.parametrize("source", known_graphs(), ids=lambda source: source.name)
def test_sizes(data_dir: Path, source: GraphSource) -> None:
    graph = load_graph(source.name, root=data_dir)
    assert graph.x is not None
    sizes = (graph.num_nodes, graph.num_edges, graph.x.shape[1], graph.num_classes)
    assert sizes == (source.nodes, 2 * source.edges, source.features, source.classes)
    assert sizes == PUBLISHED.get(source.name, sizes) and source.available(data_dir)
    assert graph.is_symmetric and not graph.has_self_loops
    assert graph.train_mask is not None and graph.val_mask is not None
    assert graph.train_mask.any() and graph.val_mask.any() and graph.test_mask is not None


@pytest.mark.filterwarnings("ignore")  # of PyG and of its unpickling
@pytest.mark.parametrize("name", ["cora", "citeseer"])
def test_planetoid_as_pyg_reads_it(data_dir: Path, name: str) -> None:
    planetoid = pytest.importorskip("torch_geometric.io.planetoid")
    theirs = planetoid.read_planetoid_data(str(data_dir / "planetoid"), name)
    ours = load_graph(name, root=data_dir)
    assert ours.x is not None and ours.y is not None
    assert torch.equal(ours.x, theirs.x)
    assert torch.equal(ours.y.clamp(min=0), theirs.y)  # PyG gives nodes without a label class 0
    edges = ours.edge_index[0] * ours.num_nodes + ours.edge_index[1]
    expected = theirs.edge_index[0] * ours.num_nodes + theirs.edge_index[1]
    assert torch.equal(edges.sort().values, expected.sort().values)
    for mask in ("train_mask", "val_mask", "test_mask"):
        assert torch.equal(getattr(ours, mask), getattr(theirs, mask)), mask


def test_citeseer_keeps_its_unlabelled_nodes(data_dir: Path) -> None:
    graph = load_graph("citeseer", root=data_dir)
    assert graph.x is not None and graph.y is not None
    unknown = graph.y < 0
    assert unknown.sum() == 15
    assert (graph.x[unknown] == 0).all() and (graph.x[~unknown] != 0).any(1).sum() == 3327 - 15


def test_splits(data_dir: Path) -> None:
    first, other = (load_graph("cora_npz", split, root=data_dir) for split in (0, 1))
    assert first.train_mask is not None and first.val_mask is not None and first.y is not None
    assert torch.bincount(first.y[first.train_mask]).tolist() == [20] * 7
    assert torch.bincount(first.y[first.val_mask]).tolist() == [30] * 7
    assert not torch.equal(first.train_mask, other.train_mask)
    again = load_graph("cora_npz", 1, root=data_dir)
    assert torch.equal(again.train_mask, other.train_mask)
    published = [load_graph("chameleon", split, root=data_dir).train_mask for split in (0, 9)]
    assert not torch.equal(*published)


def test_drawn_splits() -> None:
    graph = Graph.from_edges(torch.zeros(2, 0, dtype=torch.int64), 100, y=torch.arange(100) % 4 - 1)
    part = random_split(graph, 0.5, 0.2, seed=0)
    sizes = [int(mask.sum()) for mask in (part.train_mask, part.val_mask, part.test_mask)]
    assert sum(sizes) == 75 and sizes[0] == 38  # the 25 of class -1 are left out
    with pytest.raises(DataError, match="leave a part empty"):
        random_split(graph, 0.8, 0.2, seed=0)
    with pytest.raises(DataError, match="class 0 has 25 nodes, too few"):
        stratified_split(graph, 20, 5, seed=0)


def test_refused(data_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'cora'"):
        load_graph("coral")
    with pytest.raises(DataError, match="split 1 of graph 'cora'; choose from 0 to 0"):
        load_graph("cora", 1, root=data_dir)
    with pytest.raises(DataError, match="set COFIT_DATA"):
        load_graph("cora", root=tmp_path)
    (tmp_path / "gnn_small").mkdir()
    content = bytearray((data_dir / "gnn_small" / "cora.npz").read_bytes())
    content[-1] ^= 1
    (tmp_path / "gnn_small" / "cora.npz").write_bytes(content)
    with pytest.raises(DataError, match="not the published file"):
        load_graph("cora_npz", root=tmp_path)


class Evil:
    """Touches a file when it is unpickled the ordinary way."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_malicious_pickle_does_nothing(tmp_path: Path, protocol: int) -> None:
    path, harm = tmp_path / "evil", tmp_path / "harm"
    path.write_bytes(pickle.dumps({0: [Evil(harm)]}, protocol=protocol))
    with pytest.raises(DataError, match="mkdir, which is not plain data"):
        read_pickle(path)
    assert not harm.exists()
    pickle.loads(path.read_bytes())
    assert harm.exists()  # the pickle was indeed malicious


ARRAY = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x80\x02K\x01.",  # a number
        b"(lI1\na.",  # a list
        b"cbuiltins\neval\n(S'1'\ntR.",
        b"cnumpy.core.multiarray\nscalar\n.",
        b"cnumpy\ndtype\n(dS'__setstate__'\nI1\nsb.",  # writes to the class
        b"(dI0\n(lS'word'\nas.",  # a list of other things
        ARRAY + b".",  # an array that was never filled
        # 10^12 numbers promised, four bytes given
        ARRAY + b"(I1\n(I1000000000000\ntcnumpy\ndtype\n(S'i4'\nI0\nI1\ntR(I3\nS'<'\nNtbI00\n"
        b"S'abcd'\ntb.",
        # an array of objects
        ARRAY + b"(I1\n(I1\ntcnumpy\ndtype\n(S'O8'\nI0\nI1\ntR(I3\nS'|'\nNtbI00\n(lI1\natb.",
    ],
)
def test_malformed_pickles_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(DataError, match="cannot read"):
        read_pickle(path)


def test_arrays_of_either_byte_order(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for order, text in (("<", b"\\x01\\x00\\x02\\x00"), (">", b"\\x00\\x01\\x00\\x02")):
        state = b"(I1\n(I2\ntcnumpy\ndtype\n(S'i2'\nI0\nI1\ntR(I3\nS'" + order.encode()
        path.write_bytes(ARRAY + state + b"'\nNtbI00\nS'" + text + b"'\ntb.")
        found = read_pickle(path)
        assert found.dtype == np.int16 and found.tolist() == [1, 2]
