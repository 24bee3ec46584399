"""Conformance checks that every regime must pass; call them with your own regime.

Each check takes a `Case` and raises AssertionError with a reason. For example, under pytest:

    @pytest.mark.parametrize("check", CHECKS)
    def test_mine(check): check(Case(make_model, lambda model: MyRegime(), inputs, targets))
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from cofit.regimes.checkpoint import load_checkpoint, save_checkpoint
from cofit.regimes.contract import Context, Regime

STEPS = 6


@dataclass(frozen=True)
class Case:
    """A regime and something to train it on.

    Attributes:
        model: makes the same network at each call.
        regime: makes a fresh regime for a model it is then attached to.
        inputs: (N, ...).
        targets: (N,), classes.
    """

    model: Callable[[], nn.Module]
    regime: Callable[[nn.Module], Regime]
    inputs: torch.Tensor
    targets: torch.Tensor


def check_detach_restores(case: Case) -> None:
    """Attach then remove leaves state dict, parameter order, outputs and gradients bit for bit."""
    touched = case.model()
    before = _behaviour(touched, case)
    handle = case.regime(touched).attach(touched, case.inputs)
    handle.remove()
    handle.remove()
    assert _same(before, _behaviour(touched, case)), "attach then remove changed the model"


def check_global_generator(case: Case) -> None:
    """A training with the regime draws nothing from the global generator."""
    model = _deterministic(case.model())
    with torch.random.fork_rng(devices=[]):
        before = torch.get_rng_state()
        _train(model, case.regime(model), case, 0, STEPS)
        assert torch.equal(before, torch.get_rng_state()), "the global generator was read"


def check_resume(case: Case) -> None:
    """Stopped after any step and resumed from a file, training ends bit for bit as if unstopped."""
    whole = _deterministic(case.model())
    _train(whole, case.regime(whole), case, 0, STEPS)
    with tempfile.TemporaryDirectory() as folder:
        for stop in range(1, STEPS):
            model = _deterministic(case.model())
            _train(model, case.regime(model), case, 0, stop, save=Path(folder) / "state")
            again = _deterministic(case.model())
            _train(again, case.regime(again), case, stop, STEPS, load=Path(folder) / "state")
            same = _same(dict(whole.state_dict()), dict(again.state_dict()))
            assert same, f"stopped at step {stop}, the resumed training ends elsewhere"


def check_losses(case: Case) -> None:
    """Loss terms are named finite float32 scalars."""
    model = case.model()
    regime = case.regime(model)
    regime.attach(model, case.inputs)
    regime.on_epoch(0)
    regime.before_step(0, STEPS)
    terms = regime.loss(Context(0, case.inputs, case.targets, model(case.inputs)))
    for name, value in terms.items():
        fine = value.dim() == 0 and value.dtype == torch.float32 and bool(value.isfinite())
        assert fine, f"loss term {name!r} is {value}"


def check_finalize_is_plain(case: Case) -> None:
    """The finalised model has the names of the bare one and runs without the regime."""
    model = _deterministic(case.model())
    names = list(model.state_dict())
    regime = case.regime(model)
    _train(model, regime, case, 0, STEPS)
    final = regime.finalize(model).eval()
    assert list(final.state_dict()) == names, "finalize left attachments in the state dict"
    twin = case.model().eval()
    twin.load_state_dict(final.state_dict())
    with torch.no_grad():
        same = torch.equal(final(case.inputs), twin(case.inputs))
    assert same, "the finalised model computes other than a plain model with its weights"


CHECKS: tuple[Callable[[Case], None], ...] = (
    check_detach_restores,
    check_global_generator,
    check_resume,
    check_losses,
    check_finalize_is_plain,
)


def _deterministic(model: nn.Module) -> nn.Module:
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return model.train()


def _train(
    model: nn.Module,
    regime: Regime,
    case: Case,
    first: int,
    stop: int,
    save: Path | None = None,
    load: Path | None = None,
) -> None:
    regime.attach(model, case.inputs)
    groups = [{"params": list(model.parameters())}, *regime.param_groups()]
    optimiser = torch.optim.SGD(groups, 0.05, momentum=0.9)
    if load is not None:
        state = load_checkpoint(load)
        model.load_state_dict(state["model"])
        optimiser.load_state_dict(state["optimiser"])
        regime.load_state_dict(state["regime"])
    for step in range(first, stop):
        if step % 2 == 0:
            regime.on_epoch(step // 2)
        regime.before_step(step, STEPS)
        outputs = model(case.inputs)
        context = Context(step, case.inputs, case.targets, outputs)
        parts = {"task": F.cross_entropy(outputs, case.targets), **regime.loss(context)}
        optimiser.zero_grad()
        torch.stack(list(parts.values())).sum().backward()
        regime.after_backward()
        optimiser.step()
        regime.after_step()
    if save is not None:
        save_checkpoint(
            save,
            {
                "model": dict(model.state_dict()),
                "optimiser": optimiser.state_dict(),
                "regime": regime.state_dict(),
            },
        )


def _behaviour(model: nn.Module, case: Case) -> dict[str, torch.Tensor]:
    """State, outputs and gradients of a copy, in the order the model lists its parameters."""
    found = {f"state {name}": value.clone() for name, value in model.state_dict().items()}
    copied = copy.deepcopy(model).eval()
    outputs = copied(case.inputs)
    F.cross_entropy(outputs, case.targets).backward()
    gradients = {f"gradient {n}": p.grad for n, p in copied.named_parameters()}
    return {
        **found,
        "outputs": outputs.detach(),
        **{n: g for n, g in gradients.items() if g is not None},
    }


def _same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> bool:
    return list(left) == list(right) and all(
        left[name].dtype == right[name].dtype and torch.equal(left[name], right[name])
        for name in left
    )
