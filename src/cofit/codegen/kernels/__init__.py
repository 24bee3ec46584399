"""Kernel families, in the order in which they are tried."""

from __future__ import annotations

from cofit.codegen.kernel import Kernel
from cofit.codegen.kernels.embedding import Embedding
from cofit.codegen.kernels.f32_block import F32Block
from cofit.codegen.kernels.f32_channel import F32Channel
from cofit.codegen.kernels.f32_conv import F32Conv
from cofit.codegen.kernels.f32_depthwise import F32Depthwise
from cofit.codegen.kernels.f32_elementwise import F32Activation, F32Binary
from cofit.codegen.kernels.f32_layernorm import F32LayerNorm
from cofit.codegen.kernels.f32_matmul import F32Matmul
from cofit.codegen.kernels.f32_pattern import F32Pattern
from cofit.codegen.kernels.f32_planes import F32Planes
from cofit.codegen.kernels.f32_pool import F32Pool
from cofit.codegen.kernels.f32_recurrent import F32Recurrent
from cofit.codegen.kernels.f32_softmax import F32Softmax
from cofit.codegen.kernels.f32_winograd import F32Winograd
from cofit.codegen.kernels.f32_winograd3 import F32Winograd3
from cofit.codegen.kernels.move import Move
from cofit.codegen.kernels.s8_blocks import S8Blocks
from cofit.codegen.kernels.s8_dense import S8Dense
from cofit.codegen.kernels.s8_depthwise import S8Depthwise
from cofit.codegen.kernels.s8_elementwise import S8Activation, S8Binary, S8Concat, S8Sum
from cofit.codegen.kernels.s8_host import S8HostBlock, S8HostDense, S8HostKept
from cofit.codegen.kernels.s8_host_depthwise import S8HostDepthwise
from cofit.codegen.kernels.s8_host_elementwise import (
    S8HostActivation,
    S8HostBinary,
    S8HostConcat,
    S8HostPool,
)
from cofit.codegen.kernels.s8_host_recurrent import S8HostRecurrent
from cofit.codegen.kernels.s8_host_sequences import (
    S8HostLayerNorm,
    S8HostMatmul,
    S8HostSoftmax,
)
from cofit.codegen.kernels.s8_host_winograd import S8HostWinograd
from cofit.codegen.kernels.s8_lifted import S8Lifted
from cofit.codegen.kernels.s8_planes import S8Planes
from cofit.codegen.kernels.s8_pool import S8Pool
from cofit.codegen.kernels.s8_recurrent import S8Recurrent
from cofit.codegen.kernels.s8_sequences import S8LayerNorm, S8Matmul
from cofit.codegen.kernels.s8_softmax import S8Softmax
from cofit.codegen.kernels.s8_sparse import S8Sparse
from cofit.codegen.kernels.s8_unify import S8Unify
from cofit.ir import Graph

F32: tuple[Kernel, ...] = (
    F32Block(), F32Planes(), F32Pattern(), F32Channel(), F32Depthwise(), F32Winograd(),
    F32Conv(), F32Winograd3(),  # the last takes nothing the one before does not: it is for tuning
    F32Binary(), F32Activation(), F32Pool(), F32Softmax(),
    F32Matmul(), F32LayerNorm(), F32Recurrent(), Embedding(), Move(),
)  # fmt: skip
I8: tuple[Kernel, ...] = (
    S8HostDepthwise(), S8Planes(), S8Depthwise(),
    S8HostWinograd(), S8HostBlock(), S8HostKept(), S8Unify(), S8Blocks(), S8Lifted(), S8Sparse(),
    S8HostDense(), S8Dense(),
    S8HostBinary(), S8Sum(), S8Binary(), S8HostActivation(), S8Activation(), S8HostPool(), S8Pool(),
    S8HostSoftmax(), S8Softmax(), S8HostMatmul(), S8Matmul(), S8HostLayerNorm(), S8LayerNorm(),
    S8HostRecurrent(), S8Recurrent(), Embedding(), Move(),
    S8HostConcat(), S8Concat(),
)  # fmt: skip


def kernels_for(graph: Graph) -> tuple[Kernel, ...]:
    """Families for the graph's precision; each decides for itself whether the machine suits it."""
    return I8 if graph.is_integer else F32
