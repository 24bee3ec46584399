"""FPGA or phone: frames per joule under quantisation and pruning, modelled, with error bars.

G. Yuan et al., "Work in Progress: Mobile or FPGA? A Comprehensive Evaluation on Energy Efficiency
and a Unified Optimization Framework", RTAS 2021, arXiv 2106.09166. The platforms are
`cofit.targets.platforms`; here are the networks that are trained under every compression, this CPU
as a calibrated platform, and public figures that the model is held against.
"""

from __future__ import annotations

from dataclasses import replace

from cofit.reproductions.fpga_vs_mobile.claims import claims, drawing, tables
from cofit.reproductions.fpga_vs_mobile.study import VARIANTS, Settings, run_steps
from cofit.reproductions.harness import Outcome, Reproduction, Study


def run(study: Study[Settings]) -> Outcome:
    """Train, price, calibrate, cross-check."""
    results = run_steps(study)
    return Outcome(claims=claims(results), tables=tables(results), figure=drawing(results))


_STANDARD = Settings(
    data="fashion_mnist",
    train=6000,
    test=10000,
    widths=(16, 32, 64),
    epochs=3,
    tune_epochs=2,
    calibration=120,
    asked=20,
    draws=1000,
    variants=tuple(VARIANTS),
    layer=(64, 14),
)

REPRODUCTION = Reproduction(
    name="fpga-vs-mobile",
    title="Modelled, not measured: frames per joule of FPGAs and phones under compression",
    source="Yuan, Dong, Sun, et al., RTAS 2021, arXiv 2106.09166",
    scales={
        "smoke": Settings(
            data="digits", train=500, test=300, widths=(16, 32), epochs=4, tune_epochs=1,
            calibration=4, asked=4, draws=200, size=32,
            variants=("fp32", "int8", "binary", "block 4x"), layer=(32, 8),
        ),
        "standard": _STANDARD,
        "full": replace(_STANDARD, train=60000, widths=(32, 64, 128), epochs=10, tune_epochs=5),
    },
    seeds={"smoke": (0,), "standard": (0, 1, 2), "full": (0, 1, 2)},
    run=run,
)  # fmt: skip
