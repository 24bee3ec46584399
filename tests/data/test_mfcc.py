"""Speech features against closed forms and a slow transcription of the definition."""

import math

import numpy as np
import pytest

from cofit.data.mfcc import FLOOR, MEL_BANDS, mel_filters, mfcc

RATE_HZ = 8000


def slow_mfcc(clip):
    """One frame at a time, one band at a time, straight from the definition."""
    filters = mel_filters(RATE_HZ, 512)
    frames = []
    for start in range(0, len(clip) - 320 + 1, 160):
        window = [0.5 - 0.5 * math.cos(2 * math.pi * n / 320) for n in range(320)]
        spectrum = np.fft.fft(clip[start : start + 320] * np.array(window), 512)[:257]
        power = np.abs(spectrum) ** 2 / 320
        logs = [math.log(float(band @ power) + FLOOR) for band in filters]
        frames.append([
            math.sqrt((1 if k == 0 else 2) / MEL_BANDS)
            * sum(v * math.cos(math.pi * k * (m + 0.5) / MEL_BANDS) for m, v in enumerate(logs))
            for k in range(10)
        ])  # fmt: skip
    return np.array(frames)


def test_equals_the_definition():
    clips = np.random.default_rng(0).uniform(-1, 1, (2, 1600)).astype(np.float32)
    fast = mfcc(clips, RATE_HZ)
    assert fast.shape == (2, 1, 9, 10)
    for clip, features in zip(clips, fast, strict=True):
        np.testing.assert_allclose(features[0], slow_mfcc(clip), atol=2e-3)


def test_one_second_gives_49_frames_and_silence_is_the_floor():
    features = mfcc(np.zeros((1, RATE_HZ), np.float32), RATE_HZ)
    assert features.shape == (1, 1, 49, 10)
    np.testing.assert_allclose(features[..., 0], math.sqrt(MEL_BANDS) * math.log(FLOOR), rtol=1e-5)
    np.testing.assert_allclose(features[..., 1:], 0, atol=1e-4)


def test_louder_changes_the_first_coefficient_only():
    clip = np.random.default_rng(0).uniform(-0.1, 0.1, (1, RATE_HZ)).astype(np.float32)
    change = mfcc(10 * clip, RATE_HZ) - mfcc(clip, RATE_HZ)
    np.testing.assert_allclose(change[..., 0], math.sqrt(MEL_BANDS) * math.log(100), rtol=1e-2)
    assert np.abs(change[..., 1:]).max() < 0.5


@pytest.mark.parametrize("hz", [300, 1000, 3000])
def test_a_tone_peaks_in_the_band_around_it(hz):
    filters = mel_filters(RATE_HZ, 512)
    tone = np.sin(2 * np.pi * hz * np.arange(320) / RATE_HZ) * np.hanning(320)
    energies = filters @ (np.abs(np.fft.rfft(tone, 512)) ** 2)
    lowest, highest = (2595 * math.log10(1 + f / 700) for f in (20, RATE_HZ / 2))
    edges = 700 * (10 ** (np.linspace(lowest, highest, MEL_BANDS + 2) / 2595) - 1)
    peak = int(energies.argmax())
    assert edges[peak] - 32 < hz < edges[peak + 2] + 32
