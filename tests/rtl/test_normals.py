"""The generator's numbers: period of its polynomial, moments, and what clipping does to them."""

import pytest

from cofit.rtl import Engine, normals


def test_stream_is_the_recurrence() -> None:
    """Against a shift register moved bit by bit."""
    seeds = Engine(True, lanes=3).seeds()
    for lane, found in zip(seeds, normals(seeds, 40, 6), strict=True):
        bits = lane.tolist()
        while len(bits) < 40 * 96:
            bits.append(bits[-97] ^ bits[-91])
        for k, value in enumerate(found):
            part = bits[96 * k : 96 * (k + 1)]
            total = sum(bit << i % 8 for i, bit in enumerate(part))
            assert value == max(-128, min(127, (total - 1528) >> 2))


def multiply(a: int, b: int) -> int:
    """In GF(2)[x] modulo x^97 + x^6 + 1."""
    out = 0
    while b:
        if b & 1:
            out ^= a
        b >>= 1
        a <<= 1
        if a >> 97:
            a ^= 1 << 97 | 1 << 6 | 1
    return out


def power(exponent: int) -> int:
    out, base = 1, 2
    while exponent:
        if exponent & 1:
            out = multiply(out, base)
        base = multiply(base, base)
        exponent >>= 1
    return out


def test_polynomial_is_primitive() -> None:
    """The order of x is the whole group, so that every non-zero state is passed."""
    whole, factors = 2**97 - 1, (11447, 13842607235828485645766393)
    assert factors[0] * factors[1] == whole
    assert power(whole) == 1
    assert all(power(whole // factor) != 1 for factor in factors)


@pytest.mark.parametrize(("fraction", "deviation"), [(6, 0.959), (5, 1.0)])
def test_moments(fraction: int, deviation: float) -> None:
    """Clipped at two deviations a normal number has one of 0.959, at four of 1."""
    values = normals(Engine(True, lanes=16).seeds(), 20000, fraction) / 2.0**fraction
    count = values.size
    assert abs(values.mean()) < 4 / count**0.5 + 2.0 ** -(fraction + 1) * 0.1
    assert values.std() == pytest.approx(deviation, abs=0.005)
    for lag in (1, 2, 5):
        assert abs((values[:, lag:] * values[:, :-lag]).mean()) < 5 / count**0.5
    assert abs((values[0] * values[1]).mean()) < 5 / 20000**0.5
