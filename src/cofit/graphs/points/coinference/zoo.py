"""Designs that device and edge share, as a folder of JSON and safetensors."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cofit.core import FileError, read_json, read_tensors, write_json, write_tensors
from cofit.graphs.points.genotype import parse, spell
from cofit.graphs.points.network import PointNetwork

VERSION = 1


@dataclass(frozen=True, eq=False)
class Zoo:
    """Networks of one task, in eval mode, and what tells them from others.

    Attributes:
        networks: numbered as messages name them.
        digest: of operations and weights.
    """

    networks: tuple[PointNetwork, ...]
    digest: str

    @classmethod
    def of(cls, networks: Sequence[PointNetwork]) -> Zoo:
        """The zoo of these networks, which are put into eval mode."""
        mark = hashlib.sha256()
        for network in networks:
            network.eval()
            mark.update(f"{spell(network.genes)};{network.k}".encode())
            for name, tensor in sorted(network.state_dict().items()):
                mark.update(name.encode() + tensor.numpy().tobytes())
        return cls(tuple(networks), mark.hexdigest()[:32])

    def save(self, folder: Path) -> None:
        """Write `zoo.json` and `zoo.safetensors`.

        Raises:
            FileError: the folder is not writable.
        """
        designs, tensors = [], {}
        for number, network in enumerate(self.networks):
            classes = len(network.classifier[-1].bias)  # type: ignore[arg-type]
            designs.append({
                "genes": spell(network.genes), "k": network.k, "inputs": network.widths[0],
                "classes": classes,
            })  # fmt: skip
            for name, tensor in network.state_dict().items():
                tensors[f"{number}.{name}"] = tensor
        write_tensors(folder / "zoo.safetensors", tensors)
        write_json(folder / "zoo.json", {"version": VERSION, "designs": designs})


def load_zoo(folder: Path) -> Zoo:
    """The zoo that `Zoo.save` wrote.

    Raises:
        FileError: files are missing, malformed, or do not belong together.
    """
    found, tensors = read_json(folder / "zoo.json"), read_tensors(folder / "zoo.safetensors")
    try:
        if found["version"] != VERSION:
            raise ValueError(f"version {found['version']}; this cofit reads {VERSION}")
        networks = [_network(number, entry) for number, entry in enumerate(found["designs"])]
        for number, network in enumerate(networks):
            prefix = f"{number}."
            network.load_state_dict(
                {
                    name.removeprefix(prefix): tensor
                    for name, tensor in tensors.items()
                    if name.startswith(prefix)
                }
            )
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        text = " ".join(str(error).split())
        raise FileError(f"{str(folder)!r} is no zoo ({text}); save it again") from error
    return Zoo.of(networks)


def _network(number: int, entry: dict[str, Any]) -> PointNetwork:
    genes = parse(str(entry["genes"]))
    network = PointNetwork(genes, int(entry["classes"]), int(entry["k"]), int(entry["inputs"]))
    if network.genes != genes:
        raise ValueError(f"design {number} is not in canonical form")
    return network
