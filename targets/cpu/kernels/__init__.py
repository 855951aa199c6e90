"""CPU kernels: C for each whole operation, rendered for an instruction set. All float32.

Each function here gives a `Kernel`: one static C function that works on a range, single-threaded, allocates nothing and
has no state. Whoever emits a model includes `prelude(isa)` once and then the kernels' sources. The order in which an
element's terms are added depends on the layer alone: never on rows, ranges, threads or neighbours.
"""

from .attention import attention
from .conv import conv, pack_conv
from .linear import linear, pack_linear, panels
from .matmul import matmul, matmul_scratch
from .norm import layer_norm, rms_norm
from .pool import pool
from .prelude import prelude
from .reduce import argmax, argmin, cumsum, group_norm, l2_normalize, masked_mean
from .render import Kernel
from .rows import embedding, softmax
from .table import selectable

__all__ = [
    "Kernel",
    "argmax",
    "argmin",
    "attention",
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
    "panels",
    "pool",
    "prelude",
    "rms_norm",
    "selectable",
    "softmax",
]
