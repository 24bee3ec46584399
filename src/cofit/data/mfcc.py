"""Mel-frequency cepstral coefficients of short clips.

Source: S. Davis, P. Mermelstein, "Comparison of parametric representations for monosyllabic word
recognition", IEEE TASSP 28(4), 1980; window, hop and number of coefficients as in Y. Zhang et al.,
"Hello Edge: Keyword Spotting on Microcontrollers", arXiv:1711.07128 (40 ms, 20 ms, 10).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.fft import dct

WINDOW_S = 0.040
HOP_S = 0.020
MEL_BANDS = 40
COEFFICIENTS = 10
LOWEST_HZ = 20.0
FLOOR = 1e-6
"""Added to band energies of samples in [-1, 1]: digital silence stays finite."""


def mfcc(clips: NDArray[np.float32], sample_rate_hz: int) -> NDArray[np.float32]:
    """Features of clips of equal length.

    Args:
        clips: `(N, samples)` in [-1, 1].
        sample_rate_hz: samples a second.

    Returns:
        `(N, 1, frames, 10)`: one second gives 49 frames.
    """
    window = round(WINDOW_S * sample_rate_hz)
    hop = round(HOP_S * sample_rate_hz)
    length = 1 << (window - 1).bit_length()
    filters = mel_filters(sample_rate_hz, length)
    taper = np.hanning(window + 1)[:-1].astype(np.float32)  # periodic, as spectra want it
    frames = np.lib.stride_tricks.sliding_window_view(clips, window, axis=1)[:, ::hop]
    features = np.empty((*frames.shape[:2], COEFFICIENTS), np.float32)
    for start in range(0, len(clips), 256):  # spectra of all clips at once would need gigabytes
        block = slice(start, start + 256)
        power = np.abs(np.fft.rfft(frames[block] * taper, length)) ** 2 / window
        bands = np.log(power @ filters.T + FLOOR)
        features[block] = dct(bands, norm="ortho")[..., :COEFFICIENTS]
    return features[:, None]


def mel_filters(sample_rate_hz: int, length: int) -> NDArray[np.float64]:
    """Triangles of height 1, equally wide in mel: `(40, length // 2 + 1)`."""
    lowest, highest = _mel(np.array([LOWEST_HZ, sample_rate_hz / 2]))
    edges = np.linspace(lowest, highest, MEL_BANDS + 2)
    bins = _mel(np.fft.rfftfreq(length, 1 / sample_rate_hz))
    low, centre, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    rising, falling = (bins - low) / (centre - low), (high - bins) / (high - centre)
    return np.asarray(np.clip(np.minimum(rising, falling), 0, None), np.float64)


def _mel(hz: NDArray[np.floating]) -> NDArray[np.float64]:
    return np.asarray(2595 * np.log10(1 + hz / 700), np.float64)
