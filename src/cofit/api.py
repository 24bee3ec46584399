"""The calls `cofit.fit(...)` and `cofit.explain(...)`."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

from torch import nn

from cofit.codegen import Program
from cofit.core import ConfigError
from cofit.data import Dataset, load
from cofit.fit import (
    Explanation,
    FitConfig,
    FitResult,
    Progress,
    Subject,
    explain_program,
    make_config,
    make_subject,
    open_program,
    run_fit,
    silent,
)
from cofit.models import Normalise, load_model, load_weights
from cofit.report import write_html


def fit(
    model: nn.Module | str,
    data: Dataset | str,
    *,
    target: str = "host",
    budget: str,
    progress: Progress = silent,
    **options: Any,
) -> FitResult:
    """Fit a network to a target under a budget, and write the results into a folder.

    A fit that was interrupted goes on where it was, if it is called again with equal arguments.

    Args:
        model: a network, or what `cofit fit` takes: a known name, "package.module:factory", or a
            .pt2 file. A network is taken as trained, unless `weights` are given to fill it or
            `pretrain_epochs` to train it first; it is not changed. Its attribute `preprocess`, a
            `cofit.models.Normalise`, is applied to the data.
        data: a data set, a known name, or an .npz file.
        target: see `cofit list targets`.
        budget: for example "latency<=20ms, flash<=0.5x, accuracy_drop<=1%".
        progress: called with (stage, steps done, all steps).
        options: other fields of `cofit.fit.FitConfig`, for example `out="runs/mine"`, `epochs=5`.

    Raises:
        ConfigError: an unknown option, or a value that is not allowed.
        InfeasibleError: no plan meets the budget; says which limit binds and its minimum.
        CofitError: anything else the caller can mend.

    Example:
        >>> import cofit
        >>> result = cofit.fit("digits_resnet", "digits", budget="latency<=0.5x")  # doctest: +SKIP
        >>> print(result.summary.verdict)  # doctest: +SKIP
    """
    for what, value, kind in (("model", model, nn.Module), ("data", data, Dataset)):
        if not isinstance(value, kind | str):
            raise ConfigError(
                f"{what} is a {type(value).__name__}; give a {kind.__name__} or a name"
            )
    config = make_config(
        {
            **options,
            "model": model if isinstance(model, str) else type(model).__name__,
            "data": data if isinstance(data, str) else data.name,
            "target": target,
            "budget": budget,
        }
    )
    if isinstance(model, str) and isinstance(data, str):
        return fit_and_report(config, progress)
    subject = _subject(model, data, config, untrained="pretrain_epochs" in options)
    return fit_and_report(config, progress, subject)


def explain(program: Program | Path | str, *, progress: Progress = silent) -> Explanation:
    """Say layer by layer where a program's time goes, what binds it, and what would be faster.

    The limits of this machine are measured once and kept. A Cortex-M program is emulated and held
    against its cycle model.

    Args:
        program: a compiled program, a folder that one was saved into, or the folder of a fit.
        progress: called with (stage, steps done, all steps).

    Raises:
        FileError: the folder holds no program, or files are missing or damaged.
        VerificationError: this version of cofit generates other C; save the program again.
    """
    opened = program if isinstance(program, Program) else open_program(Path(program))
    return explain_program(opened, progress)


def fit_and_report(
    config: FitConfig, progress: Progress = silent, subject: Subject | None = None
) -> FitResult:
    """`cofit.fit.run_fit`, then report.html beside its summary.json."""
    result = run_fit(config, progress, subject)
    write_html(result.summary, config.out / "report.html")
    return result


def _subject(
    model: nn.Module | str, data: Dataset | str, config: FitConfig, untrained: bool
) -> Subject:
    chosen = load(data) if isinstance(data, str) else data
    if isinstance(model, str):
        loaded = load_model(model, config.weights, config.seed)
        module, preprocess = loaded.module, loaded.preprocess
        untrained = loaded.fresh
    else:
        module = copy.deepcopy(model)
        found = getattr(model, "preprocess", None)
        preprocess = found if isinstance(found, Normalise) else Normalise()
        if config.weights is not None:
            load_weights(module, config.weights)
            untrained = False
    return make_subject(config.model, module, chosen, preprocess, untrained)
