"""The sliding window of a convolution or linear op, over an NHWC plane that is padded in bands."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from cofit.codegen.kernel import Residual
from cofit.codegen.machine import Machine
from cofit.ir import Graph, Op, attributes

BAND_BYTES_HOST = 128 * 1024  # padded input rows kept at hand: a part of a core's L2
BAND_BYTES_FLOAT = 320 * 1024  # fewer bands copy fewer rows twice, which floats are worth
BAND_BYTES_MCU = 8 * 1024


@dataclass(frozen=True)
class Window:
    """Sizes of a convolution; a linear op is one row of pixels under a 1x1 kernel.

    `channels` and `outputs` count all groups. Padding is (top, bottom, left, right). A band may
    hold one of `parts` equal runs of channels at a time; `row`, `pixel` and `offset` are the
    band's. `addend` is the C pointer to a residual, added to the outputs before `fused`.
    """

    channels: int
    height: int
    width: int
    outputs: int
    out_height: int
    out_width: int
    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    padding: attributes.Pads = (0, 0, 0, 0)
    groups: int = 1
    fused: attributes.Fused = "none"
    parts: int = 1
    addend: str = ""

    @property
    def held(self) -> int:
        """Channels of a pixel in the band."""
        return self.channels // self.parts

    @property
    def copied(self) -> bool:
        """Whether a band is a copy of its input rows, or the input itself."""
        return any(self.padding) or self.parts > 1

    @property
    def padded_width(self) -> int:
        """Pixels of a row including padding."""
        return self.width + self.padding[2] + self.padding[3]

    @property
    def row(self) -> int:
        """Elements of a padded input row."""
        return self.padded_width * self.held

    @property
    def pixel(self) -> int:
        """Input elements between neighbouring output pixels."""
        return self.stride[1] * self.held

    @property
    def entries(self) -> int:
        """Input values that one output reads."""
        return self.kernel[0] * self.kernel[1] * self.channels // self.groups

    @property
    def reach(self) -> tuple[int, int]:
        """Rows and columns that the dilated kernel spans."""
        rows, columns = self.kernel
        return self.dilation[0] * (rows - 1) + 1, self.dilation[1] * (columns - 1) + 1

    def offset(self, channel: int, r: int, s: int) -> int:
        """Elements from the top left pixel of a window to one tap's channel."""
        rows, columns = r * self.dilation[0], s * self.dilation[1]
        return (rows * self.padded_width + columns) * self.held + channel

    def band_rows(
        self, machine: Machine, element_bytes: int = 4, out_height: int | None = None
    ) -> int:
        """Output rows computed from one band, near-equal ones; all of them if nothing is copied.

        Args:
            machine: gives the bytes of a band.
            element_bytes: of an input.
            out_height: output rows of a share, if not all.
        """
        most = self.out_height if out_height is None else out_height
        if not self.copied:
            return self.out_height
        budget = BAND_BYTES_MCU if machine.freestanding else BAND_BYTES_FLOAT
        rows = budget // (self.row * element_bytes)
        fit = (rows - self.reach[0]) // self.stride[0] + 1
        bands = -(-most // max(fit, 1))
        return -(-most // bands)

    def band_bytes(self, rows: int, element_bytes: int = 4) -> int:
        """Scratch bytes of a band of `rows` output rows; 0 where nothing is copied."""
        if not self.copied:
            return 0
        return ((rows - 1) * self.stride[0] + self.reach[0]) * self.row * element_bytes

    def band_end(self, rows: int, last: str | None = None) -> str:
        """C that sets `y1`, the end of the band of output rows [y0, y1), at most `last`."""
        last = str(self.out_height) if last is None else last
        end = f"y0 + {rows} < {last} ? y0 + {rows} : {last}"
        return f"const int y1 = {end};"

    def band_code(self, fill: str = "0", ctype: str = "float") -> str:
        """C that sets `x` to the padded input rows of the band (of its part `part`)."""
        if not self.copied:
            return f"const {ctype} *const x = in0 + y0 * {self.stride[0] * self.row};"
        top, _, left, right = self.padding
        line, size = self.width * self.channels, f"sizeof({ctype})"
        before, after = left * self.held, right * self.held
        middle = f"__builtin_memcpy(to + {before}, in0 + y * {line}, {line} * {size});"
        if self.parts > 1:
            middle = (
                f"const {ctype} *const from = in0 + y * {line} + part * {self.held};\n"
                f"for (int i = 0; i < {self.width}; ++i)\n"
                f"    __builtin_memcpy(to + {before} + i * {self.held}, "
                f"from + i * {self.channels}, {self.held} * {size});"
            )
        copy = [
            f"__builtin_memset(to, {fill}, {before} * {size});" if before else "",
            middle,
            f"__builtin_memset(to + {self.row - after}, {fill}, {after} * {size});"
            if after
            else "",
        ]
        return "\n".join([
            f"{ctype} *const x = ({ctype} *)scratch;",
            f"for (int r = 0; r < (y1 - y0 - 1) * {self.stride[0]} + {self.reach[0]}; ++r) {{",
            f"const int y = y0 * {self.stride[0]} + r - {top};",
            f"{ctype} *const to = x + r * {self.row};",
            f"if (y < 0 || y >= {self.height}) {{",
            f"__builtin_memset(to, {fill}, {self.row} * {size});",
            "} else {",
            *(text for text in copy if text),
            "}",
            "}",
        ])  # fmt: skip

    def flat(self) -> Window:
        """The same with all pixels in one row, where nothing tells rows apart."""
        if self.kernel != (1, 1) or self.stride != (1, 1) or any(self.padding):
            return self
        pixels = self.out_height * self.out_width
        return replace(self, height=1, width=pixels, out_height=1, out_width=pixels)


def window(graph: Graph, op: Op, residual: Residual | None = None) -> Window:
    """Window of a conv2d or linear op without an activation of its own if it has a residual."""
    win = _window(graph, op)
    if residual is None:
        return win
    assert isinstance(residual.op.attributes, attributes.Add)
    return replace(win, fused=residual.op.attributes.fused, addend=f"in{len(op.inputs)}")


def clamps_before(op: Op) -> str | None:
    """The reason not to add to the outputs of an op in registers, if there is one."""
    assert isinstance(op.attributes, attributes.Conv2d | attributes.Linear)
    return None if op.attributes.fused == "none" else "its outputs are clamped before the addition"


def in_place_of(win: Window) -> tuple[int, ...]:
    """Position of the residual where the outputs may lie in its place: not beside partial sums."""
    return (int(win.addend.removeprefix("in")),) if win.addend and win.parts == 1 else ()


def _window(graph: Graph, op: Op) -> Window:
    x, weight = graph.tensors[op.inputs[0]].shape, graph.tensors[op.inputs[1]].shape
    match op.attributes:
        case attributes.Conv2d() as conv:
            out = graph.tensors[op.output].shape
            return Window(
                x[1], x[2], x[3], weight[0], out[2], out[3], (weight[2], weight[3]),
                conv.stride, conv.dilation, conv.padding, conv.groups, conv.fused,
            ).flat()  # fmt: skip
        case attributes.Linear() as linear:
            rows = math.prod(x[:-1])
            return Window(x[-1], 1, rows, weight[0], 1, rows, fused=linear.fused)
    raise AssertionError(f"{op.kind} has no window")
