"""Trained graphs lie in their structures, and in no others."""

import numpy as np
import pytest
import torch
from fit_cases import graph_of, tiny
from torch import nn

from cofit.data import Dataset, Split
from cofit.fit import make_subject
from cofit.fit.precision import Lowering, accuracy, reference_scores
from cofit.fit.progress import silent
from cofit.fit.training import DIVERGENCES, RATES, Trainer, scores_only, suited_rate
from cofit.ir import calibrate, quantise, trace
from cofit.models import Normalise
from cofit.structures import parse


class Net(nn.Module):
    def __init__(self, softmax=False):
        super().__init__()
        self.one = nn.Conv2d(3, 8, 3, padding=1)
        self.two = nn.Conv2d(8, 8, 3, padding=1)
        self.head = nn.Linear(8, 4)
        self.end = nn.Softmax(1) if softmax else nn.Identity()

    def forward(self, x):
        x = torch.relu(self.two(torch.relu(self.one(x))))
        return self.end(self.head(x.mean((2, 3))))


def split(count, seed):
    """Images whose class (of 4) is the bright channel, or that none is."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, 3, 6, 6, generator=generator) * 0.5
    y = torch.arange(count) % 4
    for i, c in enumerate(y.tolist()):
        if c < 3:
            x[i, c] += 1.0
    return Split(x, y)


DATA = Dataset(
    name="bright", train=split(256, 0), validation=split(64, 1), test=split(64, 2),
    classes=("a", "b", "c", "d"),
)  # fmt: skip


def trainer(folder, softmax=False, **changed):
    config = tiny(folder, epochs=4, batch_size=32, **changed)
    subject = make_subject("net", Net(softmax), DATA, Normalise(), untrained=False)
    return Trainer(subject, config, folder, silent)


def weight(graph, name):
    return torch.from_numpy(graph.tensors[name].data)


def test_weights_end_in_their_structures_and_learn(tmp_path):
    graph = graph_of(Net(), 3, 6, 6)
    structures = {"two.weight": parse("block2x4@2"), "head.weight": parse("block1x4@2")}
    found = trainer(tmp_path).into_structures(graph, graph, structures, "round0")
    for name, structure in structures.items():
        assert structure.check(weight(found, name)) is None
        assert found.tensors[name].structure == structure.text
        assert bool((weight(found, name) == 0).any())
    assert found.tensors["one.weight"].structure is None
    assert bool((weight(found, "one.weight") != 0).all())
    assert not list(tmp_path.glob("*.ckpt"))  # finished trainings leave no checkpoint


@pytest.mark.parametrize(
    "texts",
    [
        {"two.weight": "polarised8", "head.weight": "polarised4+int8"},
        {"two.weight": "complementary"},
    ],
    ids=["signs", "pairs"],
)
def test_structures_of_values_survive_training_and_folding(texts, tmp_path):
    graph = graph_of(Net(), 3, 6, 6)
    structures = {name: parse(text) for name, text in texts.items()}
    found = trainer(tmp_path).into_structures(graph, graph, structures, "round0")
    for name, structure in structures.items():
        values = weight(found, name)
        violation = parse(structure.text.removesuffix("+int8")).check(values)
        assert violation is None and found.tensors[name].structure == structure.text
        assert bool((values < 0).any() and (values > 0).any())
        assert not torch.equal(values, weight(graph, name))
    again = trainer(tmp_path).through_rounding(found, calibrated(found), graph, "round0")
    for name, structure in structures.items():
        kept = parse(structure.text.removesuffix("+int8"))
        assert kept.check(weight(again, name)) is None


def calibrated(graph):
    return quantise(graph, calibrate(graph, [DATA.train.inputs[:32]]))


def test_unified_weights_are_unified_after_all_training(tmp_path):
    graph = graph_of(Net(), 3, 6, 6)
    structures = {"two.weight": parse("unify1x8u0.75@1.25"), "head.weight": parse("block1x4@2")}
    maker = trainer(tmp_path)
    found = maker.into_structures(graph, graph, structures, "round0")
    integer = Lowering("int8", DATA.train.inputs[:64]).lower(found)
    tuned = maker.through_rounding(found, integer, graph, "round0")
    for trained in (found, tuned):
        for name, structure in structures.items():
            assert structure.check(weight(trained, name)) is None
            assert trained.tensors[name].structure == structure.text
    assert not torch.equal(weight(found, "two.weight"), weight(tuned, "two.weight"))
    assert structures["two.weight"].encode(integer.tensors["two.weight"].data).format == "unify"


def test_training_from_scratch_teaches_the_given_module(tmp_path):
    maker = trainer(tmp_path, pretrain_epochs=8)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        module = Net()
    graph = graph_of(Net(), 3, 6, 6)
    maker.from_scratch(module, graph)
    with torch.no_grad():
        right = module.eval()(DATA.validation.inputs).argmax(1) == DATA.validation.targets
    assert right.float().mean() > 0.9


def test_a_module_traces_alike_before_and_after_it_is_stored(tmp_path):
    """Training leaves weights in another memory order, on which kernels round differently."""
    maker = trainer(tmp_path)
    module = Net()
    maker.from_scratch(module, graph_of(Net(), 3, 6, 6))
    stored = Net()
    stored.load_state_dict({n: v.clone(memory_format=torch.contiguous_format)
                            for n, v in module.state_dict().items()})  # fmt: skip
    one, two = (trace(m.eval(), torch.zeros(1, 3, 6, 6), name="n") for m in (module, stored))
    for name, tensor in one.tensors.items():
        if tensor.data is not None:
            assert tensor.data.strides == two.tensors[name].data.strides
            assert np.array_equal(tensor.data, two.tensors[name].data)


def test_structures_of_an_earlier_round_are_given_up(tmp_path):
    maker = trainer(tmp_path)
    graph = graph_of(Net(), 3, 6, 6)
    first = maker.into_structures(graph, graph, {"two.weight": parse("block2x4@4")}, "round0")
    head = {"head.weight": parse("block1x4@2")}
    second = maker.into_structures(first, graph, head, "round1")
    assert second.tensors["two.weight"].structure is None
    assert second.tensors["head.weight"].structure == "block1x4@2"
    # what was removed may grow again, so it must no longer be called sparse
    assert parse("block2x4@4").check(weight(second, "two.weight")) is not None


def test_rounding_keeps_structures_and_changes_weights(tmp_path):
    maker = trainer(tmp_path)
    graph = graph_of(Net(), 3, 6, 6)
    found = maker.into_structures(graph, graph, {"two.weight": parse("block2x4@2")}, "round0")
    low = Lowering("int8", DATA.train.inputs).lower(found)
    tuned = maker.through_rounding(found, low, graph, "round0")
    assert parse("block2x4@2").check(weight(tuned, "two.weight")) is None
    assert tuned.tensors["two.weight"].structure == "block2x4@2"
    assert not np.array_equal(tuned.tensors["two.weight"].data, found.tensors["two.weight"].data)


def test_the_same_label_gives_the_same_weights_another_label_others(tmp_path):
    graph = graph_of(Net(), 3, 6, 6)
    structures = {"two.weight": parse("block2x4@2")}
    one, two, other = (
        trainer(tmp_path / run).into_structures(graph, graph, structures, label)
        for run, label in (("a", "round0"), ("b", "round0"), ("a", "round1"))
    )
    assert torch.equal(weight(one, "two.weight"), weight(two, "two.weight"))
    assert not torch.equal(weight(one, "two.weight"), weight(other, "two.weight"))


@pytest.mark.parametrize("softmax", [False, True])
def test_a_softmax_at_the_end_is_left_out_of_training_only(tmp_path, softmax):
    graph = graph_of(Net(softmax), 3, 6, 6)
    scores = scores_only(graph)
    assert (scores is graph) is not softmax
    assert scores.producer[scores.outputs[0]].kind == "linear"
    found = trainer(tmp_path, softmax, learning_rate=0.005).into_structures(
        graph, graph, {}, "round0"
    )
    assert [op.kind for op in found.ops] == [op.kind for op in graph.ops]
    before, after = (accuracy(reference_scores(g), DATA.validation) for g in (graph, found))
    assert after > before


def test_training_keeps_a_network_whose_channels_have_very_different_norms(tmp_path):
    """Folded normalisation leaves such channels; steps that suit one must not wreck another."""
    maker = trainer(tmp_path, pretrain_epochs=8)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        module = Net()
    maker.from_scratch(module, graph_of(Net(), 3, 6, 6))
    scale = torch.logspace(-2, 2, 8)
    with torch.no_grad():  # relu(s x) = s relu(x), so the network computes what it did
        module.one.weight.mul_(scale.reshape(-1, 1, 1, 1))
        module.one.bias.mul_(scale)
        module.two.weight.div_(scale.reshape(1, -1, 1, 1))
    graph = trace(module.eval(), torch.zeros(1, 3, 6, 6), name="case")
    found = maker.into_structures(graph, graph, {}, "round0")
    before, after = (accuracy(reference_scores(g), DATA.validation) for g in (graph, found))
    assert before > 0.9
    assert after >= before - 0.02


def test_the_further_a_network_is_from_the_dense_one_the_faster_it_learns():
    rates = [suited_rate(divergence) for divergence in (0.0, 1e-3, *DIVERGENCES, 10.0)]
    assert rates == pytest.approx([RATES[0]] * 3 + [RATES[1]] * 2)
    middle = suited_rate((DIVERGENCES[0] * DIVERGENCES[1]) ** 0.5)
    assert middle == pytest.approx((RATES[0] * RATES[1]) ** 0.5)
