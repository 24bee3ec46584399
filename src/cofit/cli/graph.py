"""`cofit graph train`: one graph on several ranks, started here or by torchrun."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from typing import Any

from cofit.cli.console import console, print_json, table
from cofit.core import format_quantity
from cofit.fit import silent
from cofit.graphs.halo import GraphJob, gloo, is_rank, run_rank, run_ranks_of
from cofit.report import ProgressDisplay

RUNS = Path("runs/graph")


def graph_train_command(values: dict[str, Any], out: Path | None, as_json: bool) -> None:
    """Train and print what came out; under torchrun, as one of its ranks.

    Args:
        values: by field of `GraphJob`.
        out: folder; by default named after the graph, the parts, the model and the exchange.
        as_json: print summary.json and nothing else.
    """
    job = GraphJob(**values)
    words = (job.graph, str(job.parts), job.model, job.exchange, f"seed{job.seed}")
    folder = out or RUNS / "-".join(re.sub(r"[^\w.+]", "_", word) for word in words)
    first = True
    with contextlib.ExitStack() as stack:
        progress = silent if as_json else stack.enter_context(ProgressDisplay()).update
        if is_rank():
            transport = stack.enter_context(gloo(job.timeout_s))
            first = transport.rank == 0
            summary = run_rank(job, folder, transport, progress if first else silent)
        else:
            summary = run_ranks_of(job, folder, progress)
    if first and as_json:
        print_json(summary)
    elif first:
        _print(summary, folder)


def _print(summary: dict[str, Any], folder: Path) -> None:
    job, scores, sent = summary["job"], summary["scores"], summary["bytes"]
    epochs = len(summary["losses"])
    halo = summary["halo_nodes"]
    rows = [
        ("graph", f"{job['graph']}: {summary['nodes']:,} nodes, {summary['edges']:,} edges"),
        ("parts", f"{job['parts']} by {job['method']}: {summary['cross_edges']:,} edges across"),
        ("halo", f"{halo:,} rows, {halo / summary['nodes']:.3g} per node"),
        ("exchange", f"{job['exchange']}: {(sent['features'] + sent['gradients']) / epochs:,.0f} "
         "bytes per epoch"),
        ("loss", f"{summary['losses'][0]:.4f} to {summary['losses'][-1]:.4f}"),
    ]  # fmt: skip
    if scores is not None:
        rows.append((
            {"accuracy": "accuracy", "roc_auc": "ROC AUC"}[summary["metric"]],
            f"train {scores['train']:.4f}, validation {scores['validation']:.4f}, "
            f"test {scores['test']:.4f} at epoch {summary['epoch'] + 1}, chosen by validation",
        ))  # fmt: skip
    if summary["epoch_s"]:
        rows.append((
            "time",
            f"{1e3 * summary['epoch_s']:.4g} ms per epoch, {1e3 * summary['waited_s']:.4g} of them "
            "waiting for the halo",
        ))  # fmt: skip
    rows.append(("memory", f"{format_quantity(summary['peak_bytes'], 'bytes')} at most, all ranks"))
    console().print(table(("", ""), rows))
    console().print(f"results: {folder / 'summary.json'}")
