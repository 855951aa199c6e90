"""CPU kernels: C for each whole operation, rendered for an instruction set.

Each function here gives a `Kernel`: one static C function that works on a range, single-threaded, allocates nothing and
has no state. Whoever emits a model includes `prelude(isa)` once and then the kernels' sources. The order in which an
element's terms are added depends on the layer alone: never on rows, ranges, threads or neighbours.

Reduced precision, by the graph's dtypes `bfloat16` and `q8`:

* `supports(isa, precision, n, k)`: why a linear layer has no kernel, or "".
* Storage. bfloat16: 2 bytes an element, strides in elements. q8: `q8_stride(isa, k)` bytes a row: the integers, zero
  values up to `q8_row(isa, k)` bytes, there the row's float scale; strides in bytes, pointers `void *`.
* `linear(..., precision, out)`: the arguments of float32's `linear`, but that a are rows of that precision (lda in bytes
  for q8), w is `pack_linear(isa, weight, precision)` of `packed_bytes(isa, n, k, precision)` bytes, 64-byte aligned (q8:
  the column scales and zero-point corrections lie in the panels), and c is float32 or bfloat16.
* `quantize_rows(isa, width, dtype, smooth)`: `S(x, ldx, z, ldz, rows)`, float32 or bfloat16 to q8; with smooth=True one
  more argument before `rows`, float32 smooth[width], which multiplies every row before its maximum is taken.
* `cast_bf16(isa, width)`: `S(x, ldx, z, ldz, rows)`, float32 to bfloat16.
* `attention(..., dtype, out)`: q, k, v all float32 or all bfloat16 (`supports_attention(isa, dtype, d)`: why not, or "").
* `layer_norm(..., also, keep)` and `rms_norm(..., also, keep)`: with also="q8" or "bfloat16" two more arguments before
  `rows`: `S(x, ldx, res, ldr, w, b, y, ldy, z, ldz, rows)`, where z is y quantized or cast; keep=False: y is not written. With also="q8", smooth=True
  puts smooth[width] before `rows`: z is y * smooth quantized, y itself is not multiplied.
"""

from .attention import attention, supports_attention
from .conv import conv, pack_conv
from .dot import q8_row, q8_stride
from .linear import linear
from .matmul import matmul, matmul_scratch
from .norm import layer_norm, rms_norm
from .pack import pack_linear, pack_panels, packed_bytes, panels, panels_bytes, supports
from .pool import pool
from .prelude import prelude
from .quantize import cast_bf16, quantize_rows
from .recurrence import recurrence
from .reduce import argmax, argmin, argsort, cumsum, group_norm, l2_normalize, masked_mean
from .render import Kernel
from .rows import embedding, softmax
from .table import selectable

__all__ = [
    "Kernel",
    "argmax",
    "argmin",
    "argsort",
    "attention",
    "cast_bf16",
    "conv",
    "cumsum",
    "embedding",
    "group_norm",
    "l2_normalize",
    "layer_norm",
    "linear",
    "masked_mean",
    "matmul",
    "matmul_scratch",
    "pack_conv",
    "pack_linear",
    "pack_panels",
    "packed_bytes",
    "panels",
    "panels_bytes",
    "pool",
    "prelude",
    "q8_row",
    "q8_stride",
    "quantize_rows",
    "recurrence",
    "rms_norm",
    "selectable",
    "softmax",
    "supports",
    "supports_attention",
]
