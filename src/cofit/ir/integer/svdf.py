"""Singular value decomposition filter: a rank-r recurrent layer for streaming audio."""

from __future__ import annotations

import numpy as np

from cofit.ir.integer.accumulate import Ints
from cofit.ir.integer.epilogue import Epilogue


def svdf_step(
    x: Ints,
    state: Ints,
    feature_weight: Ints,
    time_weight: Ints,
    bias: Ints | None,
    into_state: Epilogue,
    into_output: Epilogue,
    *,
    input_offset: int,
) -> tuple[Ints, Ints]:
    """One time step.

    Args:
        x: (N, C) int8.
        state: (N, F, T) int8 or int16, oldest first.
        feature_weight: (F, C) int8.
        time_weight: (F, T), of the state's dtype.
        bias: (U,) or None; F = U * rank, the ranks of a unit side by side.
        into_state: from feature sums to the newest column of the state.
        into_output: from time sums to int8.
        input_offset: minus the zero point of x.

    Returns:
        output (N, U) int8 and the new state.
    """
    sums = (x.astype(np.int64) + input_offset) @ feature_weight.astype(np.int64).T
    newest = into_state(sums, state.dtype)[:, :, None]
    moved = np.concatenate([state[:, :, 1:], newest], axis=2)
    filtered = (moved.astype(np.int64) * time_weight).sum(axis=2)
    units = filtered.shape[1] if bias is None else bias.size
    acc = filtered.reshape(len(x), units, -1).sum(axis=2)
    if bias is not None:
        acc += bias
    return into_output(acc, np.int8), moved
