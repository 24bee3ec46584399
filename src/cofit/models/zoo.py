"""The networks that cofit knows by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from torch import nn

from cofit.core import UnknownNameError
from cofit.models import mlperf_tiny
from cofit.models.depthwise import DSCNN, SmallMobileNetV2
from cofit.models.normalise import Normalise
from cofit.models.plain import VGG16, ConvNet, SmallVGG16
from cofit.models.resnet import ResNet18, SmallResNet
from cofit.models.sequences import GruSpeech, TinyBert, TinyViT

IMAGENET = Normalise((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
CIFAR = Normalise((0.491, 0.482, 0.446), (0.247, 0.243, 0.261))
FASHION = Normalise((0.286,), (0.353,))
DIGITS = Normalise((0.304,), (0.376,))
PIXELS = Normalise((0.0,), (1 / 255,))
"""Back to pixel values 0 to 255."""


@dataclass(frozen=True)
class ModelEntry:
    """One known network.

    Attributes:
        name: what `model` and `load_model` call it.
        build: makes it, initialised from the global generator (`load_model` seeds and restores it).
        input_shape: of one input, without the batch axis.
        classes: number of outputs (features, for the autoencoder).
        preprocess: from a data set's values to the network's.
        data: name of the data set it is meant for (`cofit.data.load`), None if cofit has none.
        description: one line for people.
        vocabulary: of a network that takes tokens: they are integers in [0, vocabulary).
    """

    name: str
    build: Callable[..., nn.Module]
    input_shape: tuple[int, ...]
    classes: int
    preprocess: Normalise
    data: str | None
    description: str
    vocabulary: int | None = None


def model(name: str) -> ModelEntry:
    """The entry called `name`.

    Raises:
        UnknownNameError: listing the names.
    """
    entries = {entry.name: entry for entry in _ENTRIES}
    if name not in entries:
        raise UnknownNameError("model", name, entries)
    return entries[name]


def known_models() -> tuple[ModelEntry, ...]:
    """All networks with a name."""
    return _ENTRIES


_CIFAR_WIDTHS = (16, 32, 64)
_COLOUR32 = (3, 32, 32)
_IMAGENET_SHAPE = (3, 224, 224)

_ENTRIES = (
    ModelEntry("digits_resnet", partial(SmallResNet, (16, 32, 32), 1, channels=1, project=True),
               (1, 8, 8), 10, DIGITS, "digits", "small residual network for 8x8 digits"),
    ModelEntry("convnet", partial(ConvNet, channels=1),
               (1, 28, 28), 10, FASHION, "fashion_mnist", "six 3x3 convolutions, 32-64-128"),
    ModelEntry("convnet_cifar", ConvNet,
               _COLOUR32, 10, CIFAR, "cifar10", "six 3x3 convolutions, 32-64-128"),
    ModelEntry("ds_cnn", DSCNN,
               (1, 49, 10), 10, Normalise(), "spoken_digits", "DS-CNN small for ten spoken digits"),
    # the public weights of these two were trained with ImageNet's mean and std
    ModelEntry("resnet20", partial(SmallResNet, _CIFAR_WIDTHS, 3),
               _COLOUR32, 10, IMAGENET, "cifar10", "ResNet-20 for CIFAR-10, option A"),
    ModelEntry("resnet56", partial(SmallResNet, _CIFAR_WIDTHS, 9),
               _COLOUR32, 10, IMAGENET, "cifar10", "ResNet-56 for CIFAR-10, option A"),
    ModelEntry("resnet18_cifar", partial(SmallResNet, (64, 128, 256, 512), 2, project=True),
               _COLOUR32, 10, CIFAR, "cifar10", "ResNet-18 with a 3x3 stem, for 32x32 images"),
    ModelEntry("mobilenet_v2_small", SmallMobileNetV2,
               _COLOUR32, 10, CIFAR, "cifar10", "inverted residuals for 32x32 images"),
    ModelEntry("vgg16_cifar", SmallVGG16,
               _COLOUR32, 10, CIFAR, "cifar10", "VGG-16 with batch norm, for 32x32 images"),
    ModelEntry("resnet18", ResNet18,
               _IMAGENET_SHAPE, 1000, IMAGENET, None, "ResNet-18 for ImageNet"),
    ModelEntry("vgg16", VGG16,
               _IMAGENET_SHAPE, 1000, IMAGENET, None, "VGG-16 for ImageNet, no batch norm"),
    ModelEntry("bert_tiny", TinyBert,
               (32,), 2, Normalise(), None, "text encoder of two layers, 32 tokens", 1000),
    ModelEntry("vit_tiny", TinyViT,
               _COLOUR32, 10, CIFAR, "cifar10", "vision transformer of four blocks, 4x4 patches"),
    ModelEntry("gru_speech", GruSpeech,
               (1, 49, 10), 10, Normalise(), "spoken_digits", "GRU of 256 for ten spoken digits"),
    ModelEntry("mlperf_tiny/resnet8", mlperf_tiny.ResNet8,
               _COLOUR32, 10, PIXELS, "cifar10", "MLPerf Tiny image classification, folded"),
    ModelEntry("mlperf_tiny/ds_cnn", mlperf_tiny.ds_cnn,
               (1, 49, 10), 12, Normalise(), None, "MLPerf Tiny keyword spotting, folded"),
    ModelEntry("mlperf_tiny/mobilenet_v1_025", mlperf_tiny.mobilenet_v1_025,
               (3, 96, 96), 2, Normalise(), None, "MLPerf Tiny visual wake words, folded"),
    ModelEntry("mlperf_tiny/autoencoder", mlperf_tiny.autoencoder,
               (640,), 640, Normalise(), None, "MLPerf Tiny anomaly detection, folded"),
)  # fmt: skip
