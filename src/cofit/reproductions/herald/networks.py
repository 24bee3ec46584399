"""Networks of the suites, built from their published shapes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from cofit.core import UnknownNameError
from cofit.targets.dataflow import Layer
from cofit.targets.heterogeneous import Job, Mix, Network


@dataclass(frozen=True)
class _Map:
    """An activation: the layers that make it, its channels, rows and columns."""

    made: tuple[int, ...]
    channels: int
    rows: int
    columns: int


class _Builder:
    """Layers as they are added, with what each waits for."""

    def __init__(self, channels: int, rows: int, columns: int) -> None:
        self.layers: list[Layer] = []
        self.before: list[tuple[int, ...]] = []
        self.input = _Map((), channels, rows, columns)

    def conv(
        self, source: _Map, filters: int, kernel: int = 1, stride: int = 1, pad: bool = True,
        depthwise: bool = False,
    ) -> _Map:  # fmt: skip
        """A square convolution."""
        lost = 0 if pad else kernel - 1
        rows, columns = (-(-(size - lost) // stride) for size in (source.rows, source.columns))
        layer = Layer(
            f"{len(self.layers)}", k=filters, c=source.channels, y=rows, x=columns, r=kernel,
            s=kernel, stride=(stride, stride), groups=filters if depthwise else 1,
        )  # fmt: skip
        return self._added(layer, source.made, _Map((), filters, rows, columns))

    def up(self, source: _Map, filters: int) -> _Map:
        """A transposed 2x2 convolution of stride 2: every output depends on one position."""
        layer = Layer(
            f"{len(self.layers)}", k=4 * filters, c=source.channels, y=source.rows,
            x=source.columns,
        )  # fmt: skip
        made = _Map((), filters, 2 * source.rows, 2 * source.columns)
        return self._added(layer, source.made, made)

    def dense(self, source: _Map, features: int) -> _Map:
        """A fully connected layer on all elements of a map."""
        inputs = source.channels * source.rows * source.columns
        layer = Layer.gemm(1, inputs, features, f"{len(self.layers)}")
        return self._added(layer, source.made, _Map((), features, 1, 1))

    def _added(self, layer: Layer, needed: tuple[int, ...], made: _Map) -> _Map:
        self.before.append(needed)
        self.layers.append(layer)
        return replace(made, made=(len(self.layers) - 1,))

    def network(self, name: str) -> Network:
        """What was added."""
        return Network.of(name, self.layers, self.before)


def _pooled(source: _Map, by: int = 2) -> _Map:
    """A pooled map; `by` 0 pools everything."""
    if by == 0:
        return replace(source, rows=1, columns=1)
    return replace(source, rows=-(-source.rows // by), columns=-(-source.columns // by))


def _added(*maps: _Map) -> _Map:
    """A sum, which waits for all its parts."""
    return replace(maps[0], made=_made(*maps))


def _joined(*maps: _Map) -> _Map:
    """Channels of several maps side by side."""
    return replace(maps[0], made=_made(*maps), channels=sum(m.channels for m in maps))


def _made(*maps: _Map) -> tuple[int, ...]:
    return tuple(sorted({layer for source in maps for layer in source.made}))


def _bottlenecks(net: _Builder, x: _Map, stages: tuple[tuple[int, int, int], ...]) -> _Map:
    """Residual bottlenecks: (width, blocks, stride) by stage; the 3x3 carries the stride."""
    for width, blocks, stride in stages:
        for block in range(blocks):
            step = stride if block == 0 else 1
            y = net.conv(x, width)
            y = net.conv(y, width, 3, step)
            y = net.conv(y, 4 * width)
            x = _added(y, net.conv(x, 4 * width, 1, step) if block == 0 else x)
    return x


def _basic(net: _Builder, x: _Map, stages: tuple[tuple[int, int, int], ...]) -> _Map:
    """Residual blocks of two 3x3 convolutions."""
    for width, blocks, stride in stages:
        for block in range(blocks):
            step = stride if block == 0 else 1
            y = net.conv(net.conv(x, width, 3, step), width, 3)
            wider = step > 1 or x.channels != width
            x = _added(y, net.conv(x, width, 1, step) if wider else x)
    return x


def resnet50() -> Network:
    """ResNet-50 (He, CVPR 2016) at 224x224: 53 convolutions and the classifier."""
    net = _Builder(3, 224, 224)
    x = _pooled(net.conv(net.input, 64, 7, 2))
    x = _bottlenecks(net, x, ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)))
    net.dense(_pooled(x, 0), 1000)
    return net.network("ResNet-50")


def mobilenet_v2() -> Network:
    """MobileNetV2 (Sandler, CVPR 2018) at 224x224."""
    net = _Builder(3, 224, 224)
    x = net.conv(net.input, 32, 3, 2)
    blocks = (
        (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2),
        (6, 320, 1, 1),
    )  # fmt: skip
    for factor, filters, count, stride in blocks:
        for block in range(count):
            wide = factor * x.channels
            y = net.conv(x, wide) if factor > 1 else x
            y = net.conv(y, wide, 3, stride if block == 0 else 1, depthwise=True)
            y = net.conv(y, filters)
            x = _added(y, x) if block else y
    net.dense(_pooled(net.conv(x, 1280), 0), 1000)
    return net.network("MobileNetV2")


def _mobilenet_v1(net: _Builder, x: _Map) -> tuple[_Map, _Map]:
    """All convolutions; the map before the last stride, and the last."""
    x = net.conv(x, 32, 3, 2)
    plan = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5]
    for filters, stride in plan:
        x = net.conv(net.conv(x, x.channels, 3, stride, depthwise=True), filters)
    early = x
    for filters, stride in ((1024, 2), (1024, 1)):
        x = net.conv(net.conv(x, x.channels, 3, stride, depthwise=True), filters)
    return early, x


def mobilenet_v1() -> Network:
    """MobileNetV1 (Howard 2017) at 224x224."""
    net = _Builder(3, 224, 224)
    _, x = _mobilenet_v1(net, net.input)
    net.dense(_pooled(x, 0), 1000)
    return net.network("MobileNetV1")


def unet() -> Network:
    """U-Net (Ronneberger 2015): 572x572 without padding, 23 convolutions."""
    net = _Builder(1, 572, 572)
    x, kept = net.input, []
    for width in (64, 128, 256, 512):
        x = net.conv(net.conv(x, width, 3, pad=False), width, 3, pad=False)
        kept.append(x)
        x = _pooled(x)
    x = net.conv(net.conv(x, 1024, 3, pad=False), 1024, 3, pad=False)
    for width in (512, 256, 128, 64):
        x = net.up(x, width)
        beside = replace(kept.pop(), rows=x.rows, columns=x.columns)
        x = _joined(x, beside)
        x = net.conv(net.conv(x, width, 3, pad=False), width, 3, pad=False)
    net.conv(x, 2)
    return net.network("U-Net")


def ssd_mobilenet() -> Network:
    """SSD on MobileNetV1 at 300x300 (MLPerf): six maps, 91 classes."""
    net = _Builder(3, 300, 300)
    early, x = _mobilenet_v1(net, net.input)
    maps = [early, x]
    for squeeze, filters in ((256, 512), (128, 256), (128, 256), (64, 128)):
        x = net.conv(net.conv(x, squeeze), filters, 3, 2)
        maps.append(x)
    for at, found in enumerate(maps):
        boxes = 3 if at == 0 else 6
        net.conv(found, boxes * 4)
        net.conv(found, boxes * 91)
    return net.network("SSD-MobileNetV1")


def ssd_resnet34() -> Network:
    """SSD on ResNet-34 at 1200x1200 (MLPerf): six maps, 81 classes, 3x3 heads."""
    net = _Builder(3, 1200, 1200)
    x = _pooled(net.conv(net.input, 64, 7, 2))
    x = _basic(net, x, ((64, 3, 1), (128, 4, 2), (256, 6, 1)))
    maps = [x]
    for squeeze, filters, stride in ((256, 512, 2), (256, 512, 2), (128, 256, 2), (128, 256, 2)):
        x = net.conv(net.conv(x, squeeze), filters, 3, stride)
        maps.append(x)
    x = net.conv(net.conv(x, 128), 256, 3, pad=False)
    maps.append(x)
    for found, boxes in zip(maps, (4, 6, 6, 6, 4, 4), strict=True):
        net.conv(found, boxes * 4, 3, 3 if found.rows > 100 else 1)
        net.conv(found, boxes * 81, 3, 3 if found.rows > 100 else 1)
    return net.network("SSD-ResNet34")


def gnmt(tokens: int = 20) -> Network:
    """GNMT (Wu 2016): 8 layers of 1024 each way, attention, 32,000 words, one sentence.

    The products of a layer's inputs are taken for all tokens at once, those of its states token by
    token; the decoder is given its words. The classifier comes once for all tokens.
    """
    layers: list[Layer] = []
    before: list[tuple[int, ...]] = []

    def add(m: int, inputs: int, outputs: int, needed: tuple[int, ...]) -> int:
        layers.append(Layer.gemm(m, inputs, outputs, f"{len(layers)}"))
        before.append(needed)
        return len(layers) - 1

    def lstm(inputs: int, needed: tuple[int, ...]) -> int:
        last = add(tokens, inputs, 4096, needed)
        for _ in range(tokens):
            last = add(1, 1024, 4096, (last,))
        return last

    sides = lstm(1024, ()), lstm(1024, ())  # the first layer reads both ways
    last = lstm(2048, sides)
    for _ in range(6):
        last = lstm(1024, (last,))
    encoded = last
    last = lstm(1024, (encoded,))
    attended = add(tokens, 1024, 1024, (last, encoded))
    for _ in range(7):
        last = lstm(2048, (last, attended))
    add(tokens, 1024, 32_000, (last,))
    return Network.of("GNMT", layers, before)


def hand_pose() -> Network:
    """A hand pose network in the style of DeepPrior++ (Oberweger 2017): 128x128 depth crops."""
    net = _Builder(1, 128, 128)
    x = _pooled(net.conv(net.input, 32, 5))
    x = _bottlenecks(net, x, ((16, 5, 2), (32, 5, 2), (64, 5, 2), (64, 5, 1)))
    net.dense(net.dense(net.dense(x, 1024), 1024), 63)
    return net.network("hand pose")


def depth() -> Network:
    """Depth from one image in the style of Laina 2016: ResNet-50, then four up-convolutions."""
    net = _Builder(3, 228, 304)
    x = _pooled(net.conv(net.input, 64, 7, 2))
    x = _bottlenecks(net, x, ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)))
    x = net.conv(x, 1024)
    for width in (512, 256, 128, 64):
        x = net.conv(net.up(x, width), width, 3)
    net.conv(x, 1, 3)
    return net.network("depth")


SUITES: dict[str, tuple[tuple[Callable[[], Network], int], ...]] = {
    "AR/VR-A": ((resnet50, 2), (unet, 4), (mobilenet_v2, 4)),
    "AR/VR-B": ((resnet50, 2), (unet, 2), (mobilenet_v2, 4), (hand_pose, 2), (depth, 2)),
    "MLPerf": (
        (resnet50, 1), (mobilenet_v1, 1), (ssd_resnet34, 1), (ssd_mobilenet, 1), (gnmt, 1),
    ),
    "small": ((mobilenet_v2, 1), (hand_pose, 1)),
}  # fmt: skip
"""Networks and instances of each; those of HERALD are recalled, "small" is ours."""


def suite(name: str) -> Mix:
    """A suite by name.

    Raises:
        UnknownNameError: listing the known ones.
    """
    if name not in SUITES:
        raise UnknownNameError("suite", name, SUITES)
    return Mix(tuple(Job(build(), count) for build, count in SUITES[name]))
