"""Budgets: what they read, what they mean against a dense program, what they refuse."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cofit.core import Budget, BudgetError, Limit

DENSE = {"latency": 0.04, "flash": 1000.0, "ram": 500.0, "energy": None}


def test_absolute_and_relative_limits_resolve_to_si() -> None:
    budget = Budget.parse("latency<=20ms, flash <= 0.5x,ram≤1KiB, accuracy_drop<=1%")
    assert budget.limits == (
        Limit("latency", 0.02), Limit("flash", 0.5, relative=True), Limit("ram", 1024.0),
        Limit("accuracy_drop", 0.01),
    )  # fmt: skip
    expected = {"latency": 0.02, "flash": 500.0, "ram": 1024.0, "accuracy_drop": 0.01}
    assert budget.resolve(DENSE) == pytest.approx(expected)


@given(
    st.dictionaries(
        st.sampled_from(["latency", "flash", "ram", "energy"]),
        st.tuples(st.sampled_from([1, 2, 5, 20, 125, 400]), st.booleans()),
        min_size=1,
    )
)
def test_text_of_a_budget_reads_back(limits: dict[str, tuple[int, bool]]) -> None:
    units = {"latency": "ms", "flash": "KB", "ram": "B", "energy": "mJ"}
    text = ", ".join(f"{m}<={v}{'x' if r else units[m]}" for m, (v, r) in limits.items())
    budget = Budget.parse(text)
    assert Budget.parse(str(budget)).resolve(dict.fromkeys(units, 3.0)) == pytest.approx(
        budget.resolve(dict.fromkeys(units, 3.0))
    )


def test_no_accuracy_may_be_lost_but_some_time_must_be_allowed() -> None:
    assert Budget.parse("accuracy_drop<=0%").resolve({}) == {"accuracy_drop": 0.0}
    with pytest.raises(BudgetError, match="never be met"):
        Budget.parse("latency<=0ms")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "empty"),
        (" , ", "empty"),
        ("latency<20ms", r"latency<20ms.*latency<=20ms"),
        ("speed<=1ms", "'speed'.*latency, flash, ram, energy, accuracy_drop"),
        ("ram<=1KB, ram<=2KB", "'ram' twice"),
        ("latency<=20KB", "'KB'.*ms"),
        ("latency<=-3ms", "-3ms"),
        ("accuracy_drop<=0.5x", "absolute"),
        ("flash<=0x", "never be met"),
    ],
)
def test_what_cannot_be_read_is_shown(text: str, said: str) -> None:
    with pytest.raises(BudgetError, match=said) as caught:
        Budget.parse(text)
    assert "\n" not in str(caught.value)


def test_a_target_without_the_quantity_says_what_it_has() -> None:
    with pytest.raises(BudgetError, match="no energy; it states: latency, flash, ram"):
        Budget.parse("energy<=0.5x").resolve(DENSE)
