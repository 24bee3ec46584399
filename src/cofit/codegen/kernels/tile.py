"""The register tile all fp32 kernels share: NB vectors of output channels × S pixels.

Accumulators are named variables, one per vector register, so that the compiler need not prove that
an array can be held in registers. Weights are read as vectors, inputs broadcast. Where there are no
vectors a lane is one float and the same text is plain C.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from cofit.codegen.kernels.shares import Shares, declared, range_of, share_layer
from cofit.codegen.kernels.window import Window
from cofit.codegen.machine import Machine

SCALAR_REGISTERS = 32  # Cortex-M4F and M7F
MAX_PIXELS, MAX_VECTORS = 14, 8
LOOP_CYCLES = 0.5  # counter, pointers and branch, shared by the products of a step
LIST_CYCLES = 2.0  # the same where the input's offset is read from a list
FMA_LATENCY = 4  # cycles, two units: fewer than 8 accumulators cannot keep them busy
L1_BYTES = 24 * 1024  # left for a tile's weights beside the inputs
L2_BYTES_PER_CYCLE = 16.0
WEIGHTS_AT_HAND_BYTES = 512 * 1024  # above this, weights are streamed once per band


@dataclass(frozen=True)
class Tile:
    """`vectors` × `pixels` accumulators of `lanes` floats."""

    lanes: int
    vectors: int
    pixels: int

    @property
    def outputs(self) -> int:
        """Output channels of a tile."""
        return self.lanes * self.vectors


def choose_tile(
    machine: Machine, outputs: int, pixels: int, entries: int,
    block: int | None = None, whole: bool = False,
) -> Tile:  # fmt: skip
    """The first of `ranked_tiles`."""
    return ranked_tiles(machine, outputs, pixels, entries, block, whole)[0]


def ranked_tiles(
    machine: Machine,
    outputs: int,
    pixels: int,
    entries: int,
    block: int | None = None,
    whole: bool = False,
    even: bool = False,
) -> list[Tile]:
    """Tiles that the registers hold, of least estimated cycles for `outputs` × `pixels` first.

    Args:
        machine: gives lanes and registers.
        outputs: output channels of one group.
        pixels: output pixels of one row.
        entries: input values per output, as the length of a tile's weights.
        block: output channels that share their list of kept positions; tiles divide a block.
        whole: a tile must be a whole block.
        even: tiles divide `outputs`, a multiple of the lanes.
    """
    lanes = machine.vector_floats
    if block is not None:
        lanes = math.gcd(block, lanes)
    registers = machine.vector_registers if machine.vector_floats > 1 else SCALAR_REGISTERS
    vectors = -(-outputs // lanes) if block is None else block // lanes
    widths = [vectors] if whole else range(1, min(MAX_VECTORS, vectors) + 1)
    found: list[tuple[float, Tile]] = []
    for nb in widths:
        if (even or block is not None) and vectors % nb:
            continue
        weight_bytes = 4 * lanes * nb
        cached = machine.freestanding or weight_bytes * entries <= L1_BYTES
        least = 0.0 if cached else weight_bytes / L2_BYTES_PER_CYCLE
        # beside one vector of weights compilers hold several broadcasts, and would spill
        most = min(MAX_PIXELS, pixels) if nb > 1 else min(MAX_PIXELS, pixels, registers * 5 // 8)
        for s in range(1, most + 1):
            if s > 1 and nb * s + min(nb, s) + 1 > registers:
                break
            loop = LOOP_CYCLES if block is None else LIST_CYCLES
            cycles = -(-vectors // nb) * _cycles(nb, s, pixels, least, loop)
            found.append((cycles, Tile(lanes, nb, s)))
    # of equal ones the largest
    return [tile for _, tile in sorted(reversed(found), key=lambda pair: pair[0])]


def _cycles(nb: int, s: int, pixels: int, least: float, loop: float) -> float:
    """Per input value: two FMAs and two loads start per cycle, a chain waits for its latency."""
    return sum(
        count * (max(nb * size / 2, (nb + size) / 2, FMA_LATENCY, least) + loop)
        for size, count in split(pixels, s)
    )


def split(pixels: int, most: int) -> list[tuple[int, int]]:
    """(size, count) of near-equal tiles of at most `most` that cover `pixels`."""
    count = -(-pixels // most)
    base, larger = divmod(pixels, count)
    return [(size, n) for size, n in ((base + 1, larger), (base, count - larger)) if n]


def vector_type(lanes: int, fused: str) -> str:
    """Declarations of `vec` and of what `clamp` needs: the mask type `ivec`, `zero`, `six`."""
    if lanes == 1:
        return "typedef float vec;"
    size = 4 * lanes
    lines = [f"typedef float vec __attribute__((vector_size({size}), aligned(4), may_alias));"]
    if fused != "none":
        lines.append(f"typedef int32_t ivec __attribute__((vector_size({size})));")
        lines.append("const vec zero = {0.0f};")
    if fused == "relu6":
        lines.append("const vec six = {" + ", ".join(["6.0f"] * lanes) + "};")
    return "\n".join(lines)


def clamp(name: str, fused: str, lanes: int) -> str:
    """Statement that applies a fused activation to the vector `name`."""
    if fused == "none":
        return ""
    if lanes == 1:
        text = f"{name} = {name} > 0.0f ? {name} : 0.0f;"
        return text + (f" {name} = {name} < 6.0f ? {name} : 6.0f;" if fused == "relu6" else "")
    text = f"{name} = (vec)((ivec)({name} > zero) & (ivec){name});"
    if fused == "relu6":
        text += f" {name} = (vec)(((ivec)({name} < six) & (ivec){name}) | "
        text += f"((ivec)({name} >= six) & (ivec)six));"
    return text


def multiply(
    tile: Tile, pixels: int, stride: int, x: str = "p", w: str = "w", to: str = "a"
) -> str:
    """One input value per pixel times the tile's weights: x[pixel * stride] * w[vector]."""
    lines = []
    if pixels < tile.vectors:
        lines += [f"const float b{i} = {x}[{i * stride}];" for i in range(pixels)]
        for j in range(tile.vectors):
            lines.append(f"const vec w{j} = *(const vec *)({w} + {j * tile.lanes});")
            lines += [f"{to}{j}_{i} += w{j} * b{i};" for i in range(pixels)]
    else:
        lines += [
            f"const vec w{j} = *(const vec *)({w} + {j * tile.lanes});" for j in range(tile.vectors)
        ]
        for i in range(pixels):
            lines.append(f"const float b{i} = {x}[{i * stride}];")
            lines += [f"{to}{j}_{i} += w{j} * b{i};" for j in range(tile.vectors)]
    return "\n".join(lines)


def open_tile(tile: Tile, pixels: int, bias: str, window: Window) -> str:
    """Accumulators, begun with the bias, or with the sums over the parts before."""
    lines = []
    if window.parts > 1:
        lines += [
            f"const float *const from = part > 0 ? o : {bias};",
            f"const int step = part > 0 ? {window.outputs} : 0;",
        ]
        for i in range(pixels):
            for j in range(tile.vectors):
                at = f"from + {i} * step + {j * tile.lanes}"
                lines.append(f"vec a{j}_{i} = *(const vec *)({at});")
        return "\n".join(lines)
    for j in range(tile.vectors):
        lines.append(f"const vec c{j} = *(const vec *)({bias} + {j * tile.lanes});")
        names = ", ".join(f"a{j}_{i} = c{j}" for i in range(pixels))
        lines.append(f"vec {names};")
    return "\n".join(lines)


def close_tile(
    tile: Tile, pixels: int, outputs: int, pitch: int, fused: str, scatter: bool = False,
    parts: int = 1, channel: str = "channel", addend: bool = False,
) -> str:  # fmt: skip
    """Add, clamp and store to `o`, the first output of the tile's first pixel.

    Args:
        tile: the tile.
        pixels: pixels of this tile.
        outputs: output channels of the group; `k` is the tile's first.
        pitch: output elements between pixels.
        fused: activation.
        scatter: output `k + j` belongs to channel `channel[k + j]`; `o` is then the pixel.
        parts: of the input channels; what the last one gives is added to and clamped.
        channel: C pointer to the channels.
        addend: whether there is a residual at `z`, as the outputs at `o`.
    """
    names = [(j, i) for i in range(pixels) for j in range(tile.vectors)]
    lines = _add(tile, pixels, outputs, pitch, scatter, channel) if addend else []
    lines += [text for j, i in names if (text := clamp(f"a{j}_{i}", fused, tile.lanes))]
    if parts > 1 and lines:
        lines = [f"if (part == {parts - 1}) {{", *indent(lines), "}"]
    full = [f"*(vec *)(o + {i * pitch + j * tile.lanes}) = a{j}_{i};" for j, i in names]
    if outputs % tile.outputs == 0 and not scatter:
        return "\n".join([*lines, *full])
    part = [f"*(vec *)(t + {i * tile.outputs + j * tile.lanes}) = a{j}_{i};" for j, i in names]
    if scatter:
        most = f"{outputs} - k" if outputs % tile.outputs else str(tile.outputs)
        return "\n".join([
            *lines,
            f"float t[{pixels * tile.outputs}];",
            *part,
            f"for (int j = 0; j < {tile.outputs} && j < {most}; ++j)",
            f"    for (int i = 0; i < {pixels}; ++i)",
            f"        o[i * {pitch} + {channel}[k + j]] = t[i * {tile.outputs} + j];",
        ])  # fmt: skip
    return "\n".join([
        *lines,
        f"if (k + {tile.outputs} <= {outputs}) {{",
        *indent(full),
        "} else {",
        f"    float t[{pixels * tile.outputs}];",
        *indent(part),
        f"    for (int i = 0; i < {pixels}; ++i)",
        f"        for (int j = 0; j < {outputs} - k; ++j)",
        f"            o[i * {pitch} + j] = t[i * {tile.outputs} + j];",
        "}",
    ])  # fmt: skip


def _add(
    tile: Tile, pixels: int, outputs: int, pitch: int, scatter: bool, channel: str
) -> list[str]:
    """Add the residual at `z` to the accumulators; arguments as those of `close_tile`."""
    names = [(j, i) for i in range(pixels) for j in range(tile.vectors)]
    full = [f"a{j}_{i} += *(const vec *)(z + {i * pitch + j * tile.lanes});" for j, i in names]
    if outputs % tile.outputs == 0 and not scatter:
        return full
    part = [
        f"a{j}_{i} += *(const vec *)(r + {i * tile.outputs + j * tile.lanes});" for j, i in names
    ]
    gathered = [
        f"float r[{pixels * tile.outputs}] = {{0.0f}};",
        f"for (int j = 0; j < {tile.outputs} && j < {outputs} - k; ++j)",
        f"    for (int i = 0; i < {pixels}; ++i)",
        f"        r[i * {tile.outputs} + j] = z[i * {pitch} + "
        + (f"{channel}[k + j]];" if scatter else "j];"),
        *part,
    ]
    if scatter:
        return ["{", *indent(gathered), "}"]
    whole = f"if (k + {tile.outputs} <= {outputs}) {{"
    return [whole, *indent(full), "} else {", *indent(gathered), "}"]


def pixel_loops(
    window: Window,
    tile: Tile,
    accumulate: Callable[[int], str],
    bias: str,
    scattered: int | None = None,
    target: str = "out",
    channel: str = "channel",
) -> str:
    """Tiles along one output row `y`, of the output channels from `k` in group `g`.

    Args:
        window: the convolution.
        tile: the register tile.
        accumulate: C that adds all products of so many pixels; it finds `q`, the input at the
            tile's first window.
        bias: C pointer to the tile's first bias.
        scattered: number of stored outputs, where output j belongs to channel `channel[j]`.
        target: C pointer to the outputs.
        channel: C pointer to the channels of scattered outputs.
    """
    group_in, group_out = window.held // window.groups, window.outputs // window.groups
    stored = group_out if scattered is None else scattered
    first = " + k" if scattered is None else ""
    parts, start = [], 0
    for pixels, count in split(window.out_width, tile.pixels):
        shift_in = f" + g * {group_in}" if window.groups > 1 else ""
        shift_out = f" + g * {group_out}" if window.groups > 1 else ""
        at = f"(y * {window.out_width} + i) * {window.outputs}{shift_out}{first}"
        # in place of the residual the outputs are not alone at `o`
        restrict = "" if window.addend else "restrict "
        body = "\n".join([
            f"const float *restrict const q = x + (y - y0) * {window.stride[0] * window.row}"
            f" + i * {window.pixel}{shift_in};",
            f"float *{restrict}const o = {target} + {at};",
            *([f"const float *const z = {window.addend} + {at};"] if window.addend else []),
            open_tile(tile, pixels, bias, window),
            accumulate(pixels),
            close_tile(
                tile, pixels, stored, window.outputs, window.fused, scattered is not None,
                window.parts, channel, bool(window.addend),
            ),
        ])  # fmt: skip
        stop = start + pixels * count
        parts.append(f"for (int i = {start}; i < {stop}; i += {pixels}) {{")
        parts += [*indent(body.splitlines()), "}"]
        start = stop
    return "\n".join(parts)


def loop_nest(
    window: Window,
    band_rows: int,
    tile: Tile,
    blocks: int,
    weight_bytes: int,
    block: str,
    row: str,
    shares: Shares | None = None,
    before: str = "",
    rows_first: bool | None = None,
) -> str:
    """Bands of rows, parts of channels, groups, blocks of outputs, rows, in the order that suits.

    Args:
        window: the convolution.
        band_rows: output rows per padded band.
        tile: the register tile.
        blocks: tiles of output channels per group, or lists of kept positions.
        weight_bytes: bytes of all weights.
        block: C that prepares block `b` of group `g` and part `part` (sets `k` and what `row`
            needs).
        row: C of one output row `y`.
        shares: of the rows or the blocks, where threads share them.
        before: C that comes first.
        rows_first: whether rows come before blocks, where channels have no parts; decided by
            `takes_rows_first` if None.
    """
    if rows_first is None:
        rows_first = takes_rows_first(window, weight_bytes)
    first, last = range_of(shares, "outputs", blocks)
    top, bottom = range_of(shares, "rows", window.out_height)
    rows_loop = "for (int y = y0; y < y1; ++y) {"
    blocks_loop = f"for (int b = {first}; b < {last}; ++b) {{"
    if rows_first:
        inner = [rows_loop, blocks_loop, block, row, "}", "}"]
    else:
        inner = [blocks_loop, block, rows_loop, row, "}", "}"]
    if window.groups > 1:
        inner = [f"for (int g = 0; g < {window.groups}; ++g) {{", *inner, "}"]
    inner = [window.band_code(), *inner]
    if window.parts > 1:
        inner = [f"for (int part = 0; part < {window.parts}; ++part) {{", *inner, "}"]
    text = [
        before,
        vector_type(tile.lanes, window.fused),
        f"for (int y0 = {top}; y0 < {bottom}; y0 += {band_rows}) {{",
        window.band_end(band_rows, bottom),
        *inner,
        "}",
    ]
    return declared(shares, pretty("\n".join(part for part in text if part)))


def takes_rows_first(window: Window, weight_bytes: int) -> bool:
    """Whether the weights of all blocks stay at hand from row to row."""
    return window.parts == 1 and weight_bytes <= WEIGHTS_AT_HAND_BYTES


def share_tiles(
    window: Window, machine: Machine, macs: int, costs: Sequence[float], weight_bytes: int
) -> Shares | None:
    """How threads share a loop nest whose blocks of outputs cost so much."""
    return share_layer(
        machine,
        max(macs / (2 * machine.vector_floats), weight_bytes / L2_BYTES_PER_CYCLE),
        window.out_height,
        costs if window.groups == 1 else (),
        weight_bytes,
        4 * window.channels * window.height * window.width if window.copied else 0,
    )


def own_rows(window: Window, machine: Machine, shares: Shares | None) -> int:
    """Output rows of a band, of the rows of one share."""
    rows = shares is not None and shares.axis == "rows"
    return window.band_rows(machine, out_height=shares.largest if shares and rows else None)


def indent(lines: Iterable[str]) -> list[str]:
    """Lines one level deeper."""
    return [f"    {line}" for line in lines]


def pretty(code: str) -> str:
    """Indent C by its braces."""
    depth, lines = 0, []
    continued = 0
    for raw in code.splitlines():
        line = raw.strip()
        depth -= line.startswith("}")
        lines.append("    " * (depth + continued) + line)
        depth += line.count("{") - line.count("}") + line.startswith("}")
        opens = line.startswith(("for ", "if ", "else")) and not line.endswith(("{", ";", "}"))
        continued = continued + 1 if opens else 0
    return "\n".join(lines)
