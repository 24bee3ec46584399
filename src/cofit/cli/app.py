"""The commands and their options. Nothing here imports torch; each command imports its own work."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from cofit import __version__

app = typer.Typer(
    name="cofit",
    help="Fit neural networks to hardware, and hardware to neural networks.",
    add_completion=False,
    invoke_without_command=True,
    pretty_exceptions_enable=False,
)

graph = typer.Typer(
    help="Graph networks: on several ranks, or tuned to a device.", no_args_is_help=True
)
app.add_typer(graph, name="graph")

Model = Annotated[str, typer.Argument(help="Known name, package.module:factory, or a .pt2 file.")]
Weights = Annotated[
    Path | None, typer.Option(help="Trained weights (safetensors); random without.")
]
Data = Annotated[str | None, typer.Option(help="Known data set or .npz; calibrates int8.")]
Precision = Annotated[str, typer.Option(help="auto, fp32 or int8; auto: int8 on Cortex-M.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")]


@app.callback()
def start(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """Fit neural networks to hardware, and hardware to neural networks."""
    if version:
        typer.echo(f"cofit {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.command()
def fit(
    model: Annotated[
        str | None, typer.Argument(help="Known name, package.module:factory, or a .pt2 file.")
    ] = None,
    weights: Annotated[
        Path | None, typer.Option(help="Trained weights (safetensors); trained here without.")
    ] = None,
    data: Annotated[str | None, typer.Option(help="Known data set or .npz file.")] = None,
    target: Annotated[str | None, typer.Option(help="See 'cofit list targets'.")] = None,
    budget: Annotated[
        str | None, typer.Option(help='For example "latency<=20ms, flash<=0.5x".')
    ] = None,
    structures: Annotated[
        str | None, typer.Option(help="Families to choose from, comma-separated.")
    ] = None,
    rates: Annotated[
        str | None, typer.Option(help="Pruning rates to choose from, comma-separated.")
    ] = None,
    precision: Annotated[str | None, typer.Option(help="auto, fp32 or int8.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Epochs per round.")] = None,
    pretrain_epochs: Annotated[int | None, typer.Option(help="Epochs without --weights.")] = None,
    rounds: Annotated[int | None, typer.Option(help="Plans tried at most.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of every random draw.")] = None,
    threads: Annotated[int | None, typer.Option(help="Torch threads while training.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Images per training step.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Peak of fitting.")] = None,
    samples: Annotated[int | None, typer.Option(help="Images for sensitivities.")] = None,
    peers: Annotated[bool | None, typer.Option(help="Also time other runtimes.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the results.")] = None,
    config: Annotated[Path | None, typer.Option(help="TOML; options override it.")] = None,
    as_json: Json = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print only the verdict.")] = False,
) -> None:
    """Fit a network to a target under a budget; goes on where it was after an interruption."""
    from cofit.cli.fit import fit_command

    given: dict[str, Any] = {
        "model": model,
        "weights": weights,
        "data": data,
        "target": target,
        "budget": budget,
        "structures": None if structures is None else _words(structures),
        "rates": None if rates is None else _words(rates),
        "precision": precision,
        "epochs": epochs,
        "pretrain_epochs": pretrain_epochs,
        "rounds": rounds,
        "seed": seed,
        "threads": threads,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "samples": samples,
        "peers": peers,
        "out": out,
    }
    values = {name: value for name, value in given.items() if value is not None}
    raise typer.Exit(fit_command(values, config, as_json, quiet))


@app.command()
def cost(
    model: Model,
    targets: Annotated[str, typer.Option(help="Comma-separated; see 'cofit list targets'.")],
    weights: Weights = None,
    data: Data = None,
    precision: Precision = "auto",
    per_op: Annotated[bool, typer.Option("--per-op", help="One row per op.")] = False,
    plot: Annotated[
        Path | None, typer.Option(help="Draw latency and energy here (.svg, .png or .pdf).")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show what one network costs on several targets, side by side."""
    from cofit.cli.cost import cost_command

    cost_command(model, _words(targets), weights, data, precision, per_op, plot, as_json)


@app.command()
def efficiency(
    model: Model,
    targets: Annotated[str, typer.Option(help="FPGAs, phones and boards, comma-separated.")],
    weights: Weights = None,
    precisions: Annotated[
        str, typer.Option(help="fp32, fp16, int8, int4, ternary, binary; comma-separated.")
    ] = "fp32,int8",
    draws: Annotated[int, typer.Option(help="Of all numbers that are not published.")] = 1000,
    as_json: Json = False,
) -> None:
    """Compare frames per joule on FPGAs, phones and boards, with error bars."""
    from cofit.cli.efficiency import efficiency_command

    efficiency_command(model, _words(targets), weights, _words(precisions), draws, as_json)


@app.command("compile")
def compile_(
    model: Model,
    target: Annotated[str, typer.Option(help="See 'cofit list targets'.")],
    out: Annotated[Path, typer.Option(help="Folder of the program.")],
    weights: Weights = None,
    data: Data = None,
    precision: Precision = "auto",
    structure: Annotated[
        str | None, typer.Option(help="Project weights, for example block16x1@4.")
    ] = None,
    compiler: Annotated[
        str | None, typer.Option(help="zig (default), gcc, clang, or any C compiler on PATH.")
    ] = None,
    threads: Annotated[
        int, typer.Option(help="Threads that share the larger steps (host only).")
    ] = 1,
    tune: Annotated[
        bool, typer.Option("--tune", help="Time the ways to compute each layer (host only).")
    ] = False,
) -> None:
    """Compile a network to verified C."""
    from cofit.cli.compile import compile_command

    compile_command(
        model, target, out, weights, data, precision, structure, compiler, threads, tune
    )


@app.command()
def run(
    folder: Annotated[Path, typer.Argument(help="A program saved by compile or fit.")],
    inputs: Annotated[Path, typer.Argument(help=".npy or .npz of float32 (N, C, H, W).")],
    out: Annotated[Path | None, typer.Option(help="Write the outputs here (.npy).")] = None,
    as_json: Json = False,
) -> None:
    """Run a saved program on inputs."""
    from cofit.cli.run import run_command

    run_command(folder, inputs, out, as_json)


@app.command()
def explain(
    folder: Annotated[Path, typer.Argument(help="A program saved by compile, or a run of fit.")],
    html: Annotated[Path | None, typer.Option(help="Write a page with the roofline here.")] = None,
    as_json: Json = False,
) -> None:
    """Say layer by layer where a program's time goes, why, and what would be faster."""
    from cofit.cli.explain import explain_command

    explain_command(folder, as_json, html)


@app.command()
def reproduce(
    name: Annotated[
        str | None, typer.Argument(help="A published system; see 'cofit list reproductions'.")
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="All of them.")] = False,
    scale: Annotated[str, typer.Option(help="smoke, standard or full.")] = "standard",
    out: Annotated[Path | None, typer.Option(help="Folder of the run; with --all of runs.")] = None,
    write: Annotated[Path | None, typer.Option(help="Write to this page of results (.md).")] = None,
    as_json: Json = False,
) -> None:
    """Measure the claims of a published system again; goes on after an interruption."""
    from cofit.cli.reproduce import reproduce_command

    reproduce_command(name, every, scale, out, write, as_json)


@app.command("list")
def list_(
    what: Annotated[
        str | None,
        typer.Argument(help="targets, structures, models, data or reproductions; all without."),
    ] = None,
) -> None:
    """List what cofit knows by name."""
    from cofit.cli.listing import list_command

    list_command(what)


@app.command()
def doctor() -> None:
    """Check compilers, emulator, data and cache; exit status 2 if the core cannot work."""
    from cofit.cli.doctor import doctor_command

    raise typer.Exit(doctor_command())


@graph.command("train")
def graph_train(
    name: Annotated[
        str, typer.Argument(help="Known graph, or sbm:NODES or reddit_like:NODES (generated).")
    ],
    parts: Annotated[int, typer.Option(help="Ranks, one process each.")] = 2,
    exchange: Annotated[
        str,
        typer.Option(help="exact, sampled:P, stale, stale:GAMMA or sampled:P+stale."),
    ] = "exact",
    model: Annotated[str, typer.Option(help="gcn, sage, gat or gin.")] = "gcn",
    method: Annotated[str, typer.Option(help="Of partitioning: metis, grow or random.")] = "metis",
    hidden: Annotated[int, typer.Option(help="Width of hidden layers.")] = 64,
    layers: Annotated[int, typer.Option(help="Graph layers.")] = 2,
    norm: Annotated[str, typer.Option(help="none, layer or batch, between layers.")] = "none",
    dropout: Annotated[float, typer.Option(help="Probability.")] = 0.5,
    epochs: Annotated[int, typer.Option(help="Steps; each sees the whole graph.")] = 100,
    learning_rate: Annotated[float, typer.Option(help="Of Adam.")] = 0.01,
    weight_decay: Annotated[float, typer.Option(help="Of matrices.")] = 5e-4,
    evaluate_every: Annotated[int, typer.Option(help="Epochs between evaluations.")] = 1,
    split: Annotated[int, typer.Option(help="Of the graph; seed of a generated one.")] = 0,
    seed: Annotated[int, typer.Option(help="Of partition, weights, dropout, sampling.")] = 0,
    timeout: Annotated[float, typer.Option(help="Seconds to wait for another rank.")] = 60.0,
    checkpoint_every: Annotated[int, typer.Option(help="Epochs between two saves.")] = 10,
    out: Annotated[Path | None, typer.Option(help="Folder of the results.")] = None,
    as_json: Json = False,
) -> None:
    """Train a graph network on the parts of a graph; goes on where it was after an interruption."""
    from cofit.cli.graph import graph_train_command

    values: dict[str, Any] = {
        "graph": name,
        "parts": parts,
        "exchange": exchange,
        "model": model,
        "method": method,
        "hidden": hidden,
        "layers": layers,
        "norm": norm,
        "dropout": dropout,
        "epochs": epochs,
        "learning_rate": learning_rate,
        "weight_decay": weight_decay,
        "evaluate_every": evaluate_every,
        "split": split,
        "seed": seed,
        "timeout_s": timeout,
        "checkpoint_every": checkpoint_every,
    }
    graph_train_command(values, out, as_json)


@graph.command("navigate")
def graph_navigate(
    name: Annotated[
        str, typer.Argument(help="Known graph, or sbm:NODES or reddit_like:NODES (generated).")
    ],
    memory: Annotated[str, typer.Option(help='Of the device, for example "64MB".')],
    priority: Annotated[
        str,
        typer.Option(help="balanced, time, time-memory, memory-accuracy or time-accuracy."),
    ] = "balanced",
    profiles: Annotated[int, typer.Option(help="Configurations measured.")] = 24,
    epochs: Annotated[int, typer.Option(help="After which accuracies are compared.")] = 5,
    model: Annotated[str, typer.Option(help="sage, gcn, gat or gin.")] = "sage",
    hidden: Annotated[int, typer.Option(help="Width.")] = 64,
    bandwidth: Annotated[str, typer.Option(help="Of the emulated link.")] = "2GB/s",
    latency: Annotated[str, typer.Option(help="Of the emulated link.")] = "100us",
    split: Annotated[int, typer.Option(help="Of the graph; seed of a generated one.")] = 0,
    resplit: Annotated[
        bool, typer.Option("--resplit", help="Half of the nodes train, a quarter validates.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Of profiles, weights and trees.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Folder of the profiles.")] = None,
    as_json: Json = False,
) -> None:
    """Choose batch, fan-outs and feature cache for a graph; goes on after an interruption."""
    from cofit.cli.graph_navigate import graph_navigate_command

    values: dict[str, Any] = {
        "graph": name,
        "memory": memory,
        "priority": priority,
        "profiles": profiles,
        "epochs": epochs,
        "model": model,
        "hidden": hidden,
        "bandwidth": bandwidth,
        "latency": latency,
        "split": split,
        "resplit": resplit,
        "seed": seed,
    }
    graph_navigate_command(values, out, as_json)


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())
