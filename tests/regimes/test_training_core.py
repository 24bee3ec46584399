"""Acceptance of the training core, check by check; `regimes.testing` holds the public part."""

import copy
import inspect
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from regime_nets import ZOO, conv_net, dropout_net, task, weight_names
from torch.utils.flop_counter import FlopCounterMode

from cofit.core import ConfigError
from cofit.regimes import (
    ADMM,
    QAT,
    Batches,
    Checkpoint,
    Context,
    Distillation,
    Gradual,
    GroupLasso,
    Handle,
    Masked,
    PruneInTraining,
    RandomCrop,
    RandomFlip,
    Recipe,
    Regime,
    RegimeStack,
    Role,
    Slot,
    Trace,
    fit,
    testing,
    train,
    training_macs,
)
from cofit.structures import Channel, Unstructured, family


def sparse(make, rate=2.0):
    """The same network with the smaller weights at zero."""

    def build():
        model = make()
        with torch.no_grad():
            for name in weight_names(model):
                weight = model.get_parameter(name)
                weight.copy_(Unstructured(rate).project(weight))
        return model

    return build


GOAL = (family("unstructured"), 4.0)


def admm(model):
    names = weight_names(model)
    return ADMM(
        {name: (Channel(2.0), Unstructured(3.0)) for name in names}, stage_epochs=1, rho=1e-2
    )


def gradual(model):
    return Gradual({name: GOAL for name in weight_names(model)}, updates=3)


def group_lasso(model):
    weights = {name: model.get_parameter(name).detach() for name in weight_names(model)}
    return GroupLasso({n: (w.abs() < w.abs().median(),) for n, w in weights.items()}, 0.05)


def in_training(model):
    names = weight_names(model)
    sets = dict.fromkeys(names, (Unstructured(3.0),))
    return PruneInTraining(names, lambda found: sets, lasso_epoch=1, mask_epoch=2, batches=1)


REGIMES = {
    "none": lambda model: Regime(),
    "admm": admm,
    "masked": lambda model: Masked(weight_names(model)),
    "gradual": gradual,
    "group lasso": group_lasso,
    "in training": in_training,
    "distillation": lambda model: Distillation(conv_net()),
    "stack": lambda model: RegimeStack([Distillation(conv_net()), admm(model), gradual(model)]),
}


def case(zoo, regime):
    inputs, targets = task(16)
    return testing.Case(sparse(ZOO[zoo]), REGIMES[regime], inputs, targets)


@pytest.mark.parametrize("regime", REGIMES)
@pytest.mark.parametrize("zoo", ZOO)
def test_01_attach_then_remove_changes_nothing(zoo, regime):
    testing.check_detach_restores(case(zoo, regime))


class Bare(Regime):
    """Changes the network and forgets to undo it: what check 01 must find."""

    def attach(self, model, sample):
        model[0].weight.data.mul_(1 + 1e-6)
        return Handle()


def test_01_finds_a_regime_that_does_not_restore():
    with pytest.raises(AssertionError, match="changed the model"):
        testing.check_detach_restores(testing.Case(conv_net, lambda model: Bare(), *task(8)))


def loop(model, regime, steps, inputs, targets):
    """The bare loop of the contract; without a regime where it is None."""
    optimiser = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    for step in range(steps):
        if regime is not None:
            regime.before_step(step, steps)
        outputs = model(inputs)
        parts = {"task": F.cross_entropy(outputs, targets)}
        if regime is not None:
            parts |= regime.loss(Context(step, inputs, targets, outputs))
        optimiser.zero_grad()
        sum(parts.values()).backward()
        if regime is not None:
            regime.after_backward()
        optimiser.step()
        if regime is not None:
            regime.after_step()
    return model.state_dict()


def test_02_an_empty_stack_is_the_bare_loop_for_50_steps():
    inputs, targets = task(16)
    results = []
    for regime in (None, RegimeStack([])):
        torch.manual_seed(3)  # dropout draws from it
        model = dropout_net()
        if regime is not None:
            regime.attach(model, inputs)
        results.append(loop(model, regime, 50, inputs, targets))
    assert all(torch.equal(results[0][name], results[1][name]) for name in results[0])
    assert not torch.equal(results[0]["1.weight"], dropout_net().state_dict()["1.weight"])


class At(Regime):
    """Claims one slot and writes down when it is called."""

    def __init__(self, label, name, role, diary=None):
        self._label, self._slot = label, Slot(name, role)
        self._diary = [] if diary is None else diary

    @property
    def name(self):
        return self._label

    def slots(self):
        return frozenset({self._slot})

    def attach(self, model, sample):
        self._diary.append(("attach", self._label))
        return Handle(lambda: self._diary.append(("remove", self._label)))

    def loss(self, context):
        return {"term": torch.zeros(())}

    def finalize(self, model):
        self._diary.append(("finalize", self._label))
        return model


@pytest.mark.parametrize("first", Role)
@pytest.mark.parametrize("second", Role)
def test_03_conflicts_and_wrong_order_name_both_regimes_and_the_slot(first, second):
    pair = [At("early", "layer.3", first), At("late", "layer.3", second)]
    if first < second:
        RegimeStack(pair)
        return
    with pytest.raises(ConfigError) as error:
        RegimeStack(pair)
    assert all(word in str(error.value) for word in ("'early'", "'late'", "'layer.3'"))


def test_03_real_regimes_conflict_only_where_they_meet():
    with pytest.raises(ConfigError, match=r"'masked' and 'gradual' both mask 'a\.weight'"):
        RegimeStack([Masked(["a.weight"]), Gradual({"a.weight": GOAL})])
    with pytest.raises(ConfigError, match="put 'admm' first"):
        RegimeStack([Masked(["a.weight"]), ADMM({"a.weight": (Unstructured(2.0),)})])
    RegimeStack([Masked(["a.weight"]), Masked(["b.weight"])])


def test_03_stack_keeps_order_and_loss_names_and_detaches_backwards():
    diary = []
    stack = RegimeStack([At(n, n, Role.MASK, diary) for n in ("one", "two")])
    handle = stack.attach(conv_net(), torch.zeros(1))
    assert list(stack.loss(None)) == ["one.term", "two.term"]
    stack.finalize(conv_net())
    handle.remove()
    verbs = ["attach", "attach", "finalize", "finalize", "remove", "remove"]
    names = ["one", "two", "one", "two", "two", "one"]
    assert diary == list(zip(verbs, names, strict=True))


def test_03_a_refused_member_detaches_the_others():
    diary = []

    class Refuses(Regime):
        def attach(self, model, sample):
            raise ConfigError("no")

    stack = RegimeStack([At("one", "a", Role.MASK, diary), Refuses()])
    with pytest.raises(ConfigError):
        stack.attach(conv_net(), torch.zeros(1))
    assert diary == [("attach", "one"), ("remove", "one")]


@pytest.mark.parametrize("regime", REGIMES)
def test_04_resume_through_a_file_is_exact(regime):
    testing.check_resume(case("conv", regime))


class Killed(BaseException):
    pass


def run(model, path=None, stop=None, regime="stack", recipe=None):
    inputs, targets = task(40)
    data = Batches(inputs, targets, 8, seed=2, augment=(RandomCrop(1), RandomFlip()))

    def progress(stage, done, total):
        assert (stage, total) == ("train", 15)
        if done == stop:
            raise Killed

    checkpoint = None if path is None else Checkpoint(path, every=2)
    return fit(
        model,
        data,
        recipe or Recipe(3, 0.05),
        REGIMES[regime](model),
        checkpoint=checkpoint,
        progress=progress,
    )


@pytest.mark.parametrize("make", [conv_net, dropout_net])
@pytest.mark.parametrize("optimiser", ["sgd", "adam"])
def test_04_fit_killed_at_any_step_resumes_bit_for_bit(tmp_path, make, optimiser):
    recipe = Recipe(3, 0.05 if optimiser == "sgd" else 0.01, optimiser)
    whole, ledger = run(make(), recipe=recipe)
    for stop in (1, 5, 6, 10, 14):
        path = tmp_path / f"{stop}.safetensors"
        with pytest.raises(Killed):
            run(make(), path, stop, recipe=recipe)
        resumed, again = run(make(), path, recipe=recipe)
        for name, value in whole.state_dict().items():
            assert torch.equal(value, resumed.state_dict()[name]), (stop, name)
        assert again == ledger


def test_04_a_checkpoint_of_other_settings_is_refused(tmp_path):
    path = tmp_path / "state"
    run(conv_net(), path)
    with pytest.raises(ConfigError, match="same settings"):
        run(conv_net(), path, recipe=Recipe(3, 0.01))


def test_06_tracer_agrees_with_the_flop_counter_on_dense_networks():
    inputs, targets = task(4)
    for make in ZOO.values():
        model = make()
        with FlopCounterMode(display=False) as counter:
            F.cross_entropy(model(inputs), targets).backward()
        with Trace(model) as trace:
            F.cross_entropy(model(inputs), targets).backward()
        # the counter takes the weight gradient of a grouped convolution for that of a dense one
        grouped = sum(7 * t.macs for t in trace.layers if t.name == "deep.weight")
        assert 2 * (trace.macs + grouped) == counter.get_total_flops()
        eval_macs = training_macs(model, inputs)
        assert eval_macs * len(inputs) == trace.macs
        names = {layer.name for layer in trace.layers}
        assert names == set(weight_names(model))


def test_06_tracer_counts_the_zeros_of_operands_really_used():
    inputs, targets = task(4)
    model = sparse(conv_net, 4.0)()
    masks = {}

    def prune(module, gradients):
        masks["g"] = (
            torch.rand(gradients[0].shape, generator=torch.Generator().manual_seed(0)) < 0.3
        )
        return (gradients[0] * masks["g"],)

    model[3].register_full_backward_pre_hook(prune)
    with Trace(model) as trace:
        F.cross_entropy(model(inputs), targets).backward()
    first, second, head = trace.layers
    weight = model[3].weight
    nonzeros = int((weight != 0).sum())
    assert second.weight.nonzeros == nonzeros == weight.numel() // 4
    positions = 4 * 4 * 4  # batch, output height and width
    assert second.kept_forward == nonzeros * positions
    relu = torch.relu(copy.deepcopy(model[:2])(inputs))
    assert abs(second.input.density - float((relu != 0).float().mean())) < 0.02
    assert second.gradient.nonzeros <= int(masks["g"].sum())
    assert second.kept_weight_gradient == second.gradient.nonzeros * 8 * 3 * 3
    assert second.kept_input_gradient == second.kept_weight_gradient
    assert first.macs_input_gradient == 0 < first.macs_weight_gradient
    assert head.gradient.density == 1.0


def test_06_tracing_leaves_the_network_alone():
    model = conv_net().train()
    before = copy.deepcopy(model.state_dict())
    training_macs(model, task(1)[0])
    assert all(torch.equal(before[n], v) for n, v in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters()) and model[1].training


@pytest.mark.parametrize("regime", REGIMES)
def test_07_no_regime_reads_the_global_generator(regime):
    testing.check_global_generator(case("conv", regime))


def test_07_fit_leaves_the_global_generator_as_it_was():
    before = torch.get_rng_state()
    run(dropout_net())
    assert torch.equal(before, torch.get_rng_state())


def test_08_fit_is_short_and_names_no_system():
    source = inspect.getsource(train)
    assert len(inspect.getsource(fit).splitlines()) < 80
    names = [cls.__name__.lower() for cls in (ADMM, Masked, Gradual, Distillation, QAT)]
    assert not [name for name in names if name in source.lower()]
    assert "isinstance" not in source


def test_08_regimes_run_under_fabric():
    fabric_module = pytest.importorskip(
        "lightning.fabric", reason="Lightning Fabric is an optional check and is not installed"
    )
    fabric = fabric_module.Fabric(accelerator="cpu", devices=1)
    inputs, targets = task(16)
    model = conv_net()
    regime = REGIMES["stack"](model)
    regime.attach(model, inputs)
    optimiser = torch.optim.SGD(model.parameters(), 0.05)
    model, optimiser = fabric.setup(model, optimiser)
    for step in range(3):
        regime.before_step(step, 3)
        outputs = model(inputs)
        parts = regime.loss(Context(step, inputs, targets, outputs))
        fabric.backward(F.cross_entropy(outputs, targets) + sum(parts.values()))
        regime.after_backward()
        optimiser.step()
        regime.after_step()


def test_09_import_needs_no_optional_dependency():
    optional = ["lightning", "torchao", "onnxruntime", "openvino", "torchvision", "highspy"]
    blocked = "; ".join(f"sys.modules[{name!r}] = None" for name in optional)
    code = f"import sys; {blocked}; import cofit.regimes, cofit.regimes.testing"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("regime", REGIMES)
def test_losses_are_named_scalars_and_finalize_is_plain(regime):
    testing.check_losses(case("conv", regime))
    testing.check_finalize_is_plain(case("conv", regime))
