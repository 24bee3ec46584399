"""The integer meaning of a quantised graph: the single source of truth for compiled int8 programs.

real = scale * (q - zero_point). Every formula below is in int32 unless said otherwise, and every
compiled kernel must equal it bit for bit. `R(acc, m)` is `requantise(acc, *quantise_multiplier(m))`
with the graph's rounding; `clamp` is to the int8 range, or to the fused activation's
(relu: from zero_point; relu6: up to zero_point + round(6 / scale) as well); s, z are the scale and
zero point of x (input), y (output), w[k] (weight of output channel k).

================  ================================================================================
conv2d, linear    clamp(R(b[k] + sum (x - zx) * w[k], sx*sw[k]/sy) + zy); padding adds nothing
add               t = 2*max(s1, s2); a = R((x1 - z1) << 20, s1/t); b = R((x2 - z2) << 20, s2/t);
                  clamp(R(a + b, t / (2^20 * sy)) + zy)
mul               clamp(R((x1 - z1) * (x2 - z2), s1*s2/sy) + zy)
concat            each input: as it is if (sx, zx) == (sy, zy), else clamp(R(x - zx, sx/sy) + zy)
maxpool2d         maximum over the window without padding; quantisation of x kept
avgpool2d         sum of q over the window (count_padding: zx where padded), divided by the count
                  and rounded half away from zero; quantisation of x kept
globalmean        clamp(R(sum (x - zx), sx / (sy * H * W)) + zy)
reshape, slice    the same values; quantisation of x kept
pad               zx where padded; quantisation of x kept
activation        table[x + 128], table[i] = clamp(floor(f(sx * (i - 128 - zx)) / sy + 0.5) + zy),
                  computed in float64 here and stored as a constant of the program
matmul            clamp(R(sum (x1 - z1) * (x2 - z2), scale*s1*s2/sy) + zy)
layernorm         the algorithm of `layernorm.py`
gru, lstm         the algorithm of `recurrent.py`: gates Q3.12, states Q0.15
embedding         rows of the stored table; quantisation of the table kept
transpose         the same values; quantisation of x kept
softmax           the fixed-point algorithm of `softmax.py` (Q5.26 / Q0.31 arithmetic of TFLite);
                  output scale 1/256, zero point -128
================  ================================================================================
"""

from cofit.ir.integer.accumulate import conv_sums, matrix_sums
from cofit.ir.integer.conv import conv2d, transpose_conv2d
from cofit.ir.integer.elementwise import (
    AddRequant,
    Pair,
    add,
    lookup,
    maximum,
    minimum,
    mul,
    rescale,
)
from cofit.ir.integer.epilogue import Bounds, Epilogue
from cofit.ir.integer.execute import dequantise_output, quantise_input, run_integer
from cofit.ir.integer.layernorm import NormParameters, layer_norm
from cofit.ir.integer.matmul import batch_matmul, linear
from cofit.ir.integer.parameters import (
    activation_table,
    add_requant,
    affine,
    concat_requant,
    conv_requant,
    kept_quantisation,
    mean_requant,
    mul_requant,
    norm_bound,
    norm_parameters,
    output_bounds,
    product_bound,
    product_requant,
    recurrent_bounds,
    recurrent_parameters,
    softmax_parameters,
    state_requant,
)
from cofit.ir.integer.pool import avg_pool, global_mean, max_pool
from cofit.ir.integer.recurrent import RecurrentParameters, gate_table, recurrent
from cofit.ir.integer.requantise import (
    multiplier_of,
    quantise_multiplier,
    requantise,
    requantise_wide,
)
from cofit.ir.integer.softmax import SoftmaxParameters, exponential_table, softmax
from cofit.ir.integer.svdf import svdf_step

__all__ = [
    "AddRequant",
    "Bounds",
    "Epilogue",
    "NormParameters",
    "Pair",
    "RecurrentParameters",
    "SoftmaxParameters",
    "activation_table",
    "add",
    "add_requant",
    "affine",
    "avg_pool",
    "batch_matmul",
    "concat_requant",
    "conv2d",
    "conv_requant",
    "conv_sums",
    "dequantise_output",
    "exponential_table",
    "gate_table",
    "global_mean",
    "kept_quantisation",
    "layer_norm",
    "linear",
    "lookup",
    "matrix_sums",
    "max_pool",
    "maximum",
    "mean_requant",
    "minimum",
    "mul",
    "mul_requant",
    "multiplier_of",
    "norm_bound",
    "norm_parameters",
    "output_bounds",
    "product_bound",
    "product_requant",
    "quantise_input",
    "quantise_multiplier",
    "recurrent",
    "recurrent_bounds",
    "recurrent_parameters",
    "requantise",
    "requantise_wide",
    "rescale",
    "run_integer",
    "softmax",
    "softmax_parameters",
    "state_requant",
    "svdf_step",
    "transpose_conv2d",
]
