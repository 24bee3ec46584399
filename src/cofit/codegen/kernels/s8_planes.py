"""int8 depthwise 3x3 convolution over planes of int16: neighbours of a row make pairs for SMLAD."""

from __future__ import annotations

import numpy as np

from cofit.codegen.c_text import array_name
from cofit.codegen.kernel import Constant, KernelCode
from cofit.codegen.kernels.s8_layer import (
    bounds_fields,
    reject_scalar,
    rows_text,
    weight_values,
)
from cofit.codegen.kernels.s8_scaled import own_shifts
from cofit.codegen.kernels.shares import count_of, declared, share_rows
from cofit.codegen.kernels.window import Window, window
from cofit.codegen.machine import Machine
from cofit.ir import Graph, Op, kept_macs
from cofit.ir.integer import affine, output_bounds

SCRATCH_BYTES = 4096  # of both planes, unless three rows need more
_TAPS = (0, 1, 1, 2)  # SXTB16 gives taps 0 and 1, of the rotated word 1 and 2


class S8Planes:
    """Depthwise 3x3, stride 1 or 2 along rows, two channels at a time."""

    name = "s8-planes"

    def reject(self, graph: Graph, op: Op, machine: Machine) -> str | None:
        """Other kernels, odd channels, roundings of their own."""
        reason = reject_scalar(graph, op, machine)
        if reason is not None:
            return reason
        w = window(graph, op)
        if not w.groups == w.channels == w.outputs or w.groups % 2:
            return "it is not depthwise with an even number of channels"
        if w.kernel != (3, 3) or w.dilation != (1, 1) or w.stride[1] > 2:
            return "its kernel is not 3x3 with stride 1 or 2"
        found = own_shifts(graph, op)
        return found if isinstance(found, str) else None

    def emit(self, graph: Graph, op: Op, machine: Machine) -> KernelCode:
        """One call."""
        w, scale = window(graph, op), own_shifts(graph, op)
        assert not isinstance(scale, str)
        multiplier, shift, idle, start = scale
        weight = weight_values(graph, op)[:, 0].copy()
        weight[idle] = 0
        bias = graph.tensors[op.inputs[2]].data
        assert bias is not None
        taps = np.ascontiguousarray(weight[..., _TAPS]).view("<u4")[..., 0].astype(np.uint32)
        rest = np.stack([np.where(idle, start, bias), multiplier, shift], axis=1)
        channels = np.concatenate([taps.view(np.int32), rest.astype(np.int32)], axis=1)
        constant = Constant("channels", channels)
        pitch = -(-w.out_width // 2) * 2 * w.stride[1] + 2
        band = _band_rows(w, pitch)
        plane = _plane(w, pitch, band)
        bounded = output_bounds(graph, op) != (-128, 127)
        # a band reads at most two rows above its outputs, which the planes can hold
        shares = share_rows(machine, w.out_height, kept_macs(graph, op))
        same = w.stride == (1, 1) and (w.height, w.width) == (w.out_height, w.out_width)
        in_place = same and shares is None  # other shares read the rows around their own
        kept = in_place and band < w.out_height
        function = (
            f"s8_planes_{w.stride[1]}{'_kept' if kept else ''}{'_bounded' if bounded else ''}"
        )
        text, own, to = rows_text(w, -affine(graph, op.inputs[0])[1], w.channels, shares)
        return KernelCode(
            declared(shares, "\n".join((
                text,
                "static const s8_planes planes = {"
                f".channel = (const s8_channel *)(const void *){array_name(constant)}, "
                f".band = {band}, .pitch = {pitch}, .plane = {plane}, "
                f"{bounds_fields(graph, op)}}};",
                f"{function}({own}, &planes, in0, {to}, (int16_t *)(void *)scratch);",
            ))),
            (constant,),
            ("s8_planes.h",),
            4 * plane,
            in_place=(0,) if in_place else (),
            variant=f"bands of {band}",
            shares=count_of(shares),
        )  # fmt: skip


def _plane(w: Window, pitch: int, band: int) -> int:
    """Elements of a plane that `band` output rows read."""
    return ((band - 1) * w.stride[0] + 3) * pitch


def _band_rows(w: Window, pitch: int) -> int:
    """Output rows whose two planes fit in scratch, at least one; bands of like size."""
    most = (SCRATCH_BYTES // (4 * pitch) - 3) // w.stride[0] + 1
    bands = -(-w.out_height // max(most, 1))
    return -(-w.out_height // bands)
