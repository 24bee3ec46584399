"""The first and last step of a program that takes and gives float32 in PyTorch's NCHW order."""

from __future__ import annotations

from dataclasses import replace

from cofit.codegen.c_text import number
from cofit.codegen.kernel import KernelCode
from cofit.codegen.kernels.shares import count_of, declared, range_of, share_rows
from cofit.codegen.layout import logical_order
from cofit.codegen.machine import Machine
from cofit.ir import DType, Tensor

QUANTISE_CYCLES = 3  # of an element
SQUARE = 8  # floats are turned in squares of so many channels and pixels


def needs_conversion(tensor: Tensor) -> bool:
    """Whether float32 NCHW (tokens: int32) differs from how the program holds the tensor."""
    if tensor.dtype is DType.I32:  # tokens
        return False
    return tensor.dtype is not DType.F32 or not logical_order(tensor.shape)


def enter(tensor: Tensor, machine: Machine) -> KernelCode:
    """float32 NCHW in `in0` to the tensor in `out`: q = clamp(rintf(x * (1 / scale)) + zp)."""
    if tensor.quantisation is None:
        return _turn(tensor, machine, into_memory=True)
    scale, zero = _parameters(tensor)
    inverse = number(1 / scale)
    # the clamp comes before the conversion to int: a huge float has no int
    low, high = number(-128 - zero), number(127 - zero)
    value = f"(int8_t)((int)fminf(fmaxf(rintf(in0[i] * {inverse}), {low}), {high}) + {zero})"
    code = _loop(tensor, machine, QUANTISE_CYCLES, into_memory=True, value=value)
    return replace(code, support=("libm.h",), variant="quantise")


def leave(tensor: Tensor, machine: Machine) -> KernelCode:
    """The tensor in `in0` to float32 NCHW in `out`: (q - zp) * scale."""
    if tensor.quantisation is None:
        return _turn(tensor, machine, into_memory=False)
    scale, zero = _parameters(tensor)
    value = f"(float)(in0[i] - {zero}) * {number(scale)}"
    return replace(_loop(tensor, machine, 1, into_memory=False, value=value), variant="dequantise")


def _turn(tensor: Tensor, machine: Machine, into_memory: bool) -> KernelCode:
    """Floats from NCHW to NHWC, or back."""
    variant = "to NHWC" if into_memory else "to NCHW"
    channels, pixels = tensor.shape[1], tensor.shape[2] * tensor.shape[3]
    if channels < SQUARE:
        return replace(_loop(tensor, machine, 1, into_memory, value="in0[i]"), variant=variant)
    rows, columns = (channels, pixels) if into_memory else (pixels, channels)
    body = f"f32_turn(in0, {columns}, {rows}, {columns}, out, {rows});"
    return KernelCode(body, support=("f32_turn.h",), variant=variant)


def _parameters(tensor: Tensor) -> tuple[float, int]:
    assert tensor.quantisation is not None and tensor.dtype is DType.I8
    return tensor.quantisation.scale[0], tensor.quantisation.zero_point


def _loop(
    tensor: Tensor, machine: Machine, cycles: float, into_memory: bool, value: str
) -> KernelCode:
    """Visit all elements; `i` is the position read, the one written follows NHWC order."""
    if logical_order(tensor.shape):
        return KernelCode(f"for (int i = 0; i < {tensor.size}; ++i) out[i] = {value};")
    channels, pixels = tensor.shape[1], tensor.shape[2] * tensor.shape[3]
    nchw, nhwc = f"c * {pixels} + p", f"p * {channels} + c"
    read, written = (nchw, nhwc) if into_memory else (nhwc, nchw)
    # the innermost loop writes neighbours
    outer, inner = (
        (("p", pixels), ("c", channels)) if into_memory else (("c", channels), ("p", pixels))
    )
    shares = share_rows(machine, outer[1], cycles * tensor.size)
    first, last = range_of(shares, "rows", outer[1])
    body = f"""\
for (int {outer[0]} = {first}; {outer[0]} < {last}; ++{outer[0]})
    for (int {inner[0]} = 0; {inner[0]} < {inner[1]}; ++{inner[0]}) {{
        const int i = {read};
        out[{written}] = {value};
    }}"""
    return KernelCode(declared(shares, body), shares=count_of(shares))
