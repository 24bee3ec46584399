"""block-based structured pruning of a GRU by ADMM in two steps, compiled and timed.

Dong et al. prune columns of blocks, then rows, of the stacked gate matrices of a GRU, and run what
is left stripe by stripe. Here a GRU on spoken digits is pruned so (`pruning`), compiled and timed
against every dense peer (`speed`), and the claims follow (`study`). TIMIT, phones and FPGAs are not
here: recordings of digits stand for the first, this CPU for the others. Energy is not measured.

The method is the subject of US patent 12626131; structure, format and code here are our own form
of the general block-sparse idea.
"""

from __future__ import annotations

from cofit.reproductions.harness import Reproduction
from cofit.reproductions.rtmobile.study import Settings, run

_STANDARD = Settings(
    data="spoken_digits",
    examples=None,
    stack=3,
    hidden=512,
    structure="bsp64x128r1.6@12.8",
    dense_epochs=10,
    admm_epochs=4,
    retrain_epochs=4,
    small_hidden=128,
    forms={
        "bsp": "bsp32x32r1.6@12.8",
        "whole columns": "bsp384x128@12.8",
        "whole columns, rows": "bsp384x128r1.6@12.8",
        "unstructured": "unstructured@12.8",
    },
    extreme="bsp32x32r1.8@28.8",
    batch=128,
    matrix=(3072, 1024),
    matrix_forms={
        "stripes": "bsp64x128@10.6666",
        "unstructured": "unstructured@10.6666",
        "nearly dense": "bsp64x128@1.0666",
    },
)
_SMOKE = Settings(
    data="digits",
    examples=200,
    stack=1,
    hidden=64,
    structure="bsp16x16r1.6@6.4",
    dense_epochs=1,
    admm_epochs=1,
    retrain_epochs=1,
    small_hidden=32,
    forms={"bsp": "bsp8x8@4", "whole columns": "bsp96x32@4"},
    extreme="bsp8x8@8",
    batch=50,
    matrix=(192, 64),
    matrix_forms={
        "stripes": "bsp64x64@8",
        "unstructured": "unstructured@8",
        "nearly dense": "bsp64x64@1.0666",
    },
    rounds=5,
)
_FULL = Settings(
    data="spoken_digits",
    examples=None,
    stack=2,
    hidden=1024,
    structure="bsp64x128r1.6@12.8",
    dense_epochs=20,
    admm_epochs=12,
    retrain_epochs=8,
    small_hidden=128,
    forms=_STANDARD.forms,
    extreme=_STANDARD.extreme,
    batch=128,
    matrix=(3072, 1024),
    matrix_forms=_STANDARD.matrix_forms,
)
REPRODUCTION = Reproduction(
    name="rtmobile",
    title="block-based structured pruning of a GRU, compiled",
    source="P. Dong, S. Wang, W. Niu et al., DAC 2020, arXiv 2002.11474",
    scales={"smoke": _SMOKE, "standard": _STANDARD, "full": _FULL},
    seeds={"smoke": (0,), "standard": (0, 1, 2), "full": (0, 1, 2)},
    run=run,
)
