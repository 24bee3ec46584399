"""Menus and plans against brute force."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from fit_cases import cost, mlp, option, row

from cofit.core import InfeasibleError, SharedCode, numpy_generator
from cofit.fit.planning import Menu, Plan, choose, scaled_option, shared_flash, undominated

GRAPH = mlp(4, 5, 6, 3)
NAMES = tuple(op.output for op, _ in GRAPH.weighted())
DENSE = cost(
    *(row(name, 10e-3, 1000, 200, 1e-3) for name in NAMES),
    row("relu", 2e-3, 30, 64, 2e-4),
    row("(runtime)", 1e-3, 500, 300, 1e-4),
)
FIXED = {"latency": 3e-3, "flash": 530, "energy": 3e-4}
RAM_REST = 100  # of the runtime's 300 bytes, beside the 200 alive while a layer runs


def beats(other, one):
    """As good in loss and in every cost."""
    return other.loss <= one.loss and all(
        other.costs[metric] <= value for metric, value in one.costs.items()
    )


def random_options(draw, count, energy=True):
    dense = option(None, 0.0, 10e-3, 1000, 200, 1e-3 if energy else None)
    return (
        dense,
        *(
            option(
                f"unstructured@{2 + i}",
                float(draw.integers(1, 6)),
                float(draw.integers(1, 12)) * 1e-3,
                int(draw.integers(1, 12)) * 100,
                int(draw.integers(1, 4)) * 100,
                float(draw.integers(1, 12)) * 1e-4 if energy else None,
            )
            for i in range(count)
        ),
    )


@pytest.mark.parametrize("seed", range(20))
def test_undominated_keeps_exactly_what_nothing_beats(seed):
    options = random_options(numpy_generator(seed, "undominated"), 8)
    kept = undominated(options)
    for one in options:
        if one in kept:
            assert not any(beats(other, one) for other in kept if other is not one)
        else:
            assert any(beats(other, one) for other in kept)


def test_undominated_keeps_one_of_equals():
    options = [option("unstructured@2", 1.0, 1.0, 5), option("unstructured@3", 1.0, 1.0, 5)]
    assert undominated(options) == options[:1]


def shares(one, *codes):
    """The option with code (name, bytes alone, bytes for many) that it calls."""
    return replace(one, shared=tuple(SharedCode(*code) for code in codes))


def test_undominated_keeps_what_calls_other_code():
    dear = shares(option("unstructured@2", 1.0, 1.0, 5), ("dear", 1, 1))
    costly = shares(option("unstructured@3", 2.0, 2.0, 6), ("cheap", 1, 1))
    calls_nothing = option("unstructured@4", 2.0, 2.0, 6)
    assert undominated([dear, costly]) == [dear, costly]
    assert undominated([dear, costly, calls_nothing]) == [dear, calls_nothing]


@pytest.mark.parametrize("seed", range(8))
def test_shared_code_is_charged_once_and_dense_code_given_back(seed):
    draw = numpy_generator(seed, "shared")
    size = {"dense": 400, "narrow": int(draw.integers(0, 900)), "block": int(draw.integers(0, 900))}
    options = {}
    for index, name in enumerate(NAMES):
        dense, *others = random_options(draw, 4)
        found = [shares(dense, ("dense", 10, 999), ("always", 10, 10))]
        for i, other in enumerate(others):
            code = ("dense", "narrow", "block", "block")[i]
            if index == 2 and code == "block":  # only layers 0 and 1 may call it
                code = "dense"
            found.append(shares(other, (code, size[code] // 2, size[code]), ("always", 10, 10)))
        options[name] = tuple(found)
    code = (SharedCode("dense", 400, 999), SharedCode("always", 10, 10))
    rows = [
        replace(r, shared=code if r.op in NAMES else code[1:] if r.op == "relu" else ())
        for r in DENSE.rows
    ]
    whole = cost(*[replace(r, flash_bytes=1500) if r.op == "(runtime)" else r for r in rows])
    totals = []
    for picks in itertools.product(*(options[name] for name in NAMES)):
        called = {c.function for pick in picks for c in pick.shared} - {"always"}
        # 1530 of other ops and the runtime, of which 400 leave with the last dense layer
        flash = 1130 + sum(p.flash_bytes for p in picks) + sum(size[name] for name in called)
        totals.append((flash, sum(p.loss for p in picks)))
    least = min(flash for flash, _ in totals)
    with pytest.raises(InfeasibleError, match="flash binds"):
        choose(GRAPH, Menu(options, {}), whole, {"flash": least - 1.0})
    for limit in (least, least * 1.2, 4531):
        plan = choose(GRAPH, Menu(options, {}), whole, {"flash": limit + 1e-3})
        assert plan.loss == min(loss for flash, loss in totals if flash <= limit)
        assert plan.predicted["flash"] <= limit + 1e-3
    assert plan.loss == 0 and plan.predicted["flash"] == 4530  # the dense program, exactly


def test_code_that_one_layer_can_call_is_fitted_to_it():
    dense = option(None, 0.0, 10e-3, 1000)
    light = option("unstructured@3", 1.0, 10e-3, 100)
    alone = shares(light, ("single", 70, 500), ("many", 50, 300))
    rows = [(dense, alone), (dense, shares(light, ("many", 60, 300))), (dense,)]
    assert shared_flash(rows, DENSE, NAMES) == {"single": 70, "many": 300}


def test_scaled_option_keeps_the_ratio_of_latency_and_the_difference_of_flash():
    alone_dense = row("sig", 4e-3, 900, 150)
    alone = row("sig", 1e-3, 300, 190)
    inside = row("conv", 6e-3, 1000, 400, 2e-6)
    found = scaled_option(alone, alone_dense, inside, "block2x4@4", 8, 0.25)
    assert found.latency_s == pytest.approx(1.5e-3)
    assert found.energy_j == pytest.approx(0.5e-6)
    assert found.flash_bytes == 400
    assert found.ram_bytes == 440  # 40 bytes of scratch more
    assert (found.structure, found.bits, found.loss) == ("block2x4@4", 8, 0.25)


def test_scaled_option_of_the_dense_layer_is_the_layer_in_the_network():
    alone, inside = row("sig", 4e-3, 900, 150), row("conv", 6e-3, 1000, 400, 2e-6)
    found = scaled_option(alone, alone, inside, None, 8, 0.0)
    assert (found.latency_s, found.flash_bytes, found.ram_bytes, found.energy_j) == (
        6e-3, 1000, 400, 2e-6,
    )  # fmt: skip


def test_scaled_option_without_energy_or_time():
    found = scaled_option(row("s", 0.0), row("s", 0.0), row("c", 0.0), None, 8, 0.0)
    assert (found.latency_s, found.energy_j) == (0.0, None)
    assert "energy" not in found.costs


def brute_force(menu, limits):
    """Least loss of all combinations within the limits; None if there is none."""
    best = None
    for picks in itertools.product(*(menu.options[name] for name in NAMES)):
        totals = {
            metric: FIXED[metric] + sum(pick.costs[metric] for pick in picks)
            for metric in limits
            if metric != "ram"
        }
        if any(totals[m] > limits[m] * (1 + 1e-9) for m in totals):
            continue
        if "ram" in limits and any(p.ram_bytes + RAM_REST > limits["ram"] for p in picks):
            continue
        loss = sum(pick.loss for pick in picks)
        best = loss if best is None else min(best, loss)
    return best


LIMITS = [
    {"latency": 20e-3},
    {"flash": 1500.0},
    {"latency": 15e-3, "flash": 2000.0},
    {"latency": 20e-3, "flash": 1800.0, "energy": 1.6e-3},
    {"latency": 18e-3, "ram": 300.0},
]


@pytest.mark.parametrize("limits", LIMITS, ids=lambda limits: "-".join(limits))
@pytest.mark.parametrize("seed", range(6))
def test_choose_equals_brute_force(limits, seed):
    draw = numpy_generator(seed, "choose")
    menu = Menu({name: random_options(draw, 4) for name in NAMES}, {})
    best = brute_force(menu, limits)
    if best is None:
        with pytest.raises(InfeasibleError):
            choose(GRAPH, menu, DENSE, limits)
        return
    plan = choose(GRAPH, menu, DENSE, limits)
    assert plan.loss == pytest.approx(best)
    assert plan.bound == pytest.approx(best) and plan.gap <= 1e-6
    chosen = [layer.chosen for layer in plan.layers]
    for metric in limits:
        if metric == "ram":
            assert max(c.ram_bytes for c in chosen) + RAM_REST <= limits["ram"]
            continue
        total = FIXED[metric] + sum(c.costs[metric] for c in chosen)
        assert total <= limits[metric] * (1 + 1e-9)
        assert plan.predicted[metric] == pytest.approx(total)


def test_ram_is_looked_at_before_dominance():
    # the option that wins by loss and time needs too much; the beaten one must still be there
    large = option("unstructured@2", 1.0, 5e-3, 500, 900)
    small = option("unstructured@3", 2.0, 5e-3, 500, 100)
    dense = option(None, 0.0, 10e-3, 1000, 200)
    menu = Menu({name: (dense, large, small) for name in NAMES}, {})
    plan = choose(GRAPH, menu, DENSE, {"latency": 18e-3 + 1e-9, "ram": 300.0})
    assert [layer.chosen for layer in plan.layers] == [small] * 3


@pytest.mark.parametrize(
    ("op", "alive", "least"),
    [(NAMES[1], 64, "300 B, of which 200 B"), ("relu", 250, "300 B, of which 250 B")],
)
def test_ram_out_of_reach_names_the_op_that_needs_most(op, alive, least):
    large = option("unstructured@2", 1.0, 5e-3, 500, 900)
    needs = dict(zip(NAMES, (100, 200, 150), strict=True))
    menu = Menu({n: (option(None, 0.0, 10e-3, 1000, needs[n]), large) for n in NAMES}, {})
    # while relu runs, no option helps; the dense program takes 300 bytes in all
    dense = cost(*(replace(r, ram_bytes=alive) if r.op == "relu" else r for r in DENSE.rows))
    text = f"ram binds: limit 299 B, reachable minimum {least} are alive in the arena while '{op}'"
    with pytest.raises(InfeasibleError, match=text):
        choose(GRAPH, menu, dense, {"latency": 1.0, "ram": 299.0})
    plan = choose(GRAPH, menu, dense, {"latency": 1.0, "ram": 300.0})
    assert plan.loss == 0


def test_an_option_with_less_scratch_meets_a_limit_that_dense_misses():
    dense, light = option(None, 0.0, 10e-3, 1000, 200), option(None, 1.0, 10e-3, 1000, 150, bits=4)
    menu = Menu(dict.fromkeys(NAMES, (dense, light)), {})
    assert choose(GRAPH, menu, DENSE, {"latency": 1.0, "ram": 250.0}).loss == 3
    small = scaled_option(row("s", 1.0, 0, 90), row("s", 1.0, 0, 120), row("c", 1.0, 0, 200),
                          "block2x4@4", 8, 0.0)  # fmt: skip
    assert small.ram_bytes == 170


def test_a_loose_limit_leaves_everything_dense_and_says_so():
    fast = option("unstructured@2", 1.0, 5e-3, 500)
    slow = option("unstructured@2", 1.0, 11e-3, 500)
    dense = option(None, 0.0, 10e-3, 1000)
    menu = Menu(
        dict(zip(NAMES, ((dense, fast), (dense, slow), (dense,)), strict=True)),
        {NAMES[2]: "block2x4: too narrow"},
    )
    plan = choose(GRAPH, menu, DENSE, {"latency": 1.0})
    assert plan.structures == {}
    assert [layer.note for layer in plan.layers] == [
        "the budget is met with less loss elsewhere",
        "nothing tried is faster than dense here",
        "block2x4: too narrow",
    ]
    assert [layer.considered for layer in plan.layers] == [2, 2, 1]


def test_plan_names_structures_by_weight_and_bits_by_op():
    dense = option(None, 0.0, 10e-3, 1000)
    sparse = option("unstructured@2", 1.0, 5e-3, 500)
    narrow = option(None, 0.5, 9e-3, 500, bits=4)
    menu = Menu(dict(zip(NAMES, ((dense, sparse), (dense, narrow), (dense,)), strict=True)), {})
    plan = choose(GRAPH, menu, DENSE, {"flash": 2600.0})
    assert {name: s.text for name, s in plan.structures.items()} == {"0.weight": "unstructured@2"}
    assert plan.weight_bits == {NAMES[0]: 8, NAMES[1]: 4, NAMES[2]: 8}
    assert [layer.note for layer in plan.layers][:2] == ["", ""]  # both were changed


def test_the_gap_is_of_the_whole_loss_when_removals_are_added():
    second = Plan((), {}, loss=1.0, bound=0.5)
    assert second.gap == 0.5
    whole = replace(second, loss=second.loss + 3.0, bound=second.bound + 3.0)
    assert whole.gap == pytest.approx(0.5 / 4.0)
    assert replace(whole, bound=whole.loss + 1e-9).gap == 0.0


@pytest.mark.parametrize(
    ("limits", "text"),
    [
        ({"flash": 600.0}, "flash binds: limit 600 B, reachable minimum 830 B"),
        ({"latency": 5e-3}, "latency binds: limit 5 ms, reachable minimum 9 ms"),
        ({"latency": 12e-3, "flash": 1300.0}, "with the other limits held"),
    ],
)
def test_infeasible_names_the_limit_and_what_can_be_reached(limits, text):
    dense = option(None, 0.0, 10e-3, 1000)
    quick = option("unstructured@2", 1.0, 2e-3, 1000)
    light = option("unstructured@3", 1.0, 10e-3, 100)
    menu = Menu(dict.fromkeys(NAMES, (dense, quick, light)), {})
    with pytest.raises(InfeasibleError, match=text):
        choose(GRAPH, menu, DENSE, limits)


def test_costs_of_other_ops_count():
    menu = Menu(dict.fromkeys(NAMES, (option(None, 0.0, 10e-3, 1000),)), {})
    assert choose(GRAPH, menu, DENSE, {"latency": 33e-3 + 1e-9}).loss == 0
    with pytest.raises(InfeasibleError):
        choose(GRAPH, menu, DENSE, {"latency": 32e-3})
    larger = replace(DENSE, rows=(*DENSE.rows, row("more", 1e-3)))
    with pytest.raises(InfeasibleError):
        choose(GRAPH, menu, larger, {"latency": 33e-3 + 1e-9})
    assert np.isclose(sum(r.latency_s for r in DENSE.rows), 33e-3)
