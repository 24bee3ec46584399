import copy

import pytest
import torch
import torch.nn.functional as F
from regime_nets import conv_net, dropout_net, task

from cofit.core import ConfigError
from cofit.regimes import Context, Distillation


def term(regime, model, inputs, outputs):
    return regime.loss(Context(0, inputs, torch.zeros(len(inputs)), outputs))["kd"]


def test_term_is_the_closed_form_in_float32():
    inputs, _ = task(4)
    teacher = conv_net()
    outputs = torch.randn(4, 4, generator=torch.Generator().manual_seed(0), requires_grad=True)
    value = term(Distillation(teacher, 3.0, 0.5), None, inputs, outputs)
    p = torch.softmax(teacher.eval()(inputs).double() / 3, 1)
    q = torch.softmax(outputs.double() / 3, 1)
    expected = 0.5 * 9 * (p * (p.log() - q.log())).sum(1).mean()
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(expected.item(), rel=1e-5)
    (gradient,) = torch.autograd.grad(value, outputs)
    assert torch.allclose(gradient, (0.5 * 3 * (q - p) / 4).float(), atol=1e-6)
    half = term(Distillation(teacher), None, inputs, outputs.detach().half())
    assert half.dtype == torch.float32


def test_teacher_is_frozen_apart_and_in_eval_mode():
    inputs, _ = task(4)
    student = dropout_net().train()
    names = list(student.state_dict())
    regime = Distillation(student)
    regime.attach(student, inputs)
    assert list(student.state_dict()) == names
    wanted = copy.deepcopy(student).eval()(inputs)
    with torch.no_grad():
        for p in student.parameters():
            p.zero_()
    assert term(regime, student, inputs, wanted).item() == pytest.approx(0.0, abs=1e-6)
    value = term(regime, student, inputs, student(inputs))
    assert value > 1e-3
    value.backward()
    assert all(p.grad is not None for p in student[4].parameters())


def test_other_classes_are_refused():
    inputs, _ = task(4)
    with pytest.raises(ConfigError, match=r"\(4, 4\).*\(4, 5\)"):
        term(Distillation(conv_net()), None, inputs, torch.zeros(4, 5))
    with pytest.raises(ConfigError, match="temperature"):
        Distillation(conv_net(), temperature=0)


def test_a_student_learns_its_teacher():
    inputs, _ = task(16)
    teacher, student = conv_net(), dropout_net().eval()
    regime = Distillation(teacher, 2.0)
    optimiser = torch.optim.Adam(student.parameters(), 0.01)
    first = last = None
    for _ in range(60):
        optimiser.zero_grad()
        last = term(regime, student, inputs, student(inputs))
        first = float(last.detach()) if first is None else first
        last.backward()
        optimiser.step()
    assert float(last.detach()) < 0.2 * first
    agree = F.softmax(student(inputs), 1) - F.softmax(teacher.eval()(inputs), 1)
    assert agree.abs().max() < 0.2
