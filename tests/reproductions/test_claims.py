"""A claim holds by its rule, on the mean and against the spread over seeds."""

import json
import math
import statistics

import pytest
from pydantic import ValidationError

from cofit.core import Basis
from cofit.reproductions.harness import (
    Claim,
    Rule,
    above_spread,
    at_least,
    at_most,
    below_spread,
    between,
    measured,
)


def claim(rule: Rule, *values: float) -> Claim:
    return Claim(
        claim="faster", published="2x [paper]", measured=measured(values, "x"), limit="<= 4",
        basis=Basis.MEASURED, rule=rule,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("rule", "values", "holds"),
    [
        (at_least(2), (2.0,), True),
        (at_least(2), (1.9,), False),
        (at_least(2), (1.0, 3.5), True),
        (at_most(2), (2.0,), True),
        (at_most(2), (2.1,), False),
        (between(1, 2), (1.0,), True),
        (between(1, 2), (2.5,), False),
        (between(1, 2), (0.5,), False),
        (above_spread(), (1.0, 1.2, 1.1), True),
        (above_spread(), (0.1, -0.2, 0.3), False),
        (above_spread(), (5.0,), False),
        (below_spread(), (-1.0, -1.2), True),
        (below_spread(), (-1.0, 0.9), False),
    ],
)
def test_rules(rule: Rule, values: tuple[float, ...], holds: bool) -> None:
    assert claim(rule, *values).holds is holds


def test_a_mean_that_exceeds_by_just_the_spread_does_not_hold() -> None:
    values = (0.0, 1.0, 2.0)  # a spread of exactly 1
    assert not claim(above_spread(0), *values).holds
    assert claim(above_spread(-0.001), *values).holds


def test_a_claim_that_does_not_hold_says_why() -> None:
    assert claim(at_least(2), 3.0).why_not == ""
    assert claim(at_least(2), 1.0).why_not == "the cause is not known"
    known = claim(at_least(2), 1.0).model_copy(update={"reason": "too narrow"})
    assert known.why_not == "too narrow"
    single = claim(above_spread(), 1.0).model_copy(update={"reason": "too narrow"})
    assert single.why_not == "one seed has no spread to exceed"


def test_mean_and_spread_are_those_of_statistics() -> None:
    found = measured([1.0, 2.0, 4.0], "%")
    assert found.mean == pytest.approx(statistics.fmean([1, 2, 4]))
    assert found.spread == pytest.approx(statistics.stdev([1, 2, 4]))
    assert measured(3, "x").spread is None
    assert measured([1.0, 3.0], "x").text == "2 ± 1.41 x"


def test_rules_in_words() -> None:
    rules = at_least(2), at_most(0.5), between(1, 2), above_spread(), below_spread(1)
    assert [rule.text for rule in rules] == [
        ">= 2", "<= 0.5", "1 to 2", "> 0 by more than the spread", "< 1 by more than the spread",
    ]  # fmt: skip


@pytest.mark.parametrize("values", [(), (math.nan,), (1.0, math.inf)])
def test_only_finite_values_are_taken(values: tuple[float, ...]) -> None:
    with pytest.raises(ValidationError, match="give finite ones"):
        measured(values, "x")


def test_json_states_the_decision_but_does_not_carry_it() -> None:
    document = claim(at_least(2), 1.0).model_dump(mode="json")
    assert document["holds"] is False
    forged = {**document, "holds": True}
    assert not Claim.model_validate(json.loads(json.dumps(forged))).holds
