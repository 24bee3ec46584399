"""Numbers as people read them."""

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cofit.report.numbers import (
    Scale,
    count,
    duration,
    error,
    glued,
    points,
    ratio,
    signed_percent,
    ticks,
)


def test_ratio_points_and_errors() -> None:
    assert ratio(0.0214, 0.00987) == "2.17×"
    assert ratio(1.0, 2.0) == "0.50×"
    assert ratio(1234.0, 1.0) == "1,234×"
    assert ratio(1.0, 0.0) == ratio(0.0, 1.0) == ratio(None, 1.0) == "–"
    assert points(-0.0056) == "−0.56 points"
    assert points(0.0123) == "+1.23 points"
    assert points(-0.000001) == "±0.00 points"
    assert signed_percent(error(0.9, 1.0)) == "−10.0 %"
    assert signed_percent(error(1.1, 1.0)) == "+10.0 %"
    assert signed_percent(error(1.0001, 1.0)) == "0.0 %"
    assert signed_percent(error(1.0, 0.0)) == "–"
    assert count(1234567) == "1,234,567"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.2, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min 0 s"),
        (652.8, "10 min 53 s"),
        (7500, "2 h 5 min"),
    ],
)
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_one_unit_for_a_column() -> None:
    scale = Scale.of([0.0002, 0.00224], "time")
    assert (scale.unit, scale.text(0.0002), scale.text(0.00224)) == ("ms", "0.200", "2.240")
    bytes_ = Scale.of([490, 12], "bytes")
    assert (bytes_.unit, bytes_.text(490)) == ("B", "490")
    assert Scale.of([], "time").text(0.0) == "0.000"
    assert Scale.of([0.5], "time").text(-1e-7) == Scale.of([0.5], "time").text(0.0)


@given(st.floats(1e-8, 1e4), st.floats(0, 1))
def test_a_scale_keeps_the_largest_value_to_four_digits(largest: float, share: float) -> None:
    scale = Scale.of([largest, share * largest], "time")
    shown = float(scale.text(largest).replace(",", "")) * scale.size
    assert math.isclose(shown, largest, rel_tol=1e-3)


def test_units_stay_with_their_number() -> None:
    assert glued("took 3.7 ms and 24 KB of 98 %") == "took 3.7\u00a0ms and 24\u00a0KB of 98\u00a0%"
    assert glued("2 small and 3 Beds") == "2 small and 3 Beds"


@given(st.floats(-1e3, 1e3), st.floats(1e-6, 1e6), st.integers(2, 12))
def test_ticks_are_even_inside_and_few(low: float, width: float, most: int) -> None:
    high = low + width
    found = ticks(low, high, most)
    slack = 1e-6 * max(abs(low), abs(high), 1)
    assert 1 <= len(found) <= most
    assert all(low - slack <= value <= high + slack for value in found)
    steps = [b - a for a, b in pairwise(found)]
    assert all(step > 0 and math.isclose(step, steps[0], rel_tol=1e-3) for step in steps)


def test_ticks_of_nothing() -> None:
    assert ticks(0.0, 0.0, 5) == [0.0]
    assert ticks(0.0, 2.3, 5) == [0.0, 0.5, 1.0, 1.5, 2.0]
