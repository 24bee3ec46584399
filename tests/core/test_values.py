"""Units, costs, seeds and errors."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cofit.core import (
    Basis,
    CofitError,
    ConfigError,
    Cost,
    CostRow,
    MissingDependencyError,
    UnknownNameError,
    derive_seed,
    errors,
    format_quantity,
    numpy_generator,
    parse_quantity,
    torch_generator,
)


@pytest.mark.parametrize(
    ("text", "dimension", "value"),
    [
        ("20ms", "time", 0.02), ("1.5 s", "time", 1.5), ("3µs", "time", 3e-6),
        ("7ns", "time", 7e-9),
        ("256KB", "bytes", 256_000), ("256KiB", "bytes", 262_144), (".5MB", "bytes", 5e5),
        ("1e3 B", "bytes", 1000), ("2mJ", "energy", 2e-3), ("9pJ", "energy", 9e-12),
        ("1.5%", "fraction", 0.015), ("0.015", "fraction", 0.015),
    ],
)  # fmt: skip
def test_quantities_are_read_in_si(text: str, dimension: str, value: float) -> None:
    assert parse_quantity(text, dimension) == pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize(
    ("text", "dimension"),
    [("20", "time"), ("20KB", "time"), ("-1ms", "time"), ("nan s", "time"), ("ms", "time"),
     ("1e999s", "time"), ("20 kb", "bytes"), ("1 2ms", "time"), ("", "fraction")],
)  # fmt: skip
def test_other_texts_are_refused_with_the_text_in_the_message(text: str, dimension: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_quantity(text, dimension)
    assert repr(text) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("value", "dimension", "text"),
    [
        (0.0204, "time", "20.4 ms"), (0, "time", "0 s"), (2e-9, "time", "2 ns"),
        (999, "bytes", "999 B"), (1000, "bytes", "1.00 KB"), (2_500_000, "bytes", "2.50 MB"),
        (0.0125, "fraction", "1.25 %"), (3e-6, "energy", "3 µJ"), (None, "time", "–"),
    ],
)  # fmt: skip
def test_quantities_are_printed_for_people(value: float | None, dimension: str, text: str) -> None:
    assert format_quantity(value, dimension) == text


@given(st.floats(1e-11, 1e5), st.sampled_from(["time", "energy"]))
def test_printing_keeps_three_digits(value: float, dimension: str) -> None:
    assert parse_quantity(format_quantity(value, dimension), dimension) == pytest.approx(
        value, rel=5.1e-3
    )


def test_totals_are_sums_except_memory_which_is_the_peak() -> None:
    rows = (
        CostRow("a", "conv2d", 1.0, 10, 30, Basis.MEASURED, macs=5, energy_j=2.0),
        CostRow("b", "linear", 0.5, 20, 40, Basis.MODELLED, macs=7, instructions=9),
        CostRow("(runtime)", "", 0.0, 100, 0, Basis.MEASURED),
    )
    cost = Cost("host", rows)
    assert (cost.latency_s, cost.flash_bytes, cost.ram_bytes, cost.macs) == (1.5, 130, 40, 12)
    assert (cost.energy_j, cost.instructions) == (2.0, 9)
    assert cost.totals() == {"latency": 1.5, "flash": 130, "ram": 40, "energy": 2.0}
    empty = Cost("host", ())
    assert empty.totals() == {"latency": 0, "flash": 0, "ram": 0, "energy": None}
    assert empty.instructions is None


def test_seeds_depend_on_every_name_and_on_nothing_else() -> None:
    seeds = {
        derive_seed(*key)
        for key in [(0,), (1,), (0, "a"), (0, "a", "b"), (0, "b", "a"), (0, "ab"), (0, "a", 1)]
    }
    assert len(seeds) == 7 and all(0 <= seed < 2**63 for seed in seeds)
    code = "from cofit.core import derive_seed; print(derive_seed(3, 'x', 4))"
    fresh = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True,
        env={"PYTHONHASHSEED": "77", "PYTHONPATH": ":".join(sys.path)},
    )  # fmt: skip
    assert int(fresh.stdout) == derive_seed(3, "x", 4)


def test_generators_repeat_and_leave_the_global_ones_alone() -> None:
    before = torch.get_rng_state()
    draws = [torch.rand(3, generator=torch_generator(1, "w")) for _ in range(2)]
    assert torch.equal(*draws) and torch.equal(torch.get_rng_state(), before)
    assert not torch.equal(draws[0], torch.rand(3, generator=torch_generator(1, "v")))
    arrays = [numpy_generator(1, "w").random(3) for _ in range(2)]
    assert np.array_equal(*arrays)


def test_every_error_is_ours_and_a_builtin_that_one_would_catch() -> None:
    classes = [
        c for c in vars(errors).values() if isinstance(c, type) and c.__module__ == errors.__name__
    ]
    assert len(classes) >= 15
    for each in classes:
        assert issubclass(each, CofitError)
        builtin = {c for c in each.__mro__ if c.__module__ == "builtins"}
        assert each is CofitError or builtin - {object, BaseException, Exception}, each


def test_unknown_names_are_answered_with_the_nearest() -> None:
    error = UnknownNameError("target", "cortex-m5", ["host", "cortex-m7", "cortex-m4"])
    assert str(error).startswith("unknown target 'cortex-m5' (did you mean 'cortex-m")
    assert str(error).endswith("'?); known: cortex-m4, cortex-m7, host")
    assert str(UnknownNameError("target", "zzz", [])) == "unknown target 'zzz'; known: none"


def test_a_missing_package_names_the_extra() -> None:
    error = MissingDependencyError("onnxruntime", "peers", "comparing with ONNX Runtime")
    assert isinstance(error, ImportError) and "pip install 'cofit[peers]'" in str(error)
