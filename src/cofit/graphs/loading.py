"""Published graphs by name, checked against the digests of their files."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from scipy.sparse import csr_array

from cofit.core import DataError, UnknownNameError
from cofit.data.locate import find_folder
from cofit.data.npz import read_npz
from cofit.graphs.graph import Graph
from cofit.graphs.inert_pickle import read_pickle
from cofit.graphs.splits import stratified_split

VALIDATION_NODES = 500
"""Of the public split of the planetoid graphs: the nodes after the training nodes."""


@dataclass(frozen=True)
class GraphSource:
    """One known graph.

    Attributes:
        name: what `load_graph` takes.
        description: one line for people.
        folder: sub-folder of the data folder.
        digests: sha256 by file.
        splits: how many splits are published; None where any number seeds a drawn one.
        nodes, edges, features, classes: of the graph that `load_graph` gives; an edge joins two
            nodes, whichever way.
        read: from the folder and the number of the split.
    """

    name: str
    description: str
    folder: str
    digests: dict[str, str]
    splits: int | None
    nodes: int
    edges: int
    features: int
    classes: int
    read: Callable[[Path, int], Graph]

    def available(self, root: Path | None = None) -> bool:
        """Whether `load_graph` would find the files."""
        try:
            self.find(root)
        except DataError:
            return False
        return True

    def find(self, root: Path | None = None) -> Path:
        """The folder of the files.

        Raises:
            DataError: a file is absent.
        """
        return find_folder(self.name, self.folder, tuple(self.digests), root)


def load_graph(name: str, split: int = 0, root: Path | None = None) -> Graph:
    """A published graph: undirected, without self-loops, with features, classes and masks.

    Args:
        name: see `known_graphs`.
        split: number of the published split; where none is published (the "_npz" graphs) the seed
            of one with 20 training and 30 validation nodes per class.
        root: folder to look in instead of $COFIT_DATA and the other usual places.

    Raises:
        UnknownNameError: no such graph.
        DataError: files are absent or not the published ones, or there is no such split.
    """
    sources = {source.name: source for source in known_graphs()}
    if name not in sources:
        raise UnknownNameError("graph", name, sources)
    source = sources[name]
    if split < 0 or (source.splits is not None and split >= source.splits):
        last = "up" if source.splits is None else f"to {source.splits - 1}"
        raise DataError(f"split {split} of graph {name!r}; choose from 0 {last}")
    folder = source.find(root)
    for file, digest in source.digests.items():
        if hashlib.sha256((folder / file).read_bytes()).hexdigest() != digest:
            raise DataError(
                f"{str(folder / file)!r} is not the published file of graph {name!r}: its sha256 "
                "differs; fetch it again"
            )
    return source.read(folder, split)


def known_graphs() -> tuple[GraphSource, ...]:
    """All graphs with a name."""
    return _SOURCES


def read_planetoid(folder: Path, name: str) -> Graph:
    """The graph `ind.NAME.*` with its public split.

    Nodes without features and label (Citeseer has 15, numbered between the test nodes) stay in,
    with zero features, class -1, and in no part of the split.

    Source: Z. Yang, W. Cohen, R. Salakhutdinov, ICML 2016.

    Raises:
        DataError: a file is damaged or does not fit the others.
    """
    known, labels, x_test, y_test, lists = (
        read_pickle(folder / f"ind.{name}.{part}") for part in ("allx", "ally", "tx", "ty", "graph")
    )
    training = len(read_pickle(folder / f"ind.{name}.y"))
    try:
        test = np.loadtxt(folder / f"ind.{name}.test.index", dtype=np.int64)
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read ind.{name}.test.index: {error}") from error
    n = max(len(lists), len(known), int(test.max()) + 1)
    features = np.zeros((n, known.shape[1]), np.float32)
    classes = np.zeros((n, labels.shape[1]), np.int64)
    features[: len(known)], features[test] = known, x_test
    classes[: len(known)], classes[test] = labels, y_test
    y = torch.from_numpy(np.where(classes.any(1), classes.argmax(1), -1))
    lengths = [len(values) for values in lists.values()]
    sources = np.repeat(np.fromiter(lists, np.int64), lengths)
    targets = np.concatenate([np.array(values, np.int64) for values in lists.values()])
    graph = _undirected(np.stack([sources, targets]), torch.from_numpy(features), y)
    masks = torch.zeros(3, n, dtype=torch.bool)
    masks[0, :training] = True
    masks[1, training : training + VALIDATION_NODES] = True
    masks[2, torch.from_numpy(test)] = True
    return replace(graph, train_mask=masks[0], val_mask=masks[1], test_mask=masks[2])


def read_gnn_benchmark(path: Path, seed: int) -> Graph:
    """An npz of CSR adjacency, CSR attributes and labels, with a split drawn from `seed`.

    Source: O. Shchur et al., "Pitfalls of Graph Neural Network Evaluation", 2018.

    Raises:
        DataError: the file is damaged.
    """
    parts = ("data", "indices", "indptr", "shape")
    keys = [f"{matrix}_{part}" for matrix in ("adj", "attr") for part in parts]
    arrays = read_npz(path, [*keys, "labels"])

    def matrix(name: str) -> csr_array:
        data, indices, indptr, shape = (arrays[f"{name}_{part}"] for part in parts)
        try:
            found = csr_array((data, indices, indptr), shape=tuple(map(int, shape)))
            found.check_format(full_check=True)
        except ValueError as error:
            raise DataError(f"{str(path)!r}: matrix {name!r} is damaged: {error}") from error
        return found

    adjacency = matrix("adj").tocoo()
    features = torch.from_numpy(matrix("attr").toarray().astype(np.float32))
    labels = torch.from_numpy(arrays["labels"].astype(np.int64))
    edges = np.stack([adjacency.row, adjacency.col]).astype(np.int64)
    graph = _undirected(edges, features, labels)
    return stratified_split(graph, train_per_class=20, val_per_class=30, seed=seed)


def read_heterophilous(path: Path, split: int) -> Graph:
    """An npz of features, labels, edges and ten splits.

    Source: O. Platonov et al., "A critical look at the evaluation of GNNs under heterophily", ICLR
    2023.

    Raises:
        DataError: the file is damaged.
    """
    masks = ("train_masks", "val_masks", "test_masks")
    arrays = read_npz(path, ("node_features", "node_labels", "edges", *masks))
    graph = _undirected(
        arrays["edges"].T.astype(np.int64),
        torch.from_numpy(arrays["node_features"].astype(np.float32)),
        torch.from_numpy(arrays["node_labels"].astype(np.int64)),
    )
    train, val, test = (torch.from_numpy(arrays[mask][split].astype(bool)) for mask in masks)
    return replace(graph, train_mask=train, val_mask=val, test_mask=test)


def _undirected(edges: np.ndarray, x: torch.Tensor, y: torch.Tensor) -> Graph:
    graph = Graph.from_edges(torch.from_numpy(np.ascontiguousarray(edges)), len(x), x=x, y=y)
    return graph.without_self_loops().symmetrised()


_SOURCES = (
    GraphSource(
        "cora",
        "Cora of planetoid: papers and their words, public split",
        "planetoid",
        {
            "ind.cora.allx":
                "9419ba2f26f5c35243db64aba110e0f35a04851609e0dc5433450676ca6b8543",
            "ind.cora.ally":
                "2b998f5cc7fedc86e7f97ca2498f47a1ffc1462c29e2d578b23bf3f62b6e7d71",
            "ind.cora.graph":
                "58f13302f39dde8852dad6fe6d15b89b077b6d7f837626bce671ef80344b383d",
            "ind.cora.test.index":
                "297ce89af2b51a6a194181c7dbe1796c6a1cf9cd9349a88383b1b1e227867875",
            "ind.cora.tx":
                "b9afbaa4a400df991f6f02ef677e1e44da55ffc04801fd02f9e673987829226a",
            "ind.cora.ty":
                "41f5ac76596a1699cc33f53084a2419e92961c42bb75f36fc38e616d348532ad",
            "ind.cora.y":
                "94465c14eb53e04ca262198dcbb2521ee8af60fb3f3d546cd6ca24a511b0e7d1",
        },
        1,
        2708, 5278, 1433, 7,
        lambda folder, _: read_planetoid(folder, "cora"),
    ),
    GraphSource(
        "citeseer",
        "Citeseer of planetoid: papers and their words, public split",
        "planetoid",
        {
            "ind.citeseer.allx":
                "2ac30345d95c9ec933a817ee0bdd6a5f077f8c184a20e696910192d534414668",
            "ind.citeseer.ally":
                "f704b2d986dde6c2669934de1f3ae5696a6cf9455c0f6b2646a2d135ea0a1c95",
            "ind.citeseer.graph":
                "d79a4ef9d3e7169aee8946145f6b7306e35bc79bffad26346cfb94e10e9912a7",
            "ind.citeseer.test.index":
                "2af990671580b6b2df5d158d1038f8292e30c9cd821b5453f399659b25b723d4",
            "ind.citeseer.tx":
                "539a8906a2da97628d212f2fdd668c109a8b3f0d36574b59e5d3fd5b5303da21",
            "ind.citeseer.ty":
                "55e5bd1ba1e733a04598753ad1a8d57957f4b8f89e74519f41f4f4938767e4ce",
            "ind.citeseer.y":
                "8ba87e515d8e3ee3cf52f6d2c5b86aa73f11ecad825a808455209ec26cd54924",
        },
        1,
        3327, 4552, 3703, 6,
        lambda folder, _: read_planetoid(folder, "citeseer"),
    ),
    GraphSource(
        "cora_npz",
        "Cora of gnn-benchmark: papers, drawn splits",
        "gnn_small",
        {
            "cora.npz":
                "068e22d90c3849b4057dfb05851741428992af058efcd4e7ebb4186f3d581de2",
        },
        None,
        2708, 5278, 1433, 7,
        lambda folder, split: read_gnn_benchmark(folder / "cora.npz", split),
    ),
    GraphSource(
        "citeseer_npz",
        "Citeseer of gnn-benchmark: papers, drawn splits",
        "gnn_small",
        {
            "citeseer.npz":
                "280278b21b434c047922e8389518861416fb3ad39389c27865ff0e6bbb0aaab7",
        },
        None,
        3312, 4536, 3703, 6,
        lambda folder, split: read_gnn_benchmark(folder / "citeseer.npz", split),
    ),
    GraphSource(
        "tolokers",
        "workers of Toloka",
        "gnn_small",
        {
            "tolokers.npz":
                "dacf3ac94cec53d03cd2adb5255c08b33dee1656c33ca8164a464bd9450a1667",
        },
        10,
        11_758, 519_000, 10, 2,
        lambda folder, split: read_heterophilous(folder / "tolokers.npz", split),
    ),
    GraphSource(
        "actor",
        "actors of films, heterophilous",
        "gnn_small",
        {
            "actor.npz":
                "c350eef06b2c2a9bf8218be2b57cac6d4003d0922eb597a039e9123f75817816",
        },
        10,
        7600, 26_659, 932, 5,
        lambda folder, split: read_heterophilous(folder / "actor.npz", split),
    ),
    GraphSource(
        "chameleon",
        "Wikipedia pages on chameleons",
        "gnn_small",
        {
            "chameleon_filtered.npz":
                "bf46f07e1fb5249280447e5fe3100f3e82fc4b93ad1e13ffcfdec924b6ac0bb5",
        },
        10,
        890, 8854, 2325, 5,
        lambda folder, split: read_heterophilous(folder / "chameleon_filtered.npz", split),
    ),
    GraphSource(
        "squirrel",
        "Wikipedia pages on squirrels",
        "gnn_small",
        {
            "squirrel_filtered.npz":
                "f06370ffb3116c5de8b7a600005400b2293c025e0ce2f6916d8201a825505ac7",
        },
        10,
        2223, 46_998, 2089, 5,
        lambda folder, split: read_heterophilous(folder / "squirrel_filtered.npz", split),
    ),
)  # fmt: skip
