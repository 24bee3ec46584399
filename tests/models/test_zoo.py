"""The zoo: published parameter and MAC counts, tracing, seeding, layer lists of the files."""

import json
import operator
from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from cofit.core import UnknownNameError
from cofit.data import known_data
from cofit.ir import macs, trace
from cofit.models import Normalise, known_models, load_model, model

NAMES = [entry.name for entry in known_models()]
TINY = ("resnet8", "ds_cnn", "mobilenet_v1_025", "autoencoder")


def on_meta(name):
    with torch.device("meta"):
        return model(name).build().eval()


def zeros(entry, device):
    dtype = torch.float32 if entry.vocabulary is None else torch.int64
    return torch.zeros(1, *entry.input_shape, dtype=dtype, device=device)


def parameters(module):
    return sum(p.numel() for p in module.parameters())


@pytest.mark.filterwarnings("ignore:The tensor attributes")  # of recurrent layers, by torch
@pytest.mark.parametrize("name", NAMES)
def test_every_network_exports_to_aten_and_has_the_stated_shapes(name):
    entry = model(name)
    example = zeros(entry, "meta")
    program = torch.export.export(on_meta(name), (example,))
    (output,) = program.graph.output_node().args[0]
    assert tuple(output.meta["val"].shape) == (1, entry.classes)
    calls = [node for node in program.graph.nodes if node.op == "call_function"]
    named = [str(node.target) for node in calls if node.target is not operator.getitem]
    assert named and all(name.startswith("aten.") for name in named)


def test_every_network_fits_the_data_it_is_meant_for():
    shapes = {source.name: source.input_shape for source in known_data()}
    for entry in known_models():
        if entry.data is not None:
            assert entry.input_shape == shapes[entry.data], entry.name
        assert len(entry.preprocess.mean) in (1, entry.input_shape[0])
    assert len(set(NAMES)) == len(NAMES)


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("resnet20", 269_722),  # He et al., table 6: 0.27M, 0.85M
        ("resnet56", 853_018),
        ("resnet18", 11_689_512),  # as every public implementation
        ("vgg16", 138_357_544),
        ("resnet18_cifar", 11_173_962),
        ("mlperf_tiny/resnet8", 77_706),  # README of the weight files
        ("mlperf_tiny/mobilenet_v1_025", 210_850),
        ("mlperf_tiny/autoencoder", 265_864),
        # 640 + 64, then four times 9*64 + 64 and 64*64 + 64 with biases, then 64*12 + 12
        ("mlperf_tiny/ds_cnn", 64 * 40 + 64 + 4 * (10 * 64 + 65 * 64) + 65 * 12),
        # weights of six 3x3 convolutions, two numbers of batch norm a channel, linear
        ("convnet", 9 * (32 + 32 * 32 + 32 * 64 + 64 * 64 + 64 * 128 + 128 * 128)
         + 2 * 2 * (32 + 64 + 128) + 129 * 10),
    ],
)  # fmt: skip
def test_parameter_counts(name, count):
    assert parameters(on_meta(name)) == count


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        # stem, then per stage: positions x 9 x (inputs x outputs of each convolution); linear
        ("resnet20", 9 * 1024 * 3 * 16 + 9 * 1024 * 6 * 256
         + 9 * 256 * (16 * 32 + 5 * 1024) + 9 * 64 * (32 * 64 + 5 * 4096) + 640),
        ("resnet18", 1_814_073_344),  # 1.8e9 in table 1 of the paper
        ("vgg16", 15_470_264_320),
        ("mlperf_tiny/resnet8", 12_501_632),  # 12.5M in the MLPerf Tiny paper
        # 2.66M, 7.49M and 0.26M likewise
        ("mlperf_tiny/ds_cnn", 125 * (40 * 64 + 4 * (9 * 64 + 64 * 64)) + 64 * 12),
        ("mlperf_tiny/mobilenet_v1_025", 7_489_664),
        ("mlperf_tiny/autoencoder", 2 * (640 * 128 + 3 * 128 * 128 + 128 * 8)),
    ],
)  # fmt: skip
def test_mac_counts(name, expected):
    counter = FlopCounterMode(display=False)
    with counter:
        on_meta(name)(torch.zeros(1, *model(name).input_shape, device="meta"))
    assert counter.get_total_flops() == 2 * expected


@pytest.mark.parametrize("name", [n for n in NAMES if not n.startswith(("vgg", "resnet18"))])
def test_small_networks_trace_and_count_alike(name):
    entry = model(name)
    example = zeros(entry, "cpu")
    module = load_model(name).module
    graph = trace(module, example)  # which checks that the graph computes what the module does
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # the counter does not know fused attention
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        module(example)
    torch.backends.mha.set_fastpath_enabled(before)
    assert 2 * sum(macs(graph, op) for op in graph.ops) == counter.get_total_flops()
    assert {weight.name for _, weight in graph.weighted()} <= set(module.state_dict())


def test_sequence_networks_have_the_sizes_of_their_layers():
    # per encoder layer: attention 4 w^2 + 4 w, feed-forward 8 w^2 + 5 w, two norms of 2 w
    layers = {w: 12 * w * w + 13 * w for w in (128, 64)}
    bert = (1000 + 32) * 128 + 2 * 128 + 2 * layers[128] + 129 * 128 + 129 * 2
    vit = 49 * 64 + 66 * 64 + 4 * layers[64] + 2 * 64 + 65 * 10 - 64
    gru = 3 * 256 * (30 + 256 + 2) + 257 * 10
    found = {name: parameters(on_meta(name)) for name in ("bert_tiny", "vit_tiny", "gru_speech")}
    assert found == {"bert_tiny": bert, "vit_tiny": vit + 64, "gru_speech": gru}


def test_digits_network_is_small():
    assert 20_000 <= parameters(on_meta("digits_resnet")) <= 40_000


def replay(rows, weights, x):
    """The layer list of a weight file, straight from its JSON."""
    values = {"input": x}
    for row in rows:
        first, *others = (values[name] for name in row["inputs"])
        weight = weights.get(f"{row.get('name')}.weight")
        bias = weights.get(f"{row.get('name')}.bias")
        if row["op"] in ("conv_2d", "depthwise_conv_2d"):
            top, bottom, left, right = row["pad_top_bottom_left_right"]
            padded = F.pad(first, (left, right, top, bottom))
            y = F.conv2d(padded, weight, bias, tuple(row["stride"]), groups=row["groups"])
        elif row["op"] == "fully_connected":
            y = F.linear(first, weight, bias)
        elif row["op"] == "add":
            y = first + others[0]
        elif row["op"] == "average_pool_2d":
            y = F.avg_pool2d(first, tuple(row["kernel"]))
        elif row["op"] == "reshape":
            y = first.flatten(1)
        else:
            assert row["op"] == "softmax"
            y = F.softmax(first, -1)
        values[row["output"]] = y.relu() if row.get("activation") == "relu" else y
    return y


@pytest.mark.parametrize("name", TINY)
def test_mlperf_tiny_computes_what_its_file_lists(name, models_dir):
    from safetensors.torch import load_file

    description = json.loads((models_dir / "mlperf_tiny" / f"{name}.json").read_text())
    path = models_dir / "mlperf_tiny" / f"{name}.safetensors"
    loaded = load_model(f"mlperf_tiny/{name}", path)
    shape = description["input_shape_nchw"]
    assert tuple(shape[1:]) == loaded.input_shape
    x = torch.rand(2, *shape[1:], generator=torch.Generator().manual_seed(0))
    x = loaded.preprocess(x)
    with torch.no_grad():
        expected = replay(description["graph"], load_file(path), x)
        torch.testing.assert_close(loaded.module(x), expected, rtol=1e-5, atol=1e-6)
        if description["graph"][-1]["op"] == "softmax":
            logits = loaded.module.logits(x)
            torch.testing.assert_close(logits.softmax(-1), expected, rtol=1e-5, atol=1e-6)
        else:
            assert not hasattr(loaded.module, "logits")


def test_vgg16_for_imagenet_has_the_published_layout():
    shapes = {key: tuple(value.shape) for key, value in on_meta("vgg16").state_dict().items()}
    assert shapes["features.28.weight"] == (512, 512, 3, 3)
    assert shapes["classifier.0.weight"] == (4096, 25088)
    assert shapes["classifier.6.bias"] == (1000,)


def test_resnet18_for_imagenet_has_the_published_keys():
    keys = set(on_meta("resnet18").state_dict())
    assert {"conv1.weight", "bn1.bias", "layer1.1.bn2.weight", "layer4.0.downsample.1.running_var",
            "layer2.0.downsample.0.weight", "fc.bias"} <= keys  # fmt: skip
    assert len(keys) == 122


def test_option_a_shortcut_subsamples_and_pads_both_sides():
    block = on_meta("resnet20").layer2[0]
    x = torch.arange(2 * 16 * 4 * 4, dtype=torch.float32).reshape(2, 16, 4, 4)
    y = block.downsample(x)
    assert torch.equal(y[:, 8:24], x[:, :, ::2, ::2])
    assert y.shape == (2, 32, 2, 2) and y[:, :8].abs().sum() == y[:, 24:].abs().sum() == 0


def test_seeds_decide_the_weights_and_the_global_generator_is_left_alone():
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    one, same, other = (load_model("digits_resnet", seed=seed) for seed in (3, 3, 4))
    assert torch.equal(before, torch.random.get_rng_state())
    torch.manual_seed(99)
    again = load_model("digits_resnet", seed=3)
    for key, value in one.module.state_dict().items():
        assert torch.equal(value, same.module.state_dict()[key])
        assert torch.equal(value, again.module.state_dict()[key])
    assert not torch.equal(one.module.conv1.weight, other.module.conv1.weight)


def test_loaded_networks_are_in_evaluation_mode():
    assert not load_model("digits_resnet").module.training


def test_unknown_name_lists_the_zoo():
    with pytest.raises(UnknownNameError, match="did you mean 'resnet20'"):
        load_model("resnet21")
    with pytest.raises(UnknownNameError, match="known: bert_tiny, "):
        model("resnet")


def test_normalise_is_per_channel():
    x = torch.rand(4, 3, 5, 5)
    y = Normalise((0.1, 0.2, 0.3), (1.0, 2.0, 4.0))(x)
    for c, (mean, std) in enumerate([(0.1, 1.0), (0.2, 2.0), (0.3, 4.0)]):
        torch.testing.assert_close(y[:, c], (x[:, c] - mean) / std)
    assert torch.equal(Normalise()(x), x)
    assert Normalise((0.5,), (0.5,))(torch.ones(2, 7)).tolist() == [[1.0] * 7] * 2
    with pytest.raises(ValueError, match="above zero"):
        Normalise((0.0,), (0.0,))


def test_batch_norm_networks_hold_no_biased_convolution_before_it():
    # a bias there would be dead weight in flash and in every count
    for name in ("resnet20", "convnet", "ds_cnn", "mobilenet_v2_small", "vgg16_cifar"):
        layers = list(on_meta(name).modules())
        for layer, following in pairwise(layers):
            if isinstance(layer, nn.Conv2d) and isinstance(following, nn.BatchNorm2d):
                assert layer.bias is None, name
