"""Plans meet the limits as programs, not only as sums of prices, before training begins."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from fit_cases import cost, mlp, option, row, tiny

from cofit.core import InfeasibleError
from cofit.fit.planning import LayerPlan, Plan
from cofit.fit.precision import Lowering
from cofit.fit.proposal import MEASURED_SHARE, TRIALS, Base, Proposer, projected
from cofit.fit.rounds import ROOM
from cofit.fit.state import State

GRAPH = mlp(8, 8, 3)
LIMIT_S = 10e-3


@dataclass
class Hardware:
    """Plans that use what they may, and programs that take `factor` times what was planned."""

    factor: float
    least_s: float = 0.0
    most_s: float = 1.0
    planned_s: float = 0.0
    plans: int = 0
    measured: bool = False

    def plan(self, limits):
        self.plans += 1
        if limits["latency"] < self.least_s:
            raise InfeasibleError("latency cannot be that low")
        self.planned_s = min(limits["latency"], self.most_s)
        loss = 1.0 - self.planned_s / self.most_s
        return Plan((), {"latency": self.planned_s}, loss, loss)

    def cost_beside(self, graph, reference, known):
        return cost(row("all", self.planned_s * self.factor))


class Planned(Proposer):
    def _planner(self, base):
        return self.device


def proposer(hardware, folder):
    state = State(folder / "state", "key")
    state.begin()
    base = Base(Lowering("fp32", torch.zeros(1, 8)), cost(row("all", 20e-3)), 0.0)
    return Planned(
        GRAPH, torch.zeros(1, 8), [base], hardware, tiny(folder), state, lambda *step: None
    )


def propose(hardware, folder):
    return proposer(hardware, folder).propose("r", {"latency": LIMIT_S}, {"latency": 1.0})


@pytest.mark.parametrize("factor", [1.05, 1.6])
def test_a_program_slower_than_its_plan_is_planned_again_until_it_holds(factor, tmp_path):
    hardware = Hardware(factor)
    found = propose(hardware, tmp_path)
    took_s = found.plan.predicted["latency"] * factor
    assert ROOM * LIMIT_S <= took_s <= LIMIT_S
    assert hardware.plans == 2
    assert found.margins["latency"] == pytest.approx(found.plan.predicted["latency"] / LIMIT_S)


def test_a_program_faster_than_its_plan_gets_the_room(tmp_path):
    found = propose(Hardware(0.5), tmp_path)
    assert ROOM * LIMIT_S <= found.plan.predicted["latency"] * 0.5 <= LIMIT_S


def test_a_measured_latency_keeps_a_distance_from_its_limit(tmp_path):
    hardware = Hardware(1.0, measured=True)
    found = propose(hardware, tmp_path)
    assert ROOM * LIMIT_S <= found.plan.predicted["latency"] <= MEASURED_SHARE * LIMIT_S
    assert hardware.plans == 2


def test_a_plan_that_holds_is_taken_at_once(tmp_path):
    hardware = Hardware(0.95)
    propose(hardware, tmp_path)
    assert hardware.plans == 1


def test_nothing_is_given_back_to_a_plan_without_loss(tmp_path):
    hardware = Hardware(1.0, most_s=2e-3)
    assert propose(hardware, tmp_path).plan.loss == 0
    assert hardware.plans == 1


def test_what_cannot_hold_is_the_one_that_overruns_least(tmp_path):
    hardware = Hardware(3.0, least_s=LIMIT_S * 0.9)
    assert propose(hardware, tmp_path).plan.predicted["latency"] == LIMIT_S
    assert hardware.plans == 2


def test_no_plan_at_all_is_an_error(tmp_path):
    with pytest.raises(InfeasibleError):
        propose(Hardware(1.0, least_s=2 * LIMIT_S), tmp_path)


def test_trials_end(tmp_path):
    @dataclass
    class Stubborn(Hardware):
        def cost_beside(self, graph, reference, known):
            return cost(row("all", 2 * LIMIT_S))  # whatever is planned

    hardware = Stubborn(1.0)
    propose(hardware, tmp_path)
    assert hardware.plans == TRIALS


def test_a_killed_proposal_goes_on_from_what_is_stored(tmp_path):
    first = propose(Hardware(1.6), tmp_path)
    again = Hardware(1.6)
    assert propose(again, tmp_path) == first
    assert again.plans == 0


def test_projected_weights_are_in_their_structures_and_the_rest_untouched():
    op, weight = next(iter(GRAPH.weighted()))
    chosen = option("unstructured@4", 1.0, 1e-3)
    layer = LayerPlan(op.output, "", weight.name, weight.shape, chosen, chosen, 1, "")
    shaped = projected(GRAPH, Plan((layer,), {}, 0.0, 0.0))
    found = shaped.tensors[weight.name]
    assert found.structure == "unstructured@4"
    kept = found.data != 0
    assert kept.sum() == weight.data.size // 4
    np.testing.assert_array_equal(found.data[kept], weight.data[kept])
    others = [name for name in GRAPH.tensors if name != weight.name]
    assert all(shaped.tensors[name] is GRAPH.tensors[name] for name in others)
