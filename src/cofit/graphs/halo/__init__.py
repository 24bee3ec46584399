"""Partition-parallel training: parts, halos, exchange policies, transports, and the training."""

from cofit.graphs.halo.emulated import Emulated
from cofit.graphs.halo.exchange import HaloExchange
from cofit.graphs.halo.gloo import Gloo, gloo, is_rank
from cofit.graphs.halo.in_process import InProcess, run_ranks
from cofit.graphs.halo.job import GraphJob, peak_bytes, run_rank, run_ranks_of
from cofit.graphs.halo.launch import launch
from cofit.graphs.halo.loader import PartLoader
from cofit.graphs.halo.partition import METHODS, Partition, partition
from cofit.graphs.halo.parts import Part, PartitionedGraph
from cofit.graphs.halo.policy import Composed, Exact, Policy, Sampled, Stale, parse_policy
from cofit.graphs.halo.rank_checkpoint import RankCheckpoint
from cofit.graphs.halo.training import HaloResult, train_part
from cofit.graphs.halo.transport import Pending, Traffic, Transport

__all__ = [
    "METHODS",
    "Composed",
    "Emulated",
    "Exact",
    "Gloo",
    "GraphJob",
    "HaloExchange",
    "HaloResult",
    "InProcess",
    "Part",
    "PartLoader",
    "Partition",
    "PartitionedGraph",
    "Pending",
    "Policy",
    "RankCheckpoint",
    "Sampled",
    "Stale",
    "Traffic",
    "Transport",
    "gloo",
    "is_rank",
    "launch",
    "parse_policy",
    "partition",
    "peak_bytes",
    "run_rank",
    "run_ranks",
    "run_ranks_of",
    "train_part",
]
