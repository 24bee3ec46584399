"""Exported programs: replayed exactly, and never a way to run somebody's code."""

import json
import pickle
import zipfile

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize

from cofit.core import ModelError
from cofit.ir import trace
from cofit.models import load_model


def save(tmp_path, module, shape, decompose=False, dynamic=False):
    path = tmp_path / "net.pt2"
    batch = {0: torch.export.Dim("batch", min=1, max=64)} if dynamic else None
    example = torch.zeros(2 if dynamic else 1, *shape)
    program = torch.export.export(
        module.eval(), (example,), dynamic_shapes=(batch,) if dynamic else None
    )
    torch.export.save(program.run_decompositions() if decompose else program, path)
    return path


class Reshapes(nn.Module):
    """Attention-like arithmetic: sizes, views, permutations, constants, chunks, concatenation."""

    def __init__(self):
        super().__init__()
        self.mix = nn.Linear(6, 6)
        self.tied = nn.Linear(6, 6)
        self.tied.weight = self.mix.weight
        self.register_buffer("offset", torch.arange(6.0))

    def forward(self, x):
        y = self.mix(x + self.offset).view(x.shape[0], 2, 3).permute(0, 2, 1).reshape(-1, 6)
        left, right = y.chunk(2, dim=1)
        return torch.cat([left * right, self.tied(y).clamp(-1, 1)], 1) + torch.tensor(0.5)


CASES = {
    "digits_resnet": (lambda: load_model("digits_resnet").module, (1, 8, 8)),
    "resnet20": (lambda: load_model("resnet20").module, (3, 32, 32)),
    "resnet8": (lambda: load_model("mlperf_tiny/resnet8").module, (3, 32, 32)),
    "reshapes": (Reshapes, (6,)),
}


@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")  # inside torch's decompositions
@pytest.mark.parametrize("decompose", [False, True], ids=["export", "core-aten"])
@pytest.mark.parametrize("name", CASES)
def test_replay_is_bit_exact(tmp_path, name, decompose):
    make, shape = CASES[name]
    module = make()
    loaded = load_model(str(save(tmp_path, module, shape, decompose)))
    assert loaded.input_shape == shape and not loaded.fresh
    x = torch.randn(1, *shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = module(x)
        if decompose:
            torch.testing.assert_close(loaded.module(x), expected, rtol=1e-4, atol=1e-5)
        else:
            assert torch.equal(loaded.module(x), expected)


@pytest.mark.parametrize("name", ["digits_resnet", "reshapes"])
def test_dynamic_batches(tmp_path, name):
    make, shape = CASES[name]
    module = make()
    loaded = load_model(str(save(tmp_path, module, shape, dynamic=True)))
    assert loaded.input_shape == shape
    x = torch.randn(5, *shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(loaded.module(x), module(x))


def test_names_survive_and_the_network_can_be_traced_trained_and_parametrised(tmp_path):
    module = load_model("digits_resnet").module
    replayed = load_model(str(save(tmp_path, module, (1, 8, 8)))).module
    assert set(replayed.state_dict()) == set(module.state_dict())
    assert [name for name, _ in replayed.named_parameters()] == [
        name for name, _ in module.named_parameters()
    ]
    x = torch.ones(1, 1, 8, 8)
    weights = {tensor.name for _, tensor in trace(module, x).weighted()}
    assert {tensor.name for _, tensor in trace(replayed, x).weighted()} == weights
    replayed(x).sum().backward()
    module(x).sum().backward()
    assert torch.equal(replayed.conv1.weight.grad, module.conv1.weight.grad)

    class Zero(nn.Module):
        def forward(self, weight):
            return 0 * weight

    parametrize.register_parametrization(replayed.linear, "weight", Zero())
    assert torch.equal(replayed(x)[0], replayed.linear.bias)


def test_tied_weights_stay_tied(tmp_path):
    replayed = load_model(str(save(tmp_path, Reshapes(), (6,)))).module
    assert replayed.tied.weight is replayed.mix.weight
    assert len(list(replayed.parameters())) == 3


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("program")
    return save(folder, load_model("digits_resnet").module, (1, 8, 8))


@pytest.fixture
def archive(saved, tmp_path):
    """Copy a saved program; change(name, blob) gives each record's new content."""

    def rewrite(change, extra=()):
        path = tmp_path / "net.pt2"
        with zipfile.ZipFile(saved) as source, zipfile.ZipFile(path, "w") as target:
            for name in source.namelist():
                target.writestr(name, change(name, source.read(name)))
            for name, blob in extra:
                target.writestr(f"net/{name}", blob)
        return str(path)

    return rewrite


def edit_json(ending, edit):
    def change(name, blob):
        if not name.endswith(ending):
            return blob
        value = json.loads(blob)
        edit(value)
        return json.dumps(value).encode()

    return change


def nodes(program):
    return program["graph_module"]["graph"]["nodes"]


class Bomb:
    def __reduce__(self):
        return (pytest.fail, ("a pickle was executed",))


def test_records_that_would_run_code_are_never_opened(archive, capfd):
    bomb = pickle.dumps(Bomb())
    text = "print('guard was executed')"

    def change(name, blob):
        blob = bomb if name.endswith("sample_inputs/model.pt") else blob
        return edit_json("model.json", lambda p: p.update(guards_code=[text]))(name, blob)

    extra = [("data/aotinductor/model/x.so", b"\x7fELF"), ("data/weights/model.pt", bomb)]
    extra += [("data/constants/opaque_obj_0", bomb)]
    module = load_model(archive(change, extra)).module
    module(torch.zeros(1, 1, 8, 8))
    assert "executed" not in capfd.readouterr().out


def test_shape_expressions_are_never_evaluated(archive):
    def edit(program):
        values = program["graph_module"]["graph"]["tensor_values"]
        expression = {"expr_str": "__import__('pytest').fail('run')", "hint": {"as_int": 8}}
        for value in values.values():
            value["sizes"] = [{"as_expr": expression} for _ in value["sizes"]]

    load_model(archive(edit_json("model.json", edit)))


@pytest.mark.parametrize(
    "target",
    ["torch.os.system", "_operator.attrgetter", "torch.hub.load", "torch.ops.aten.relu",
     "torch.ops.aten.nothing.default", "torch.ops.aten.__class__.mro", "torch.ops.aten.relu.name",
     "torch.ops.aten.from_file.default", "torch.ops.aten.randn.default",
     "torch.ops.aten._unsafe_index.Tensor", "torch.ops.prim.device.default", "#custom.op"],
)  # fmt: skip
def test_foreign_callees_are_refused(archive, target):
    path = archive(edit_json("model.json", lambda p: nodes(p)[3].update(target=target)))
    with pytest.raises(ModelError, match=r"cannot use .*operator") as caught:
        load_model(path)
    assert "\n" not in str(caught.value)


def test_pickled_weights_are_refused_unread(archive):
    def edit(config):
        config["config"]["linear.weight"]["use_pickle"] = True

    with pytest.raises(ModelError, match=r"'linear\.weight' is stored as a pickle"):
        load_model(archive(edit_json("weights_config.json", edit)))


def huge(config):
    config["config"]["linear.weight"]["tensor_meta"]["strides"][0] = {"as_int": 10**9}


def negative(config):
    config["config"]["linear.weight"]["tensor_meta"]["storage_offset"] = {"as_int": -4}


@pytest.mark.parametrize(("edit", "message"), [(huge, "needs .* bytes"), (negative, "a size of")])
def test_weights_outside_their_record_are_refused(archive, edit, message):
    with pytest.raises(ModelError, match=message):
        load_model(archive(edit_json("weights_config.json", edit)))


def test_nan_weights_are_named(tmp_path):
    module = load_model("digits_resnet").module
    module.linear.bias.data[2] = float("nan")
    with pytest.raises(ModelError, match=r"linear\.bias contains NaN"):
        load_model(str(save(tmp_path, module, (1, 8, 8))))


def swap_nodes(program):
    rows = nodes(program)
    rows[0], rows[4] = rows[4], rows[0]


def second_output(program):
    program["graph_module"]["graph"]["outputs"] *= 2


def unknown_argument(program):
    nodes(program)[0]["inputs"][0]["arg"] = {"as_operator": "torch.os.system"}


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (swap_nodes, "is used before it is computed"),
        (second_output, "1 inputs and 2 outputs"),
        (unknown_argument, "argument of kind 'as_operator'"),
        (lambda program: program.clear(), "is not a program of torch.export.save"),
    ],
)
def test_malformed_programs_are_refused(archive, edit, message):
    with pytest.raises(ModelError, match=message) as caught:
        load_model(archive(edit_json("model.json", edit)))
    assert "\n" not in str(caught.value)


def test_files_that_are_no_programs_are_refused(tmp_path, saved):
    path = tmp_path / "net.pt2"
    with pytest.raises(ModelError, match="cannot read"):
        load_model(str(path))
    whole = saved.read_bytes()
    torch.save(nn.Linear(2, 2), tmp_path / "module.pt")
    for blob in (b"", b"text", pickle.dumps(Bomb()), whole[: len(whole) // 2],
                 (tmp_path / "module.pt").read_bytes()):  # fmt: skip
        path.write_bytes(blob)
        with pytest.raises(ModelError, match=r"cannot read|is not a program"):
            load_model(str(path))
